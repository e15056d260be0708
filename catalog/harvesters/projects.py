"""The license of the project that lists weights, set beside that of the weights themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import msgspec

from catalog.errors import UsageError
from catalog.harvesters.entries import project_license
from catalog.harvesters.package import Package
from catalog.licenses import license_of, license_of_text
from catalog.record import License, ModelRecord, Provenance

_TEXTS = ("licenses/LICENSE", "LICENSE", "LICENSE.txt")


def of_package(path: Path) -> tuple[License | None, str]:
    """What a wheel is licensed under, and how provenance names the wheel.

    Raises:
        TlhubError: it cannot be read.
    """
    package = Package.open(path)
    return project_license(package), package.source


def of_checkout(path: Path, name: str, url: str) -> tuple[License | None, str]:
    """What the license of a checkout, a file of this name, says, and where it is from.

    Raises:
        UsageError: the checkout has no such file.
    """
    if not (path / name).is_file():
        raise UsageError(f"the checkout of {url} at {path} has no {name}")
    text = (path / name).read_text("utf-8", errors="replace")
    return license_of(license_of_text(text), "project"), url


def of_installed(name: str) -> tuple[License | None, str]:
    """What an installed distribution says of itself, and how provenance names it."""
    found = distribution(name)
    texts = (found.read_text(path) for path in _TEXTS)
    spdx = next((s for text in texts if text and (s := license_of_text(text))), None)
    said = found.metadata["License-Expression"] or spdx or found.metadata["License"]
    return license_of(said, "project"), f"{name} {found.version.partition('+')[0]}"


def stamped(
    records: Iterable[ModelRecord], project: License | None, source: str
) -> Iterator[ModelRecord]:
    """The records with their ``project_license``; one that a record itself has found stands."""
    for record in records:
        if record.project_license is not None:
            yield record
        elif record.license is not None and record.license.scope == "project":
            yield msgspec.structs.replace(record, project_license=record.license)
        elif project is not None:
            said = Provenance(fields=("project_license",), source=source)
            yield msgspec.structs.replace(
                record, project_license=project, provenance=(*record.provenance, said)
            )
        else:
            yield record
