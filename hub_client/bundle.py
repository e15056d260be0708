"""A bundle: a set of models in one tar file, for machines without a network.

`bundle.json` comes first and says all that follows: the lock file of the set, every file by its
hash, and where the files belong. The files come after it in the order of their hashes, each as
`files/<sha256>`. The same models give the same bytes. Only this layout is read: no links, no other
names, no extended headers.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import msgspec

from catalog.disk import check_space, flush, reading, replacing, writing
from catalog.errors import IntegrityError, NotFoundError, UnsafeError, UsageError
from catalog.record import UNREADABLE
from hub_client.archives import leaves_folder
from hub_client.digests import GitSha1, Hasher
from hub_client.lockfile import Name, Sha256, Size
from hub_client.progress import Progress, silent

SCHEMA_VERSION = 1
_CONTENTS = "bundle.json"
_BLOCK_BYTES = 512
_CHUNK_BYTES = 1 << 20
_MOST_CONTENTS_BYTES = 256 << 20
_FOLDER = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,254}")
_REPO = re.compile(r"[\w][\w.-]{0,95}(/[\w][\w.-]{0,95})?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class BundledFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file."""

    sha256: Sha256
    size_bytes: Size


class HubFile(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One place in the Hugging Face cache, or in that of another hub."""

    hub: str = ""  # as the address of a file names it
    repo: Name
    commit: Name
    path: Name
    etag: Name  # the name of its blob there: its SHA-256, or git's SHA-1
    sha256: Sha256


class HubRef(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What a branch or tag pointed at."""

    hub: str = ""  # as the address of a file names it
    repo: Name
    revision: Name
    commit: Name


class Folder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model folder; of one with original files only its manifest, the rest is linked again."""

    name: Name
    files: Mapping[Name, Sha256]


class Contents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`bundle.json`."""

    version: int
    lock: str  # the text of a lock file of all that is in here
    files: tuple[BundledFile, ...]
    hub_files: tuple[HubFile, ...] = ()
    hub_refs: tuple[HubRef, ...] = ()
    folders: tuple[Folder, ...] = ()
    listings: Mapping[Name, Sha256] = {}  # what a repository holds at a commit, under its name

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)


def pack(
    path: Path,
    contents: Contents,
    sources: Mapping[str, Path],
    *,
    progress: Progress = silent,
) -> str:
    """The SHA-256 of the bundle written to ``path``; ``sources`` are the files by their hash.

    Raises:
        IntegrityError: a file is not what its hash says; nothing was written.
        StorageError: ``path`` cannot be written; what was there before is whole.
    """
    encoded = msgspec.json.format(msgspec.json.encode(contents))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        check_space(path.parent, contents.size_bytes + len(encoded))
    done, total = 0, contents.size_bytes
    with replacing(path) as stream:
        out = _Hashing(stream)
        out.write(_header(_CONTENTS, len(encoded)))
        out.write(encoded)
        out.pad(len(encoded))
        for file in contents.files:
            out.write(_header(f"files/{file.sha256}", file.size_bytes))
            hasher, source = Hasher(), sources[file.sha256]
            with reading(source), source.open("rb") as bytes_in:
                while chunk := bytes_in.read(_CHUNK_BYTES):
                    hasher.update(chunk)
                    out.write(chunk)
                    done += len(chunk)
                    progress(path.name, done, total)
            if hasher.sha256 != file.sha256:
                raise IntegrityError(
                    f"{source} has sha256 {hasher.sha256}, expected {file.sha256}; no bundle was "
                    "written",
                    hint="`tlhub cache verify` mends it",
                )
            out.pad(file.size_bytes)
        out.write(bytes(2 * _BLOCK_BYTES))
        return out.sha256


def unpack(path: Path, stage: Path, *, progress: Progress = silent) -> Contents:
    """What the bundle says; its files are in ``stage`` by their hash, verified and flushed.

    Raises:
        NotFoundError: there is no such file.
        IntegrityError: it is no bundle, cut short, or a byte is not what it should be.
        UnsafeError: it would write outside its place.
        UsageError: a newer tlhub wrote it.
        StorageError: there is no space.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}")
    with reading(path), path.open("rb") as stream:
        contents = _read_contents(stream, path)
        with writing(stage):
            stage.mkdir(parents=True)
            check_space(stage, contents.size_bytes)
        etags = {file.sha256: file.etag for file in contents.hub_files}
        done, total = 0, contents.size_bytes
        for file in contents.files:
            where = f"files/{file.sha256} in {path}"
            if _read_header(stream, path) != (f"files/{file.sha256}", file.size_bytes):
                raise _broken(path, f"where {file.sha256} should be is something else")
            etag = etags.get(file.sha256, "")
            git = GitSha1(etag, file.size_bytes) if _COMMIT.fullmatch(etag) else None
            hasher = Hasher(git=git)
            with writing(stage), (stage / file.sha256).open("xb") as out:
                for chunk in _chunks(stream, file.size_bytes, path):
                    hasher.update(chunk)
                    out.write(chunk)
                    done += len(chunk)
                    progress(path.name, done, total)
                out.flush()
                os.fsync(out.fileno())
            if hasher.sha256 != file.sha256 or not hasher.matches:
                raise IntegrityError(
                    f"{where} has sha256 {hasher.sha256}; nothing was kept",
                    hint="copy the bundle again, or make it again with `tlhub bundle`",
                )
        if _read_header(stream, path) is not None or _goes_on(stream):
            raise _broken(path, "it holds more than it says")
    with writing(stage):
        flush(stage)
    return contents


class _Hashing:
    """A stream that is hashed while it is written."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._hash = stream, hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._stream.write(data)

    def pad(self, size_bytes: int) -> None:
        self.write(bytes(-size_bytes % _BLOCK_BYTES))


def _header(name: str, size_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def _read_header(stream: IO[bytes], path: Path) -> tuple[str, int] | None:
    """Name and size of the next file; None at the end."""
    block = stream.read(_BLOCK_BYTES)
    if block == bytes(_BLOCK_BYTES):
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise _broken(path, str(error)) from error
    if info.type != tarfile.REGTYPE:
        raise UnsafeError(f"{info.name!r} in {path} is no file; nothing was kept")
    return info.name, info.size


def _goes_on(stream: IO[bytes]) -> bool:
    """Whether anything follows but the zeros that end a tar file."""
    while chunk := stream.read(_CHUNK_BYTES):
        if chunk.strip(b"\0"):
            return True
    return False


def _read_contents(stream: IO[bytes], path: Path) -> Contents:
    header = _read_header(stream, path)
    if header is None or header[0] != _CONTENTS or not 0 <= header[1] <= _MOST_CONTENTS_BYTES:
        raise _broken(path, f"it does not begin with {_CONTENTS}")
    raw = b"".join(_chunks(stream, header[1], path))
    try:
        version = msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).get("version")
        if version is not None and int(bytes(version)) > SCHEMA_VERSION:
            raise UsageError(f"{path} was made by a newer tlhub", hint="upgrade tlhub")
        contents = msgspec.json.decode(raw, type=Contents)
    except (*UNREADABLE, ValueError) as error:
        raise _broken(path, f"{_CONTENTS}: {error}") from error
    _check(contents, path)
    return contents


def _check(contents: Contents, path: Path) -> None:
    """Refuse what does not hang together or leads out of its place."""
    hashes = [file.sha256 for file in contents.files]
    if hashes != sorted(set(hashes)):
        raise _broken(path, "its files are not in order")
    used = [file.sha256 for file in contents.hub_files]
    used += [sha256 for folder in contents.folders for sha256 in folder.files.values()]
    used += contents.listings.values()
    if set(used) - set(hashes):
        raise _broken(path, "it names files that it does not hold")
    names = [folder.name for folder in contents.folders]
    if len(names) != len(set(names)):
        raise _broken(path, "a folder stands in it twice")
    for name in names:
        if not _FOLDER.fullmatch(name):
            raise UnsafeError(f"{path} holds {name!r}, which is no name of a model folder")
    for file in contents.hub_files:
        if file.etag != file.sha256 and not _COMMIT.fullmatch(file.etag):
            raise _broken(path, f"{file.etag!r} is no name of {file.path}")
    _refuse_elsewhere(contents, path)


def _refuse_elsewhere(contents: Contents, path: Path) -> None:
    inside = [file.path for file in contents.hub_files]
    inside += [ref.revision for ref in contents.hub_refs]
    inside += [name for folder in contents.folders for name in folder.files]
    inside += contents.listings
    for name in inside:
        if leaves_folder(name):
            raise UnsafeError(f"{path} holds {name!r}, which leads out of its folder")
    places = {(file.repo, file.commit) for file in contents.hub_files}
    places |= {(ref.repo, ref.commit) for ref in contents.hub_refs}
    for repo, commit in places:
        if not _REPO.fullmatch(repo) or not _COMMIT.fullmatch(commit):
            raise UnsafeError(f"{path} holds {repo}@{commit}, which is no repository")


def _chunks(stream: IO[bytes], size_bytes: int, path: Path) -> Iterator[bytes]:
    left = size_bytes
    while left:
        chunk = stream.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise _broken(path, "it is cut short")
        left -= len(chunk)
        yield chunk
    if len(stream.read(-size_bytes % _BLOCK_BYTES)) != -size_bytes % _BLOCK_BYTES:
        raise _broken(path, "it is cut short")


def _broken(path: Path, why: str) -> IntegrityError:
    return IntegrityError(
        f"{path} is no whole bundle of tlhub's: {why}; nothing was kept",
        hint="copy it again, or make it again with `tlhub bundle`",
    )
