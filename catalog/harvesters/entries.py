"""One record out of an entry of a package, with who said what; a broken entry is skipped."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from catalog.errors import TlhubError
from catalog.harvesters.package import Package
from catalog.licenses import license_of, license_of_text
from catalog.record import License, ModelRecord, Provenance, decode, encode

log = logging.getLogger(__name__)

Entry = TypeVar("Entry")
_BROKEN = (TlhubError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_UNKNOWN: tuple[Any, ...] = (None, "", ())


@dataclass(frozen=True)
class Facts:
    """Fields of a record and where they were found; unknown values are left out."""

    source: str
    path: str | None
    fields: Mapping[str, Any]
    derived: bool = False


def record(uid: str, *facts: Facts) -> ModelRecord:
    """The record of ``facts``; of a field that several give the first stands.

    Raises:
        UsageError: a value is not what the field takes.
    """
    values: dict[str, Any] = {}
    provenance = []
    for part in facts:
        new = {
            name: value
            for name, value in part.fields.items()
            if value not in _UNKNOWN and name not in values
        }
        values |= new
        if new:
            provenance.append(
                Provenance(
                    fields=tuple(new), source=part.source, path=part.path, derived=part.derived
                )
            )
    return decode(encode(ModelRecord(uid=uid, provenance=tuple(provenance), **values)))


def each(
    entries: Iterable[tuple[str, Entry]], make: Callable[[Entry], ModelRecord | None], package: str
) -> Iterator[ModelRecord]:
    """What ``make`` gives for each named entry; one that cannot be understood is logged."""
    for name, entry in entries:
        try:
            found = make(entry)
        except _BROKEN as error:
            log.warning("%s: %s is left out: %s", package, name, error)
            continue
        if found is not None:
            yield found


def project_license(package: Package) -> License | None:
    """What the package is licensed under, from its metadata or the text of its LICENSE file."""
    said = license_of(package.license, "project")
    if said is not None and not (said.spdx or "LicenseRef").startswith("LicenseRef"):
        return said
    for name in package.matching("*.dist-info/*LICENSE*"):
        try:
            text = package.text(name)
        except TlhubError as error:
            log.warning("%s: %s", package.source, error)
            continue
        if found := license_of(license_of_text(text), "project"):
            return found
    return said


def arxiv_ids(text: str | None) -> tuple[str, ...]:
    """The arXiv identifiers of the links in ``text``, in order, each once."""
    found = re.findall(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})", text or "")
    return tuple(dict.fromkeys(found))
