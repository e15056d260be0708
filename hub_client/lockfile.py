"""`tlhub.lock`: a set of models down to the byte, in TOML that people can compare line by line.

The same set gives the same file: models by uid, files by path, nothing of the day or the machine.
A store remembers which lock files there are, so that nothing they name is pruned.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from catalog.disk import reading, replacing, writing
from catalog.errors import NotFoundError, StorageError, UsageError
from catalog.record import Artifact, Digest
from hub_client.archives import leaves_folder
from hub_client.network import split_credentials

LOCK = "tlhub.lock"
SCHEMA_VERSION = 1
_MOST_BYTES = 64 << 20
_MOST_NAME = 255  # bytes of a name, on every file system in use
_HEADER = "# Written by `tlhub lock`; `tlhub pull --locked` reproduces it.\n\n"

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]+$")]
Url = Annotated[str, Meta(min_length=1, max_length=8192, pattern=r"^[^\x00-\x1f\x7f]+$")]
Size = Annotated[int, Meta(ge=0, le=1 << 50)]


class LockedFile(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One file as its publisher has it, and every place of these bytes."""

    path: Name
    size_bytes: Size
    sha256: Sha256
    format: Name
    urls: Annotated[tuple[Url, ...], Meta(max_length=64)] = ()

    def artifact(self) -> Artifact:
        """What `hub_client.fetch` brings: these bytes or an error."""
        digest = Digest(algorithm="sha256", value=self.sha256)
        return Artifact(
            path=self.path,
            format=self.format,
            urls=self.urls,
            size_bytes=self.size_bytes or None,
            digest=digest,
        )


class LockedOnnx(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The graph that was made of the files, and the versions that made it."""

    sha256: Sha256
    size_bytes: Size
    tools: Mapping[Name, Name]


class LockedModel(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One model: its files, and what was made of them where it was made."""

    uid: Name
    source: Name  # `hf:owner/name`, `pypi:name`, `https://host`
    revision: Name | None = None  # a commit, or the version of a package
    asked: Name | None = None  # the branch, tag or commit that was named, where one was
    format: Literal["onnx", "original"] = "onnx"
    file: Annotated[tuple[LockedFile, ...], Meta(min_length=1, max_length=100_000)]
    onnx: LockedOnnx | None = None


class LockFile(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """All of a lock file."""

    version: int
    model: Annotated[tuple[LockedModel, ...], Meta(max_length=100_000)] = ()

    @property
    def sha256s(self) -> frozenset[str]:
        """The digests of all files that are named."""
        return frozenset(file.sha256 for model in self.model for file in model.file)

    def get(self, uid: str) -> LockedModel | None:
        """The model of this uid."""
        return next((model for model in self.model if model.uid == uid), None)


def read(path: Path) -> LockFile:
    """The lock file at ``path``.

    Raises:
        NotFoundError: there is none.
        UsageError: it is no lock file; the message names the field.
        StorageError: it cannot be read, or its folder not be entered.
    """
    with reading(path):
        try:
            size = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(
                f"there is no lock file {path}", hint="`tlhub lock` writes one"
            ) from None
        if size > _MOST_BYTES:
            raise UsageError(f"{path} has {size} bytes: that is no lock file of tlhub's")
        raw = path.read_bytes()
    return parse(raw, str(path))


def parse(raw: bytes, where: str) -> LockFile:
    """The lock file of these bytes; ``where`` they are from, for messages.

    Raises:
        UsageError: they are none; the message names the field.
    """
    hint = "write it again with `tlhub lock`"
    try:
        data = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{where} is not TOML: {error}", hint=hint) from error
    version = data.get("version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(
            f"{where} has version {version}, this tlhub reads up to {SCHEMA_VERSION}",
            hint="upgrade tlhub",
        )
    try:
        lock = msgspec.convert(data, LockFile)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}", hint=hint) from error
    _check(lock, where, hint)
    return lock


def write(lock: LockFile, path: Path) -> None:
    """Put ``lock`` at ``path`` in one step; the same lock gives the same bytes.

    Raises:
        UsageError: it could not be read again; what was there before is whole.
        StorageError: it cannot be written; what was there before is whole.
    """
    raw = encode(lock)
    parse(raw, f"what {path} would be")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            stream.write(raw)


def encode(lock: LockFile) -> bytes:
    """The bytes of a lock file."""
    import tomli_w

    models = sorted((_in_order(model) for model in lock.model), key=lambda model: model.uid)
    data = msgspec.to_builtins(msgspec.structs.replace(lock, model=tuple(models)))
    return (_HEADER + tomli_w.dumps(data, multiline_strings=False)).encode()


def remember(home: Path, path: Path) -> None:
    """Note that there is a lock file at ``path``, whose files are not to be pruned."""
    path = path.resolve()
    note = _notes(home) / f"{hashlib.sha256(str(path).encode()).hexdigest()[:24]}.json"
    with writing(note):
        note.parent.mkdir(parents=True, exist_ok=True)
        with replacing(note) as stream:
            stream.write(msgspec.json.encode({"path": str(path), "text": path.read_text("utf-8")}))


def known(home: Path, *more: Path) -> dict[Path, LockFile]:
    """The lock files that the store remembers and those at ``more``, where they are there.

    One whose folder is gone too may be on a disk that is not mounted, and one may be in a folder
    that only others may enter: as it was read last it still holds. One that was deleted from its
    folder is forgotten.

    Raises:
        UsageError: one is none; so nobody can tell what it needs.
        StorageError: one at ``more`` cannot be read.
    """
    found = {}
    for path in more:
        with contextlib.suppress(NotFoundError):
            found[path.resolve()] = read(path)
    folder = _notes(home)
    for note in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            said = msgspec.json.decode(note.read_bytes(), type=dict[str, str])
            path, text = Path(said["path"]), said["text"]
        except (msgspec.DecodeError, KeyError) as error:
            raise UsageError(
                f"{note} cannot be read: {error}", hint="remove it, then `tlhub lock` again"
            ) from error
        if path in found:
            continue
        try:
            found[path] = read(path)
        except (NotFoundError, StorageError) as error:
            if isinstance(error, NotFoundError) and path.parent.is_dir():
                with writing(note):
                    note.unlink(missing_ok=True)
            else:
                found[path] = parse(text.encode(), str(path))
    return found


def origin(urls: Iterable[str]) -> tuple[str, str | None]:
    """Where files come from and at which revision, of the first of their URLs."""
    url = next(iter(urls), "")
    found = re.fullmatch(r"((?:hf|hub\+https?):[^@!]+)(?:@([^!]+))?!.*", url)
    found = found or re.fullmatch(r"(pypi:[^=!#]+)==([^!#]+).*", url)
    if found is not None:
        return found[1], found[2]
    host = re.match(r"[\w+.-]+:(//[^/?#]*)?", split_credentials(url)[0] if "://" in url else url)
    return (host[0] if host else "unknown"), None


def _notes(home: Path) -> Path:
    return home / "lockfiles"


def _in_order(model: LockedModel) -> LockedModel:
    onnx = model.onnx
    if onnx is not None:
        onnx = msgspec.structs.replace(onnx, tools=dict(sorted(onnx.tools.items())))
    files = tuple(sorted(model.file, key=lambda file: file.path))
    return msgspec.structs.replace(model, file=files, onnx=onnx)


def _check(lock: LockFile, where: str, hint: str) -> None:
    uids: set[str] = set()
    for at, model in enumerate(lock.model):
        if model.uid in uids:
            raise UsageError(
                f"{where}: {model.uid} stands there twice, at `$.model[{at}]`", hint=hint
            )
        uids.add(model.uid)
        paths = {file.path: number for number, file in enumerate(model.file)}
        for number, file in enumerate(model.file):
            fault = _fault(file.path, paths, number)
            if fault is not None:
                field = f"`$.model[{at}].file[{number}].path`"
                raise UsageError(f"{where}: {file.path!r} at {field} {fault}", hint=hint)


def _fault(path: str, paths: Mapping[str, int], number: int) -> str | None:
    """What is wrong with the path of a file; ``paths`` are the last of each in its model."""
    parts = path.split("/")
    if leaves_folder(path):
        return "leads out of its folder"
    if not {"", "."}.isdisjoint(parts) or any(len(part.encode()) > _MOST_NAME for part in parts):
        return "is no name of a file"
    if paths[path] != number:
        return "stands there twice"
    if any("/".join(parts[:n]) in paths for n in range(1, len(parts))):
        return "lies in what is a file"
    return None
