"""Images in zip and tar files, read where they are: nothing is unpacked.

An archive is looked over first (`catalog.members.check`): one whose members leave it, are links,
or would expand beyond reason is refused whole.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO

from catalog import members
from catalog.errors import DataError, UnsafeError
from finetuning.data.dataset import MAX_FILE_BYTES, Skipped, printable
from finetuning.data.files import Content, Files, hidden, ordered

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ENDINGS = (".zip", *TARS)

_MOST_MEMBERS = 5_000_000
_HEADER_BYTES = 16 << 20
_HELD_BYTES = 2 << 30  # of a compressed tar, which cannot be read from the middle
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError)


@dataclass(frozen=True)
class Slice:
    """A member of an archive: so many bytes from an offset on, as they are or deflated."""

    archive: Path
    name: str
    offset: int  # of the bytes; in a zip file, of the header before them
    stored_bytes: int
    size_bytes: int
    zipped: bool = False
    deflated: bool = False
    crc: int | None = None

    def read(self) -> bytes:
        """The member's bytes.

        Raises:
            DataError: the archive is gone, or the member is damaged or larger than an image is.
        """
        where = f"{printable(self.name)} in {self.archive}"
        if self.size_bytes > MAX_FILE_BYTES:
            raise DataError(f"{where} has over {MAX_FILE_BYTES:,} bytes")
        try:
            with self.archive.open("rb") as stream:
                stream.seek(self._start(stream))
                data = stream.read(self.stored_bytes)
            if self.deflated:
                data = zlib.decompressobj(-15).decompress(data, self.size_bytes + 1)
        except (OSError, zlib.error, struct.error) as error:
            raise DataError(f"{where} cannot be read: {error}") from error
        if len(data) != self.size_bytes or self.crc not in {None, zlib.crc32(data)}:
            raise DataError(f"{where} is damaged", hint="make or fetch the archive again")
        return data

    def _start(self, stream: IO[bytes]) -> int:
        if not self.zipped:
            return self.offset
        stream.seek(self.offset)
        _, name, extra = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
        return int(self.offset + _LOCAL_HEADER.size + name + extra)


@dataclass(frozen=True)
class Held:
    """A member of a compressed tar, in memory."""

    data: bytes = field(repr=False)

    def read(self) -> bytes:
        """The member's bytes."""
        return self.data


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name."""
    return path.name.lower().endswith(ENDINGS)


def files_of(path: Path) -> Files:
    """The members of an archive.

    Raises:
        UnsafeError: it is not one that can be meant well.
        DataError: it is damaged, or a compressed tar of more than memory should hold.
    """
    with _opening(path):
        read = _zip if path.suffix.lower() == ".zip" else _tar
        found, folders = read(path)
    skipped = {
        top: Skipped(printable(top), "hidden") for name in found if (top := _hidden_part(name))
    }
    seen = {name: content for name, content in found.items() if not _hidden_part(name)}
    return Files(path, ordered(seen), frozenset(folders), tuple(skipped.values()))


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        raise DataError(f"{path} cannot be read: {said}", hint="is it complete?") from error
    except (*_BROKEN, NotImplementedError) as error:
        raise DataError(f"{path} is damaged: {error}", hint="make or fetch it again") from error


def _zip(path: Path) -> tuple[dict[str, Content], set[str]]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    looked = map(members.Member.of_zip, infos)
    members.check(looked, str(path), path.stat().st_size, _MOST_MEMBERS)
    found: dict[str, Content] = {}
    for info in infos:
        if info.is_dir():
            continue
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise DataError(
                f"{path} is compressed in a way that is not read ({info.filename!r})",
                hint="zip it again with `zip -r`, or unpack it",
            )
        found[info.filename] = Slice(
            path,
            info.filename,
            info.header_offset,
            info.compress_size,
            info.file_size,
            zipped=True,
            deflated=info.compress_type == zipfile.ZIP_DEFLATED,
            crc=info.CRC,
        )
    return found, {info.filename.rstrip("/") for info in infos if info.is_dir()}


def _tar(path: Path) -> tuple[dict[str, Content], set[str]]:
    if path.name.lower().endswith(".tar"):
        with tarfile.open(path, "r:") as archive:
            infos = list(_members(archive, path))
        content = {
            _clean(info): Slice(path, info.name, info.offset_data, info.size, info.size)
            for info in infos
            if info.isfile()
        }
        return dict(content), {_clean(info) for info in infos if info.isdir() and info.name != "."}
    return _compressed_tar(path)


def _compressed_tar(path: Path) -> tuple[dict[str, Content], set[str]]:
    found: dict[str, Content] = {}
    folders: set[str] = set()
    held = 0
    with _Bounded(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for info in _members(archive, path):
            stream.left = info.size + _HEADER_BYTES
            if info.isdir():
                folders |= {_clean(info)} - {"."}
                continue
            held += info.size
            if held > _HELD_BYTES:
                raise DataError(
                    f"{path} holds over {_HELD_BYTES:,} bytes, and a compressed tar cannot be read "
                    "from the middle",
                    hint="unpack it, or make a .zip or an uncompressed .tar of it",
                )
            member = archive.extractfile(info)
            found[_clean(info)] = Held(member.read() if member else b"")
    return found, folders


class _Bounded(io.RawIOBase):
    """The tar in a compressed file, of which each member's header has a limit.

    The attributes in front of a member can claim any size, and `tarfile` reads them as a whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        packed_by = {".bz2": bz2, ".tbz2": bz2, ".xz": lzma, ".txz": lzma}
        module: ModuleType = packed_by.get(path.suffix.lower(), gzip)
        self._stream: IO[bytes] = module.open(path, "rb")
        self.left = _HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise UnsafeError(f"{self._path} holds a member with attributes beyond reason")
        return data

    def close(self) -> None:
        self._stream.close()
        super().close()


def _members(archive: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """The members, each looked at before the next is read: a bomb is not gone through."""
    packed = path.stat().st_size
    limit = members.FREE_BYTES + members.MOST_RATIO * packed
    total = 0
    seen = []
    for info in archive:
        total += max(info.size, 0) + tarfile.BLOCKSIZE
        if total > limit:
            raise UnsafeError(f"{path} would expand from {packed} to over {total} bytes")
        members.check([members.Member.of_tar(info)], str(path), packed)
        seen.append(members.Member.of_tar(info))
        yield info
    members.check(seen, str(path), packed, _MOST_MEMBERS)


def _clean(info: tarfile.TarInfo) -> str:
    return info.name.removeprefix("./")


def _hidden_part(name: str) -> str | None:
    """The part of a name, with what is above it, that is hidden."""
    parts = name.split("/")
    for n in range(1, len(parts) + 1):
        if hidden("/".join(parts[:n])):
            return "/".join(parts[:n])
    return None
