"""The license gate: what the settings do not allow is refused before a byte is fetched."""

from __future__ import annotations

import re

from catalog.errors import AccessError
from catalog.record import License, ModelRecord
from tlhub.settings import Settings

_PROJECT = "project:"  # before an identifier: the license of the project will do
_UNKNOWN = "unknown"  # where neither the weights nor the project state any

_TOKENS = re.compile(r"[()]|[^\s()]+")


def check(record: ModelRecord, settings: Settings) -> None:
    """Let a model by whose license the settings allow; without such settings, every model.

    What counts is the license stated for the weights. That of the project which publishes them
    is another's word for other files: it counts only where `allow_licenses` names it as
    `project:<identifier>`.

    Raises:
        AccessError: it is not allowed; the message names license, scope and setting.
    """
    refusal = _refusal(record, settings)
    if refusal is not None:
        raise AccessError(
            f"{record.uid} was not fetched: {refusal}",
            hint=f"tlhub show {record.uid} says who stated what; docs/reference/settings.md says "
            "how to allow it",
        )


def verdict(record: ModelRecord, settings: Settings) -> str:
    """`allowed`, or why the settings refuse it."""
    return _refusal(record, settings) or "allowed"


def _refusal(record: ModelRecord, settings: Settings) -> str | None:
    allowed = {item.strip().lower() for item in settings.allow_licenses}
    weights, project = _stated(record)
    if not allowed:
        licenses = [weights] if weights else []
    else:
        own = {item for item in allowed if not item.startswith(_PROJECT)}
        others = {item.removeprefix(_PROJECT) for item in allowed if item.startswith(_PROJECT)}
        licenses = [
            item
            for item, names in ((weights, own), (None if weights else project, others))
            if item is not None and _matches(item, names)
        ]
        silent = _UNKNOWN in allowed and weights is None and project is None
        if not licenses and not silent:
            return f"{_said(weights, project)}, which the setting allow_licenses does not allow"
    if settings.commercial_only and not any(item.commercial == "yes" for item in licenses):
        allows = (weights or project or License(scope="unknown")).commercial
        return (
            f"{_said(weights, project)}, commercial use: {allows}, and the setting "
            "commercial_only asks for a license of the weights that allows it"
        )
    return None


def _stated(record: ModelRecord) -> tuple[License | None, License | None]:
    """The license of the weights, and the one that is stated for anything else."""
    license_ = record.license
    if license_ is not None and license_.scope == "weights":
        return license_, record.project_license
    return None, record.project_license or license_


def _said(weights: License | None, project: License | None) -> str:
    license_ = weights or project
    if license_ is None:
        return "its license is unknown"
    name = license_.spdx or license_.raw or "of no name"
    if weights is not None:
        return f"its license is {name} (scope: weights)"
    return f"no license is stated for its weights, {name} is (scope: {license_.scope})"


def _matches(license_: License, names: set[str]) -> bool:
    """Is it one of these? Of `A OR B` one must be, of `A AND B` both; what cannot be read is none.

    Source: SPDX 3.0.1, annex B: WITH binds closer than AND, AND closer than OR.
    """
    left = _TOKENS.findall((license_.spdx or "").lower())[::-1]
    try:
        return _one_of(left, names) and not left
    except (IndexError, RecursionError):
        return False


def _one_of(left: list[str], names: set[str]) -> bool:
    allowed = _all_of(left, names)
    while left[-1:] == ["or"]:
        left.pop()
        allowed |= _all_of(left, names)
    return allowed


def _all_of(left: list[str], names: set[str]) -> bool:
    allowed = _term(left, names)
    while left[-1:] == ["and"]:
        left.pop()
        allowed &= _term(left, names)
    return allowed


def _term(left: list[str], names: set[str]) -> bool:
    name = left.pop()
    if name == "(":
        allowed = _one_of(left, names)
        return left.pop() == ")" and allowed
    if left[-1:] == ["with"]:
        name = f"{name} {left.pop()} {left.pop()}"
    return name in names
