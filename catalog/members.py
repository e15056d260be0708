"""The members of an archive that nobody vouches for, looked over before one is read.

Here since both ends need it: `hub_client` takes files out of wheels and bundles, `converters`
reads checkpoints that are zip or tar files themselves.
"""

from __future__ import annotations

import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from catalog.errors import UnsafeError

MOST_MEMBERS = 100_000
FREE_BYTES = 100 << 20  # up to here any ratio is taken
MOST_RATIO = 100

Kind = Literal["file", "folder", "link", "device"]


@dataclass(frozen=True)
class Member:
    """What an archive says of one of its members."""

    name: str
    kind: Kind
    size_bytes: int
    encrypted: bool = False

    @classmethod
    def of_zip(cls, info: zipfile.ZipInfo) -> Member:
        """A member of a zip file."""
        mode = info.external_attr >> 16
        kind: Kind = "folder" if info.is_dir() else "file"
        if stat.S_ISLNK(mode):
            kind = "link"
        elif stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
            kind = "device"
        # Python cuts a name at a zero byte, other readers do not.
        return cls(info.orig_filename, kind, info.file_size, bool(info.flag_bits & 0x1))

    @classmethod
    def of_tar(cls, info: tarfile.TarInfo) -> Member:
        """A member of a tar file; a sparse one counts as a device: it claims what is not there."""
        if info.issym() or info.islnk():
            return cls(info.name, "link", 0)
        if info.isdir():
            return cls(info.name, "folder", 0)
        plain = info.isfile() and not info.issparse()
        return cls(info.name, "file" if plain else "device", info.size)


def check(
    members: Iterable[Member], label: str, archive_bytes: int, most: int = MOST_MEMBERS
) -> None:
    """Look an archive over; ``archive_bytes`` is the size of the archive file itself.

    Of members it has ``most`` at most.

    Raises:
        UnsafeError: a member leaves the folder, is a link, a device or encrypted, stands twice
            (also in another spelling that some file systems take for the same), or there are more
            members or bytes than the archive can be meant to hold.
    """
    seen: dict[str, Member] = {}
    total = 0
    for member in members:
        if len(seen) >= most:
            raise UnsafeError(f"{label} has over {most} members")
        fault = _fault(member)
        if fault is not None:
            raise UnsafeError(f"{label} holds {member.name!r}, which {fault}")
        key = _folded(member.name)
        other = seen.get(key)
        if other is not None and not member.kind == other.kind == "folder":
            spelled = "" if other.name == member.name else f", the other time as {other.name!r}"
            raise UnsafeError(f"{label} holds {member.name!r} twice{spelled}")
        seen[key] = member
        total += member.size_bytes
    if total > FREE_BYTES + MOST_RATIO * archive_bytes:
        raise UnsafeError(f"{label} would expand from {archive_bytes} to {total} bytes")
    for key, member in seen.items():
        for parent in PurePosixPath(key).parents:
            above = seen.get(str(parent))
            if above is not None and above.kind == "file":
                raise UnsafeError(
                    f"{label} holds {above.name!r} as a file and as the folder of {member.name!r}"
                )


def leaves_folder(name: str) -> bool:
    """Whether a relative path, as archives and hubs name files, could lead out of its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    drive = len(name) > 1 and name[1] == ":"
    return not name or path.is_absolute() or ".." in path.parts or drive or "\0" in name


def _fault(member: Member) -> str | None:
    if leaves_folder(member.name):
        return "lies outside its folder"
    if member.kind == "link":
        return "is a link"
    if member.kind == "device":
        return "is no plain file"
    if member.size_bytes < 0:
        return f"claims {member.size_bytes} bytes"
    if member.encrypted:
        return "is encrypted"
    return None


def _folded(name: str) -> str:
    """The name as a file system sees it that knows no case and one form of each character."""
    plain = unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()
    return str(PurePosixPath(plain))
