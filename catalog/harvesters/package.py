"""A published package read as it lies, a wheel or an unpacked folder; nothing in it is run."""

from __future__ import annotations

import email.parser
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from catalog.errors import IntegrityError, NotFoundError, UnsafeError

MAX_FILE_BYTES = 64_000_000
MAX_FILES = 100_000


@dataclass(frozen=True)
class Package:
    """The files of a package by their names (POSIX, relative), hidden folders included."""

    path: Path
    name: str  # of the distribution
    version: str
    license: str | None  # as its metadata say
    names: tuple[str, ...]  # sorted

    @classmethod
    def open(cls, path: Path) -> Package:
        """The package at ``path``, its metadata read.

        Raises:
            NotFoundError: there is nothing at ``path``.
            IntegrityError: it is no wheel, is cut short, or has no metadata.
            UnsafeError: a name in it leads outside, or it has absurdly many files.
        """
        names = tuple(sorted(_names(path)))
        if len(names) > MAX_FILES:
            raise UnsafeError(f"{path} has {len(names):,} files, more than {MAX_FILES:,}")
        for name in names:
            if name.startswith(("/", "\\")) or ".." in PurePosixPath(name).parts:
                raise UnsafeError(f"{path} has a file that leads outside of it: {name!r}")
        found = [n for n in names if n.endswith(".dist-info/METADATA") and n.count("/") == 1]
        if len(found) != 1:
            raise IntegrityError(f"{path} is no wheel: it has {len(found)} METADATA files")
        metadata = email.parser.Parser().parsestr(_read(path, found[0]))
        return cls(
            path=path,
            name=metadata["Name"],
            version=metadata["Version"],
            license=metadata["License-Expression"] or metadata["License"],
            names=names,
        )

    @property
    def source(self) -> str:
        """How provenance names the package: `timm 1.0.31`."""
        return f"{self.name} {self.version}"

    def matching(self, pattern: str) -> Iterator[str]:
        """Names that match a glob such as ``*/metafile.yml``; ``*`` crosses folders."""
        from fnmatch import fnmatchcase

        return (name for name in self.names if fnmatchcase(name, pattern))

    def text(self, name: str) -> str:
        """A file as UTF-8 text.

        Raises:
            IntegrityError: it is not UTF-8, or its bytes are damaged.
            UnsafeError: it is absurdly large.
        """
        return _read(self.path, name)

    def yaml(self, name: str) -> Any:
        """A file as YAML of plain values.

        Raises:
            IntegrityError: it cannot be read as YAML.
        """
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            return yaml.load(self.text(name), Loader=loader)  # noqa: S506 - a safe loader
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise IntegrityError(f"{name} of {self.path} is no YAML: {error}") from error


def _names(path: Path) -> list[str]:
    if path.is_dir():
        # Path.glob("**") would leave out nothing, but follow links out of the folder.
        return [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
    try:
        with zipfile.ZipFile(path) as archive:
            return [item.filename for item in archive.infolist() if not item.is_dir()]
    except FileNotFoundError:
        raise NotFoundError(f"there is no package at {path}") from None
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise IntegrityError(f"{path} is no wheel: {error}") from error


def _read(path: Path, name: str) -> str:
    try:
        data = _bytes(path, name)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError) as error:
        raise IntegrityError(f"{name} of {path} cannot be read: {error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise UnsafeError(f"{name} of {path} is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{name} of {path} is not UTF-8: {error}") from error


def _bytes(path: Path, name: str) -> bytes:
    if path.is_dir():
        with (path / name).open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
        return stream.read(MAX_FILE_BYTES + 1)
