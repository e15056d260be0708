"""Taking single members out of a zip archive (a wheel is one) that nobody vouches for.

Nothing is unpacked by name: a member's bytes go into the store under their hash. An archive that
tries to write elsewhere is refused whole all the same: it is not what it says it is.
"""

from __future__ import annotations

import difflib
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from catalog import members
from catalog.errors import IntegrityError, NotFoundError, UnsafeError
from catalog.members import leaves_folder as leaves_folder

_CHUNK_BYTES = 1 << 20
# What zipfile and its decompressors raise over bytes that make no sense.
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


class Archive:
    """A zip file whose list of members was looked over.

    Raises:
        UnsafeError: a member leaves the folder, is a link, stands twice or is encrypted, or all
            of them expand beyond reason; see `catalog.members.check`.
        IntegrityError: it is no zip file.
    """

    def __init__(self, path: Path, label: str) -> None:
        self._label = label
        try:
            self._zip = zipfile.ZipFile(path)
        except (*_BROKEN, NotImplementedError) as error:
            raise IntegrityError(f"{label} is not a zip archive: {error}") from error
        try:
            infos = self._zip.infolist()
            members.check(map(members.Member.of_zip, infos), label, path.stat().st_size)
            self._members = {info.filename: info for info in infos if not info.is_dir()}
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        """The archive itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._zip.close()

    def names(self) -> list[str]:
        """Its files, in the order they are in."""
        return list(self._members)

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
            UnsafeError: it is compressed in an unknown way.
        """
        declared = self.size_bytes(name)
        member = self._members[name]
        where = f"{name} in {self._label}"
        if size_bytes is not None and declared != size_bytes:
            raise IntegrityError(f"{where} has {declared} bytes, expected {size_bytes}")
        try:
            with self._zip.open(member) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    yield chunk
        except NotImplementedError as error:
            raise UnsafeError(f"{where} is compressed in an unknown way: {error}") from error
        except _BROKEN as error:
            raise IntegrityError(f"{where} is damaged: {error}") from error
