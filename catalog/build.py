"""Builds the snapshot that ships: harvest, merge, validate, write.

`data/sources.json` lists what it is built from, package versions and digests of files; the same
inputs give the same records. `tlhub catalog build` fetches them and runs this.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from catalog import snapshot
from catalog.counted import with_count
from catalog.errors import TlhubError, UsageError
from catalog.harvesters import projects
from catalog.harvesters.registry import harvester
from catalog.identity import merge, with_params_of_base
from catalog.record import License, ModelRecord
from catalog.slips import without_slips
from catalog.spelling import unify

log = logging.getLogger(__name__)

SOURCES = Path(__file__).with_name("data") / "sources.json"


class SourceFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a harvester reads: its argument, where it is public, and its SHA-256.

    The URL is `pypi:name==version` for a wheel, or `https://…`. With ``patterns`` it is a checkout
    of which the matching files are read; the digest is that of their `listing`.
    """

    argument: str
    url: str
    sha256: str
    patterns: tuple[str, ...] = ()


def listing(folder: Path, patterns: Sequence[str]) -> str:
    """The SHA-256 in hex of the names and SHA-256s of the matching files, a line each."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted({path for pattern in patterns for path in folder.glob(pattern)})
        if path.is_file()
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A harvester and what it reads. Where two have the same weights the first stands."""

    harvester: str
    packages: dict[str, str] = {}  # name -> version that must be installed
    files: tuple[SourceFile, ...] = ()


def read_sources(path: Path = SOURCES) -> tuple[Source, ...]:
    """The committed list of inputs.

    Raises:
        UsageError: it is not such a list; the message names the field.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Source, ...])
    except msgspec.DecodeError as error:
        raise UsageError(f"{path} is not a list of sources: {error}") from error


def build(
    sources: Sequence[Source],
    out: Path,
    *,
    files: Mapping[str, Path],
    counts: Path | None = None,
) -> int:
    """Write the snapshot at ``out`` and return the number of its records.

    ``files`` has a local path for each file of the sources, by its verified SHA-256; ``counts``
    keeps what takes long to count (see `catalog.harvesters.counting`) between builds. A source
    that cannot be read is reported and left out.

    Raises:
        UsageError: a file is missing, or a package has another version than listed.
    """
    merged = merge(unify(_harvest(sources, files, counts)))
    records = with_params_of_base(with_count(without_slips(record)) for record in merged)
    snapshot.write(records, out)
    return len(records)


def _harvest(
    sources: Sequence[Source], files: Mapping[str, Path], counts: Path | None
) -> Iterator[ModelRecord]:
    for source in sources:
        _check_packages(source)
        arguments = {file.argument: _path(file, files) for file in source.files}
        if source.harvester == "timm" and counts is not None:
            arguments["counts"] = counts
        try:
            records = harvester(source.harvester)(**arguments)
            found = list(projects.stamped(records, *_project(source, arguments)))
        except TlhubError as error:
            log.warning("%s is left out: %s", source.harvester, error)
            continue
        except Exception:  # whatever a package does to a harvester, the other sources go on
            log.exception("%s is left out", source.harvester)
            continue
        log.info("%s: %d records", source.harvester, len(found))
        yield from found


def _project(source: Source, arguments: Mapping[str, Path]) -> tuple[License | None, str]:
    """The license of the package or the checkout that a source reads first, and its name."""
    for file in source.files:
        if file.url.startswith("pypi:"):
            return projects.of_package(arguments[file.argument])
        for name in ("LICENSE", "LICENSE.md"):
            if name in file.patterns:
                return projects.of_checkout(arguments[file.argument], name, file.url)
    if source.harvester in source.packages:
        return projects.of_installed(source.harvester)
    return None, ""


def _check_packages(source: Source) -> None:
    for name, wanted in source.packages.items():
        try:
            have = version(name)
        except PackageNotFoundError:
            have = "none"
        if have.partition("+")[0] != wanted:
            raise UsageError(
                f"{source.harvester} is listed with {name} {wanted}, installed is {have}",
                hint=f"pip install {name}=={wanted}",
            )


def _path(file: SourceFile, files: Mapping[str, Path]) -> Path:
    if file.sha256 not in files:
        raise UsageError(f"{file.url} (sha256 {file.sha256}) is needed")
    return files[file.sha256]
