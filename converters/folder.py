"""The model folder: what `pull` and `finetune` leave behind, whole or not at all.

A folder holds `model.onnx`, `tlhub.json` (the manifest below), `labels.txt` where there are
labels, and the original weights as safetensors. A run folder adds what the fine-tuning wrote.
`ModelFolder.create` is the only way one comes to be: it is filled under a temporary name, every
file is hashed and flushed to disk, and one rename puts it in place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from catalog.disk import filling, flush, writing
from catalog.errors import IntegrityError, NotFoundError, UsageError
from catalog.record import ModelRecord

MANIFEST = "tlhub.json"
ONNX = "model.onnx"
LABELS = "labels.txt"
SCHEMA_VERSION = 1


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the folder as it was when the folder was finished."""

    sha256: str
    size_bytes: int


class Parity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How near the ONNX graph is to the weights in their own framework.

    ``max_rel_diff`` is max|onnx - reference| / max|reference|, the worst over all outputs, batch
    sizes and inputs at equal preprocessed input. ``photo_max_rel_diff`` is the same from the
    decoded photo on, each side with its own resize. Agreement is a fraction of the images.
    """

    reference: str  # `torch 2.14.1`
    tolerance: float
    max_rel_diff: float
    top1_agreement: float
    top5_agreement: float
    photo_max_rel_diff: float
    outputs: Mapping[str, float]  # max_rel_diff by output
    batch_sizes: tuple[int, ...]
    photos: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`tlhub.json`: what the folder is and where it came from; promised to stay readable."""

    schema_version: int
    kind: Literal["model", "run"]
    uid: str
    created: str  # ISO 8601, UTC
    record: ModelRecord
    files: Mapping[str, FileEntry]
    tools: Mapping[str, str] = msgspec.field(default_factory=dict)  # name -> version
    parity: Parity | None = None
    evidence: Mapping[str, Any] | None = None  # why these weights are this architecture
    run: Mapping[str, Any] | None = None  # data, command, seed and metrics of a run


@dataclass(frozen=True)
class ModelFolder:
    """A finished model or run folder."""

    path: Path
    manifest: Manifest

    @property
    def onnx(self) -> Path:
        """The fp32 graph."""
        return self.path / ONNX

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the logits; empty where there are none."""
        file = self.path / LABELS
        return tuple(file.read_text(encoding="utf-8").splitlines()) if file.exists() else ()

    @classmethod
    def open(cls, path: Path) -> ModelFolder:
        """The folder at ``path``, its manifest read and every file present at its size.

        Raises:
            NotFoundError: there is no `tlhub.json`.
            IntegrityError: the manifest cannot be read, or a file is missing or cut short.
            UsageError: the manifest is of a newer tlhub.
        """
        try:
            raw = (path / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"{path} is not a model folder: it has no {MANIFEST}") from None
        try:
            version = msgspec.json.decode(raw, type=dict[str, Any]).get("schema_version")
            if isinstance(version, int) and version > SCHEMA_VERSION:
                raise UsageError(
                    f"{path / MANIFEST} has schema version {version}, this tlhub reads up to "
                    f"{SCHEMA_VERSION}",
                    hint="upgrade tlhub",
                )
            manifest = msgspec.json.decode(raw, type=Manifest)
        except msgspec.DecodeError as error:
            raise IntegrityError(
                f"{path / MANIFEST} cannot be read: {error}", hint="pull or fine-tune it again"
            ) from error
        for name, entry in manifest.files.items():
            file = path / name
            size = file.stat().st_size if file.is_file() else None
            if size != entry.size_bytes:
                seen = "is missing" if size is None else f"has {size} bytes"
                raise IntegrityError(
                    f"{file} {seen}, expected {entry.size_bytes}",
                    hint="pull or fine-tune it again with --force",
                )
        return cls(path, manifest)

    def verify(self) -> None:
        """Hash every file again.

        Raises:
            IntegrityError: a file is not what it was when the folder was finished.
        """
        for name, entry in self.manifest.files.items():
            seen = sha256_of(self.path / name)
            if seen != entry.sha256:
                raise IntegrityError(
                    f"{self.path / name} has sha256 {seen}, expected {entry.sha256}",
                    hint="pull or fine-tune it again with --force",
                )

    @classmethod
    def create(
        cls,
        path: Path,
        fill: Callable[[Path], Manifest],
        *,
        replace: bool = False,
    ) -> ModelFolder:
        """Make the folder at ``path`` from what ``fill(temporary_folder)`` writes.

        ``fill`` returns the manifest without ``files``; they are added here. After any failure,
        kill -9 included, ``path`` is what it was before (with ``replace``, the old folder or the
        new one; the swap is two renames, and `recover` finishes one that was interrupted).

        Raises:
            UsageError: ``path`` exists and ``replace`` was not asked for.
            StorageError: it could not be written.
        """
        recover(path)
        if path.exists() and not replace:
            raise UsageError(f"{path} exists already", hint="choose another, or --force")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path)
            work = Path(tempfile.mkdtemp(prefix=f".{path.name}.new-", dir=path.parent))
        owner = _own(work)
        try:
            with filling(path):
                manifest = fill(work)
            with writing(path):
                manifest = msgspec.structs.replace(manifest, files=_entries(work))
                data = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"))
                (work / MANIFEST).write_bytes(data + b"\n")
                _settle(work)
                _swap(work, path)
        finally:
            shutil.rmtree(work, ignore_errors=True)
            if owner is not None:
                os.close(owner)
        return cls(path, manifest)


def recover(path: Path) -> None:
    """Put back the folder that an interrupted replacement had moved aside."""
    aside = _aside(path)
    if aside.exists():
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(path)


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _own(work: Path) -> int | None:
    """Lock a temporary folder for as long as this process lives; None if another one has it."""
    if os.name == "nt":
        return None
    import fcntl

    descriptor = os.open(work, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _sweep(path: Path) -> None:
    """Remove what killed processes left of their attempts at ``path``."""
    for left in path.parent.glob(f".{path.name}.new-*"):
        owner = _own(left)
        if owner is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(owner)


def _swap(work: Path, path: Path) -> None:
    if path.exists():
        path.rename(_aside(path))
    work.rename(path)
    shutil.rmtree(_aside(path), ignore_errors=True)
    flush(path.parent)


def _entries(folder: Path) -> dict[str, FileEntry]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        file.relative_to(folder).as_posix(): FileEntry(
            sha256=sha256_of(file), size_bytes=file.stat().st_size
        )
        for file in files
    }


def _settle(folder: Path) -> None:
    """Make everything in the folder readable for all and bring it to the disk."""
    for entry in [*folder.rglob("*"), folder]:
        entry.chmod(0o755 if entry.is_dir() else 0o644)
        flush(entry)
