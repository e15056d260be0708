"""The Python API: it puts catalog, client, converters and fine-tuning together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.errors import NotFoundError, TlhubError, UsageError
from catalog.record import Artifact, ModelRecord
from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings

if TYPE_CHECKING:
    from catalog.search import Catalog, SearchResult
    from converters.folder import ModelFolder
    from converters.runtime import OnnxModel
    from converters.session import Device
    from hub_client.store import Store

# Part of a converted folder's key: raise it when the same weights convert to another folder.
CONVERSION_VERSION = 1
_WEIGHTS = ("safetensors", "pytorch")  # in the order we prefer them


def open_catalog(settings: Settings | None = None) -> Catalog:
    """The catalog that ships with tlhub; its index is built at the first use."""
    from catalog.search import Catalog

    return Catalog.open((settings or Settings.load()).index)


def catalog(*, settings: Settings | None = None) -> Iterator[ModelRecord]:
    """All records of the catalog, in the order of their uids."""
    return open_catalog(settings).records()


def search(text: str = "", *, settings: Settings | None = None, **filters: Any) -> SearchResult:
    """Records that match ``text`` and every filter; see `catalog.search.Catalog.search`."""
    return open_catalog(settings).search(text, **filters)


def record(uid: str, *, settings: Settings | None = None) -> ModelRecord:
    """The record of one model: of a uid, or as it is written in a model or run folder.

    Raises:
        NotFoundError: there is none; the hint has the closest names.
    """
    local = _local(uid)
    if local is not None:
        from converters.folder import ModelFolder

        return ModelFolder.open(local).manifest.record
    return open_catalog(settings).get(uid)


def pull(
    model: str,
    *,
    force: bool = False,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> ModelFolder:
    """A verified model folder: weights fetched, converted to ONNX and checked, or here already.

    With ``force`` it is converted again from verified weights.

    Raises:
        NotFoundError: no such model, or its files are gone from where the record says.
        NetworkError: the network failed; OfflineError: it was ruled out.
        IntegrityError: bytes are not what the record says.
        ConversionError: the weights could not be loaded, exported or proven equal.
        StorageError: the disk is full or cannot be written.
    """
    settings = settings or Settings.load()
    local = _local(model)
    if local is not None:
        from converters.folder import ModelFolder

        if not local.is_dir():
            raise UsageError(f"{local} is a file that is here already: there is nothing to pull")
        folder = ModelFolder.open(local)
        folder.verify()
        return folder
    found = _find(model, settings)
    from hub_client.store import Store

    store = Store(settings.home)
    artifact = weights_of(found)
    if not force and artifact.digest is not None and not artifact.digest.prefix:
        here = _pulled(store, found, artifact.digest.value)
        if here is not None:
            return here
    return _fetch_and_convert(found, artifact, store, settings, force=force, progress=progress)


def load(
    model: str | Path,
    *,
    device: Device = "auto",
    threads: int | None = None,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> OnnxModel:
    """A model that runs: a model or run folder, an `.onnx` file, or a uid (pulled if need be).

    ``device`` is `auto`, `cpu` or `cuda`; what is asked for and not there is an error. The bytes
    of a folder's graph and labels are verified.
    """
    from converters.folder import LABELS, ONNX, ModelFolder
    from converters.runtime import OnnxModel

    path = _local(str(model))
    if path is None:
        path = pull(str(model), settings=settings, progress=progress).path  # verified just now
    elif path.is_dir():
        ModelFolder.open(path).verify(ONNX, LABELS)
    return OnnxModel.open(path, device=device, threads=threads)


def finetune(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    test_fraction: float = 0.25,
    device: Device = "auto",
    force: bool = False,
    command: Sequence[str] = (),
    settings: Settings | None = None,
    progress: Progress = silent,
) -> ModelFolder:
    """A run folder at ``out``: ``model`` with a new head for the labelled images in ``data``.

    ``data`` has one folder a class; ``test_fraction`` of it is held out unless it has its own
    `test` folder. Metrics are in the manifest's ``run`` and in `metrics.json`.

    Raises:
        DataError: the data cannot be used as they are.
        UsageError: ``out`` exists and ``force`` was not asked for.
    """
    from finetuning.data import check_folder
    from finetuning.finetune import finetune as run

    settings = settings or Settings.load()
    check_folder(Path(data))  # before minutes of work on the model
    return run(
        pull(str(model), settings=settings, progress=progress),
        Path(data),
        Path(out),
        seed=seed,
        test_fraction=test_fraction,
        cache=settings.features,
        device=device,
        replace=force,
        command=command,
        progress=lambda step: progress(Event(step)),
    )


def _local(model: str) -> Path | None:
    """The path that ``model`` names, where it is a model folder or a lone ONNX file."""
    path = Path(model).expanduser()
    if (path / "tlhub.json").is_file() or (path.suffix == ".onnx" and path.is_file()):
        return path
    return None


def _find(model: str, settings: Settings) -> ModelRecord:
    path = Path(model)
    if path.exists() and (path.is_absolute() or model.startswith(".")):
        raise NotFoundError(
            f"{model} is there, but it is no model: it has no tlhub.json and is not an .onnx file",
            hint="name a folder made by `tlhub pull` or `tlhub finetune`, or a uid",
        )
    scheme, colon, _ = model.partition(":")
    if colon and scheme in {"hf", "http", "https", "s3", "gs", "az", "pypi", "file"}:
        raise UsageError(
            f"{model}: this version pulls models of the catalog only",
            hint="`tlhub search` finds its uid",
        )
    uid, at, revision = model.partition("@")
    if at:
        raise UsageError(
            f"{model}: a record has one set of weights, not the revision {revision!r}",
            hint=f"tlhub show {uid}",
        )
    return record(uid, settings=settings)


def weights_of(found: ModelRecord) -> Artifact:
    """The file that `pull` fetches: safetensors before pickles.

    Raises:
        NotFoundError: the record lists none that can be converted.
    """
    for format_ in _WEIGHTS:
        for artifact in found.artifacts:
            if artifact.format == format_:
                return artifact
    have = ", ".join(sorted({a.format for a in found.artifacts})) or "no files"
    raise NotFoundError(
        f"{found.uid} has no weights that this version can convert: its record lists {have}",
        hint=f"tlhub show {found.uid}",
    )


def _target(store: Store, found: ModelRecord, sha256: str) -> Path:
    key = json.dumps([CONVERSION_VERSION, found.uid, found.framework, found.architecture, sha256])
    name = found.uid.replace("/", "--")
    return store.models / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _pulled(store: Store, found: ModelRecord, sha256: str) -> ModelFolder | None:
    """The folder that is here already and still whole."""
    from converters.folder import ModelFolder

    try:
        folder = ModelFolder.open(_target(store, found, sha256))
        folder.verify()
    except TlhubError:
        return None  # not here, or damaged: it is made anew
    return folder


def _fetch_and_convert(
    found: ModelRecord,
    artifact: Artifact,
    store: Store,
    settings: Settings,
    *,
    force: bool,
    progress: Progress,
) -> ModelFolder:
    from converters.convert import convert
    from converters.folder import sha256_of
    from hub_client.fetch import fetch

    progress(Event(f"fetching {artifact.path}"))
    files = fetch(
        [artifact],
        store,
        offline=settings.offline,
        progress=lambda label, done, total: progress(Event(label, done, total)),
    )
    sha256 = sha256_of(files[artifact.path])
    target = _target(store, found, sha256)
    with store.lock(target.name):
        here = None if force else _pulled(store, found, sha256)
        return here or convert(
            found, files, target, replace=True, progress=lambda step: progress(Event(step))
        )
