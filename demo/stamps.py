"""Real labelled photos: the stamps of Tux Paint as Debian has them (GPL-2: fetched, not shipped).

A `.deb` is an `ar` archive with a tar inside; both are read here, so neither root nor dpkg is
needed. Cartoons and mirrored or flipped twins are left out: the photos of seven classes remain.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

PACKAGE = "tuxpaint-stamps-default"
# The archive of all Debian releases serves a file by its SHA-1; the SHA-256 is what we check.
PINNED_URL = "https://snapshot.debian.org/file/86ff15e81cc37ba8d1ea628a17d4a111d6140a42"
PINNED_SHA256 = "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"
CLASSES = ("animals", "food", "household", "plants", "seasonal", "town", "vehicles")
_INSIDE = PurePosixPath("usr/share/tuxpaint/stamps")


def provide(folder: Path, *, url: str = PINNED_URL, sha256: str = PINNED_SHA256) -> Path:
    """The photos in ``folder``, one folder a class; fetched and unpacked where not there yet."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".stamps-") as name:
        work = Path(name)
        package = from_apt(work) or from_url(url, sha256, work / "stamps.deb")
        unpack(package, work / "photos")
        (work / "photos").rename(folder)
    return folder


def from_apt(folder: Path) -> Path | None:
    """The package as this machine's apt has it; None where there is no apt or it has none."""
    if shutil.which("apt-get") is None:
        return None
    commands = [["apt-get", "download", "-qq", PACKAGE]]
    if os.geteuid() == 0:  # a fresh machine has no lists yet
        commands += [["apt-get", "update", "-qq"], commands[0]]
    for command in commands:
        subprocess.run(command, cwd=folder, check=False, capture_output=True)
        found = next(folder.glob(f"{PACKAGE}_*.deb"), None)
        if found is not None and data_member(found) is not None:
            return found
    return None


def from_url(url: str, sha256: str, file: Path) -> Path:
    """The pinned package, its SHA-256 checked."""
    with urllib.request.urlopen(url, timeout=60) as answer, file.open("wb") as out:
        shutil.copyfileobj(answer, out, 1 << 20)
    with file.open("rb") as stream:
        seen = hashlib.file_digest(stream, "sha256").hexdigest()
    if seen != sha256:
        raise SystemExit(f"{url} has sha256 {seen}, expected {sha256}: not used")
    return file


def unpack(package: Path, folder: Path) -> None:
    """Write every photo of the package as ``folder/class/path-of-the-stamp.png``."""
    member = data_member(package)
    if member is None:
        raise SystemExit(f"{package} has no data.tar in a compression that Python reads")
    with tarfile.open(fileobj=member, mode="r:*") as archive:
        for entry in archive:
            path = PurePosixPath(entry.name)
            if not entry.isfile() or not path.is_relative_to(_INSIDE):
                continue
            inside = path.relative_to(_INSIDE)
            stream = archive.extractfile(entry)
            if is_photo(inside) and stream is not None:
                target = folder / inside.parts[0] / "_".join(inside.parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(stream.read())


def is_photo(path: PurePosixPath) -> bool:
    """Whether a stamp is a photo of one of the classes and no mirrored or flipped twin."""
    return (
        path.suffix == ".png"
        and path.parts[0] in CLASSES
        and "cartoon" not in str(path)
        and not any(word in path.name for word in ("mirror", "flip"))
    )


def data_member(package: Path) -> IO[bytes] | None:
    """The `data.tar` of a `.deb` where its compression is one of the standard library's."""
    with package.open("rb") as stream:
        for name, size in members(stream):
            if name.startswith("data.tar"):
                if name.endswith((".tar", ".xz", ".gz", ".bz2")):
                    return io.BytesIO(stream.read(size))
                return None
    return None


def members(stream: IO[bytes]) -> Iterator[tuple[str, int]]:
    """Name and size of each member of an `ar` archive, the stream at its first byte."""
    if stream.read(8) != b"!<arch>\n":
        raise SystemExit("not a Debian package: no `ar` signature")
    while header := stream.read(60):
        size = int(header[48:58])
        after = stream.tell() + size + size % 2
        yield header[:16].decode("ascii").rstrip(" /"), size
        stream.seek(after)
