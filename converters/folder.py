"""The model folder: what `pull` and `finetune` leave behind, whole or not at all.

A folder holds `model.onnx`, `tlhub.json` (the manifest below), `labels.txt` where there are
labels, and the original weights as safetensors. A run folder adds what the fine-tuning wrote.
`ModelFolder.create` is the only way one comes to be: it is filled under a temporary name, every
file is hashed and flushed to disk, and one rename puts it in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from filelock import Timeout

from catalog.disk import exchange, filling, flush, writing
from catalog.errors import IntegrityError, NotFoundError, UnsafeError, UsageError
from catalog.locks import lock_file
from catalog.members import leaves_folder
from catalog.record import UNREADABLE, ModelRecord

MANIFEST = "tlhub.json"
ONNX = "model.onnx"
LABELS = "labels.txt"
SCHEMA_VERSION = 1
PRECISIONS = ("fp16", "int8", "int8-dynamic")  # beside fp32, which is always there
_MOMENT_S = 0.3  # who looks whether a lock is free holds it for less


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the folder as it was when the folder was finished."""

    sha256: str
    size_bytes: int


class Parity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How near the ONNX graph is to the weights in their own framework.

    ``max_rel_diff`` is max|onnx - reference| / max|reference|, the worst over all outputs, batch
    sizes and inputs at equal preprocessed input. ``photo_max_rel_diff`` is the same from the
    decoded photo on, each side with its own resize; absent where no resize is in the graph.
    Agreement is a fraction of the samples; absent where there are no classes.
    """

    reference: str  # `torch 2.14.1`
    tolerance: float
    max_rel_diff: float
    top1_agreement: float | None = None
    top5_agreement: float | None = None
    photo_max_rel_diff: float | None = None
    outputs: Mapping[str, float]  # max_rel_diff by output
    batch_sizes: tuple[int, ...]
    photos: int = 0  # that went through both resizes
    samples: int = 0  # real inputs, photos among them


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A point of a network at which its tensor has a name, in the graph too."""

    name: str  # of the module, in its framework's own words
    type: str  # of the module
    shape: tuple[int, ...]  # of its tensor, for one input, without the batch
    params: int
    gmacs: float  # 1e9 multiply-accumulates for one input


def is_channels_last(shape: tuple[int, ...]) -> bool:
    """Is a map of this shape (H, W, C), as in Swin and all of Keras, and not (C, H, W)?"""
    return shape[0] == shape[1] != shape[2]


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a graph has besides, or has not."""

    layers: tuple[str, ...] = ()  # that are outputs, by their names
    preprocess: bool = True  # False: it takes the network's own tensors
    side: int | None = None  # of the pictures in pixels; None: as the record says


class Variant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The same model in another precision, and what it loses against `model.onnx` (fp32).

    Both were run in fresh processes on the same real inputs. ``max_rel_diff`` and agreement are
    what they are in `Parity`; an accuracy is a fraction of labelled inputs.
    """

    file: str
    verified: bool  # its loss was measured on enough real inputs that it was not calibrated on
    max_rel_diff: float  # of the worst output
    outputs: Mapping[str, float]  # max_rel_diff by output
    cosine: float | None = None  # of the embeddings, the least of any input
    top1_agreement: float | None = None
    accuracy: float | None = None
    fp32_accuracy: float | None = None
    samples: int
    samples_of: str  # where they are from
    size_bytes: int
    fp32_size_bytes: int
    median_ms: float  # of batch 1 on one thread, in turn with fp32
    fp32_median_ms: float
    float_layers: tuple[str, ...] = ()  # that stayed in fp32, found by measurement
    float_nodes: int = 0  # that stayed in fp32 beside them, since fp16 does not hold their tensors
    calibration: str | None = None  # what it was calibrated on
    calibration_sha256: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`tlhub.json`: what the folder is and where it came from; promised to stay readable.

    Every name in it is one inside the folder: of another, however it is read, none is made.

    Raises:
        UnsafeError: one leads out of it.
    """

    schema_version: int
    kind: Literal["model", "run", "original"]  # the last: files as their publisher has them
    uid: str
    created: str  # ISO 8601, UTC
    record: ModelRecord
    asked: ModelRecord | None = None  # as it was to be converted, where that changed it
    options: Options | None = None  # with which it was converted, where there were any
    files: Mapping[str, FileEntry]
    tools: Mapping[str, str] = msgspec.field(default_factory=dict)  # name -> version
    layers: tuple[Layer, ...] = ()
    parity: Parity | None = None
    variants: Mapping[str, Variant] = msgspec.field(default_factory=dict)  # by their precision
    evidence: Mapping[str, Any] | None = None  # why these weights are this architecture
    origin: Mapping[str, Any] | None = None  # what the graph was before, of ONNX that was ONNX
    exporter: str | None = None  # of torch's, that made the graph; why, where not the usual one
    preprocess: Mapping[str, Any] | None = None  # what becomes of an input before the network
    run: Mapping[str, Any] | None = None  # data, command, seed and metrics of a run

    def __post_init__(self) -> None:
        for name in (*self.files, *(artifact.path for artifact in self.record.artifacts)):
            if leaves_folder(name) or "\\" in name:
                raise UnsafeError(f"{self.uid} names {name!r:.80}, which lies outside of it")


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

    @property
    def files(self) -> dict[str, Path]:
        """Its files by name."""
        return {name: self.path / name for name in self.manifest.files}

    @classmethod
    def open(cls, path: Path) -> ModelFolder:
        """The folder at ``path``, its manifest read and every file present at its size.

        Raises:
            NotFoundError: there is no `tlhub.json`.
            IntegrityError: the manifest cannot be read, or a file is missing or cut short.
            UnsafeError: it names a file outside of the folder.
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
        except UNREADABLE as error:
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

    def verify(self, *names: str) -> None:
        """Hash every file again, or those named that the folder has.

        Raises:
            IntegrityError: a file is not what it was when the folder was finished.
        """
        for name, entry in self.manifest.files.items():
            if names and name not in names:
                continue
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

        ``fill`` returns the manifest; what its ``files`` do not have is added here. Links that it
        makes stay links. After any failure,
        kill -9 included, ``path`` is what it was before: the new folder takes its place in one
        step (with ``replace`` the two are exchanged, which Linux and macOS do in one step too;
        elsewhere the next `create` mends an exchange that was interrupted).

        Raises:
            UsageError: ``path`` exists and ``replace`` was not asked for, it is no folder of
                tlhub's, or another process is making it.
            StorageError: it could not be written.
        """
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        work = _beside(path, "new")
        with _alone(path):
            _recover(path)
            _check_free(path, replace=replace)
            shutil.rmtree(work, ignore_errors=True)  # what a killed process left
            try:
                with writing(path):
                    work.mkdir()
                with filling(path):
                    manifest = fill(work)
                with writing(path):
                    manifest = msgspec.structs.replace(
                        manifest, files=_entries(work, manifest.files)
                    )
                    data = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"))
                    (work / MANIFEST).write_bytes(data + b"\n")
                    _settle(work)
                    _check_free(path, replace=replace)  # much time has passed
                    _put(work, path)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return cls(path, manifest)

    @classmethod
    def adopt(cls, finished: Path, path: Path) -> ModelFolder:
        """Put a finished folder, which is on the same disk, at ``path``; what is there gives way.

        Raises:
            IntegrityError: it is not whole; ``path`` is what it was before.
            UsageError: another process is making ``path``, or it is no folder of tlhub's.
            StorageError: it could not be written.
        """
        cls.open(finished).verify()
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            _recover(path)
            _check_free(path, replace=True)
            with writing(path):
                _settle(finished)
                _put(finished, path)
        return cls.open(path)


def file_of(precision: str) -> str:
    """The name of a variant's file.

    Raises:
        UsageError: there is no such precision.
    """
    if precision == "fp32":
        return ONNX
    if precision not in PRECISIONS:
        raise UsageError(
            f"there is no precision {precision!r}", hint=f"fp32, {', '.join(PRECISIONS)}"
        )
    return f"model.{precision}.onnx"


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _beside(path: Path, what: str) -> Path:
    path = path.absolute()  # "." has no name
    return path.with_name(f".{path.name}.tlhub-{what}")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from making ``path``.

    Raises:
        UsageError: one is at it.
    """
    lock = lock_file(_beside(path, "lock"), timeout_s=_MOMENT_S)
    with writing(path):
        try:
            lock.acquire()
        except Timeout:  # an OSError too
            raise UsageError(
                f"{path} is being made by another process",
                hint="wait for it, or choose another place",
            ) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove what is open
            Path(lock.lock_file).unlink()
        lock.release()


def _check_free(path: Path, *, replace: bool) -> None:
    if not os.path.lexists(path):
        return
    if not replace:
        raise UsageError(f"{path} exists already", hint="choose another place, or --force")
    if not (path / MANIFEST).is_file():
        raise UsageError(
            f"{path} is no folder of tlhub's, and is not replaced", hint="choose another place"
        )


def _put(work: Path, path: Path) -> None:
    """Move the finished folder to its place; what it replaces ends up in ``work``."""
    if not path.exists():
        work.rename(path)
    elif not exchange(work, path):
        aside = _beside(path, "old")
        path.rename(aside)
        work.rename(path)
        shutil.rmtree(aside, ignore_errors=True)
    flush(path.parent)


def _recover(path: Path) -> None:
    """Finish an exchange of two renames that was interrupted between them."""
    aside = _beside(path, "old")
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
    elif aside.exists():
        aside.rename(path)


def _entries(folder: Path, known: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
    files = {
        file.relative_to(folder).as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    return {
        name: known.get(name) or FileEntry(sha256=sha256_of(file), size_bytes=file.stat().st_size)
        for name, file in files.items()
    }


def _settle(folder: Path) -> None:
    """Give every file the mode that files have here, and bring it all to the disk."""
    mode = (folder / MANIFEST).stat().st_mode  # some writers make theirs private
    for entry in [*folder.rglob("*"), folder]:
        if entry.is_symlink():  # what it leads to is not ours
            continue
        if entry.is_file():
            entry.chmod(mode)
        flush(entry)
