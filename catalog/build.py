"""Builds the snapshot that ships: harvest, merge, validate, write.

`data/sources.json` lists what it is built from, package versions and digests of files; the same
inputs give the same records. To build it again::

    python -m catalog.build --file timm.results=results-imagenet.csv OUT.jsonl.xz
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from catalog import snapshot
from catalog.errors import IntegrityError, UsageError
from catalog.harvesters.registry import harvester
from catalog.identity import merge
from catalog.record import ModelRecord

log = logging.getLogger(__name__)

SOURCES = Path(__file__).with_name("data") / "sources.json"


class SourceFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that a harvester reads: its argument, where it is public, and its SHA-256."""

    argument: str
    url: str
    sha256: str


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

    ``files`` has a local path for each file of the sources, by ``harvester.argument``; ``counts``
    keeps what takes long to count (see `catalog.harvesters.counting`) between builds.

    Raises:
        UsageError: a file is missing, or a package has another version than listed.
        IntegrityError: a file is not the one listed.
    """
    records = merge(_harvest(sources, files, counts))
    snapshot.write(records, out)
    return len(records)


def _harvest(
    sources: Sequence[Source], files: Mapping[str, Path], counts: Path | None
) -> Iterator[ModelRecord]:
    for source in sources:
        _check_packages(source)
        arguments = {
            file.argument: _checked(file, f"{source.harvester}.{file.argument}", files)
            for file in source.files
        }
        if source.harvester == "timm" and counts is not None:
            arguments["counts"] = counts
        found = list(harvester(source.harvester)(**arguments))
        log.info("%s: %d records", source.harvester, len(found))
        yield from found


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


def _checked(file: SourceFile, name: str, files: Mapping[str, Path]) -> Path:
    if name not in files:
        raise UsageError(f"the file {name} is needed", hint=f"it is at {file.url}")
    seen = hashlib.sha256(files[name].read_bytes()).hexdigest()
    if seen != file.sha256:
        raise IntegrityError(
            f"{files[name]} has sha256 {seen}, {name} is listed with {file.sha256}"
        )
    return files[name]


def main() -> None:
    """Build a snapshot from the command line."""
    parser = argparse.ArgumentParser(prog="python -m catalog.build", description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--file", action="append", default=[], metavar="HARVESTER.ARGUMENT=PATH")
    parser.add_argument("--counts", type=Path, help="keeps counts between builds")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pairs = [item.partition("=") for item in options.file]
    total = build(
        read_sources(),
        options.out,
        files={name: Path(path) for name, _, path in pairs},
        counts=options.counts,
    )
    log.info("%s: %d records", options.out, total)


if __name__ == "__main__":
    main()
