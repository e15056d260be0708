"""A published package read as it lies, a wheel or an unpacked folder; nothing in it is run."""

from __future__ import annotations

import csv
import email.parser
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.errors import IntegrityError, NotFoundError, UnsafeError
from catalog.harvesters.yamls import load
from catalog.licenses import license_of_text

MAX_FILE_BYTES = 64_000_000
MAX_FILES = 100_000
MAX_PACKAGE_BYTES = 4_000_000_000  # unpacked


# What zipfile raises for damaged, encrypted or unusually packed members.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError),
    *(NotImplementedError, RuntimeError, ValueError),
)
_NAME = re.compile(r"[A-Za-z0-9][\w.+!-]{0,100}")


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
            UnsafeError: a name in it leads outside, or it has absurdly many files or bytes.
        """
        names = _safe_names(path)
        found = [n for n in names if n.endswith(".dist-info/METADATA") and n.count("/") == 1]
        if len(found) != 1:
            raise IntegrityError(f"{path} is no wheel: it has {len(found)} METADATA files")
        metadata = email.parser.Parser().parsestr(_read(path, found[0]))
        name, version = metadata["Name"], metadata["Version"]
        if not _NAME.fullmatch(name or "") or not _NAME.fullmatch(version or ""):
            raise IntegrityError(f"{path} is no wheel: it says it is {name!r} {version!r}")
        return cls(
            path=path,
            name=name,
            version=version,
            license=metadata["License-Expression"] or metadata["License"],
            names=names,
        )

    @classmethod
    def checkout(cls, path: Path, repository: str) -> Package:
        """The files at ``path`` of a repository (`owner/name`), its license that of its LICENSE.

        Raises:
            NotFoundError: there is no folder at ``path``.
            IntegrityError: the LICENSE is damaged.
            UnsafeError: it has absurdly many files.
        """
        if not path.is_dir():
            raise NotFoundError(f"there is no checkout of {repository} at {path}")
        names = _safe_names(path)
        text = next((_read(path, name) for name in ("LICENSE", "LICENSE.md") if name in names), "")
        return cls(
            path=path, name=repository, version="", license=license_of_text(text), names=names
        )

    @property
    def source(self) -> str:
        """How provenance names the package: `timm 1.0.31`, or `owner/name` of a checkout."""
        return f"{self.name} {self.version}".rstrip()

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

    def json(self, name: str) -> Any:
        """A file as JSON.

        Raises:
            IntegrityError: it cannot be read as JSON.
        """
        try:
            return json.loads(self.text(name))
        except (ValueError, RecursionError) as error:
            raise IntegrityError(f"{name} of {self.path} is no JSON: {error}") from error

    def rows(self, name: str) -> list[dict[str, str]]:
        """The rows of a table in CSV by the names of its columns.

        Raises:
            IntegrityError: it cannot be read as CSV.
        """
        try:
            return list(csv.DictReader(io.StringIO(self.text(name)), strict=True))
        except csv.Error as error:
            raise IntegrityError(f"{name} of {self.path} is no CSV: {error}") from error

    def yaml(self, name: str) -> Any:
        """A file as YAML of plain values.

        Raises:
            IntegrityError: it cannot be read as YAML.
            UnsafeError: it stands for absurdly many values.
        """
        return load(self.text(name), f"{name} of {self.path}")


def _safe_names(path: Path) -> tuple[str, ...]:
    names = tuple(sorted(_names(path)))
    if len(names) > MAX_FILES:
        raise UnsafeError(f"{path} has {len(names):,} files, more than {MAX_FILES:,}")
    for name in names:
        if name.startswith(("/", "\\")) or ".." in PurePosixPath(name).parts:
            raise UnsafeError(f"{path} has a file that leads outside of it: {name!r}")
    return names


def _names(path: Path) -> list[str]:
    if path.is_dir():
        # Path.glob("**") would leave out nothing, but follow links out of the folder.
        plain = (p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
        return [p.relative_to(path).as_posix() for p in plain]
    try:
        with zipfile.ZipFile(path) as archive:
            files = [item for item in archive.infolist() if not item.is_dir()]
            if sum(item.file_size for item in files) > MAX_PACKAGE_BYTES:
                raise UnsafeError(f"{path} unpacks to more than {MAX_PACKAGE_BYTES:,} bytes")
            return [item.filename for item in files]
    except FileNotFoundError:
        raise NotFoundError(f"there is no package at {path}") from None
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise IntegrityError(f"{path} is no wheel: {error}") from error


def _read(path: Path, name: str) -> str:
    try:
        data = _bytes(path, name)
    except _DAMAGE as error:
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
