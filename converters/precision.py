"""A model folder with its network in further precisions, each measured against fp32.

`model.fp16.onnx`, `model.int8.onnx` and `model.int8-dynamic.onnx` are made of `model.onnx` alone,
so that any folder with a graph can have them: a pulled model or a run, of any framework, but for
detectors and segmentation networks. The nodes of the preprocessing are the same in all of them. A
variant whose loss is too large is not kept.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
import onnx

from catalog.errors import ConversionError, UsageError
from converters import halving, onnx_file, quantize
from converters.bench import bench
from converters.folder import ONNX, Manifest, ModelFolder, Variant, file_of
from converters.interface import BOXES, CLASS_MAP, IMAGE, MAX_INLINE_BYTES, PIXEL_VALUES
from converters.loss import Losses, judge
from converters.mixing import Mixed, mixed
from converters.network import (
    Batch,
    answers,
    distance,
    front_of,
    network_of,
    parts_of,
    session_of,
    with_network,
)
from converters.samples import (
    Samples,
    given,
    labelled_photos_in,
    photos_in,
    sentences_in,
    shipped_photos,
    shipped_sentences,
)

_log = logging.getLogger(__name__)

# Root mean square of the difference to fp32, relative to that of fp32, on the calibration data. For
# EfficientNet-Lite 6 % is where 95 % of top-1 agree on photos of another kind
# (benchmarks/precision.py). Agreement itself would move by whole percents with every layer.
TOLERANCE = {"fp16": 1e-2, "int8": 6e-2}
BUDGET_S = 600.0
_MOST_CALIBRATION = 64  # photos, each with its views; of more, the others measure
_SECONDS, _ROUNDS = 0.5, 5  # that each precision is timed for, in turns
_TRIED = 64  # views on which layers are tried


@dataclass(frozen=True)
class Work:
    """What the variants of one folder are made of and measured on."""

    model: onnx.ModelProto
    network: onnx.ModelProto
    calibration: Samples
    measured: Samples
    independent: bool  # nothing was calibrated on what is measured on
    batches: tuple[Batch, ...]  # the network's inputs of the calibration data


def add(
    folder: ModelFolder,
    precisions: Sequence[str],
    out: Path,
    *,
    calibrate: Path | None = None,
    data: Path | None = None,
    replace: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[ModelFolder, dict[str, str]]:
    """The folder at ``out``: ``folder`` with these variants, and why others were not kept.

    ``calibrate`` is a folder of photos, or a file of sentences; ``data`` one folder of photos a
    class, named like the model's labels. ``out`` may be the folder itself, with ``replace``. After
    a failure it is what it was before.

    Raises:
        ConversionError: no variant is good enough.
        DataError: what is given cannot be read.
        UsageError: there is no such precision, or the graph takes neither photos nor token ids, or
            it is a detector or a segmentation network.
        StorageError: ``out`` cannot be written.
    """
    names = [file_of(precision) for precision in precisions]
    work = _work(folder, calibrate, data)
    failures: dict[str, str] = {}

    def fill(place: Path) -> Manifest:
        for name in folder.manifest.files:
            if name not in names:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(folder.path / name, place / name)
        losses = Losses(folder.path / ONNX, work.measured, folder.path, place)
        made: dict[str, Variant] = {}
        for precision, name in zip(precisions, names, strict=True):
            progress(f"making {precision}")
            try:
                result = _made(precision, work, progress)
                _save(with_network(work.model, result.network, _facts(precision)), place / name)
                progress(f"checking {precision} on {len(work.measured)} {_kind(work)}")
                loss = losses.of(place / name)
                independent = work.independent or precision != "int8"
                verified = judge(precision, loss, independent=independent)
            except ConversionError as error:
                failures[precision] = error.message
                (place / name).unlink(missing_ok=True)
                continue
            calibrated = precision == "int8"
            made[precision] = Variant(
                file=name,
                verified=verified,
                samples_of=work.measured.name,
                size_bytes=(place / name).stat().st_size,
                fp32_size_bytes=folder.onnx.stat().st_size,
                median_ms=0.0,
                fp32_median_ms=0.0,
                float_layers=result.float_layers,
                float_nodes=result.float_nodes,
                calibration=work.calibration.name if calibrated else None,
                calibration_sha256=work.calibration.digest() if calibrated else None,
                **loss,
            )
        if not made:
            raise ConversionError(
                f"{folder.manifest.uid} is not good enough in another precision: {said(failures)}"
            )
        manifest = msgspec.structs.replace(
            folder.manifest,
            files={n: e for n, e in folder.manifest.files.items() if n not in names},
            variants={**_others(folder.manifest, names), **made},
        )
        progress(f"timing {', '.join(made)} beside fp32")
        return _timed(ModelFolder(place, manifest), [*made])

    return ModelFolder.create(out, fill, replace=replace), failures


def said(failures: dict[str, str]) -> str:
    """Failures as a part of a sentence."""
    return "; ".join(f"{precision}: {why}" for precision, why in failures.items())


def missing(
    folder: ModelFolder, precisions: Sequence[str], calibrate: Path | None
) -> tuple[str, ...]:
    """Those of the precisions that the folder does not have, or not calibrated on the same.

    Raises:
        UsageError: there is no such precision. DataError: ``calibrate`` cannot be read.
    """
    digest = None
    if calibrate is not None and calibrate.is_dir():
        digest = _divided(photos_in(calibrate))[0].digest()
    found = []
    for precision in dict.fromkeys(precisions):
        variant = folder.manifest.variants.get(precision)
        stale = variant is not None and digest not in {None, variant.calibration_sha256}
        if file_of(precision) != ONNX and (variant is None or (stale and precision == "int8")):
            found.append(precision)
    return tuple(found)


@dataclass(frozen=True)
class _Made:
    network: onnx.ModelProto
    float_layers: tuple[str, ...] = ()
    float_nodes: int = 0


def _made(precision: str, work: Work, progress: Callable[[str], None]) -> _Made:
    network = work.network
    if precision == "int8-dynamic":
        if quantize.is_convolutional(network):
            raise ConversionError(
                "int8-dynamic is for transformers: on convolutions it is slower than fp32 and far "
                "off, and this network is made of them; int8 is for those"
            )
        return _Made(quantize.dynamic(network))
    parts = parts_of(work.model, network)
    tried = work.batches[:: max(1, len(work.batches) // _TRIED)]
    reference = answers(network, tried)

    def run(build: Callable[[Collection[str]], onnx.ModelProto]) -> Mixed:
        return mixed(
            parts,
            build,
            lambda changed: distance(answers(changed, tried), reference),
            tolerance=TOLERANCE[precision],
            budget_s=BUDGET_S,
            progress=progress,
        )

    if precision == "fp16":
        unsafe = halving.unsafe_nodes(network, tried)
        found = run(lambda floats: halving.halved(network, {*floats, *unsafe}))
        return _Made(found.network, found.float_layers, len(unsafe))
    if PIXEL_VALUES not in work.batches[0]:
        raise ConversionError("int8 is for networks of images; int8-dynamic is for those of texts")
    progress(f"calibrating on {work.calibration.name}")
    found = run(quantize.Quantizer(network, work.batches).build)
    return _Made(found.network, found.float_layers)


def _work(folder: ModelFolder, calibrate: Path | None, data: Path | None) -> Work:
    model = onnx.load(str(folder.onnx))
    if {item.name for item in model.graph.output} & {BOXES, CLASS_MAP}:
        raise UsageError(
            f"{folder.manifest.uid} is a detector or a segmentation network, and other precisions "
            "are for what gives one answer for each photo or text",
            hint="leave out --precision",
        )
    inputs = [item.name for item in model.graph.input]
    front, photos = front_of(model), inputs == [IMAGE]
    shipped = shipped_photos() if photos else shipped_sentences()
    if calibrate is None:
        calibration, measured, independent = shipped, shipped, False
    else:
        calibration, rest = _divided(_given(calibrate, photos=photos))
        measured, independent = (rest or shipped), True
    if data is not None:
        if not photos:
            raise UsageError("--data is for models of photos", hint="leave it out")
        measured, independent = labelled_photos_in(data, folder.labels), True
    batches: tuple[Batch, ...] = ()
    if front is not None:
        batches = _prepared(front, calibration)
    else:
        batches = tuple(given(calibration, inputs, folder.path))
    return Work(model, network_of(model), calibration, measured, independent, batches)


def _given(path: Path, *, photos: bool) -> Samples:
    return photos_in(path) if photos else sentences_in(path)


def _divided(samples: Samples) -> tuple[Samples, Samples | None]:
    """What calibrates, from all over the samples, and what is left to measure on."""
    count = len(samples)
    if count < 2 * _MOST_CALIBRATION // 3:
        return samples, None
    chosen = {n * count // _MOST_CALIBRATION for n in range(_MOST_CALIBRATION)}
    if count < 2 * _MOST_CALIBRATION:
        chosen = {*range(0, count, 2)}
    rest = [n for n in range(count) if n not in chosen]
    return samples.part(sorted(chosen)), samples.part(rest)


def _prepared(front: onnx.ModelProto, samples: Samples) -> tuple[Batch, ...]:
    """`pixel_values` of each photo and of pieces of it, more of them where photos are few."""
    session = session_of(front)
    pieces = 4 if len(samples) < _MOST_CALIBRATION // 2 else 0
    views = chain.from_iterable(_views(photo, pieces) for photo in samples.photos())
    return tuple({PIXEL_VALUES: session.run([PIXEL_VALUES], {IMAGE: v[None]})[0]} for v in views)


def _views(photo: np.ndarray, pieces: int) -> list[np.ndarray]:
    height, width = (max(1, side * 6 // 10) for side in photo.shape[:2])
    corners = [photo[:height, :width], photo[:height, -width:], photo[-height:, :width]]
    corners.append(photo[-height:, -width:])
    views = [photo, *corners[:pieces]]
    return [np.ascontiguousarray(turned) for v in views for turned in (v, v[:, ::-1])]


def _kind(work: Work) -> str:
    return "sentences" if isinstance(work.measured.items[0], str) else "photos"


def _facts(precision: str) -> dict[str, str]:
    return {"tlhub.precision": precision}


def _save(model: onnx.ModelProto, file: Path) -> None:
    if (size := onnx_file.size(model)) >= MAX_INLINE_BYTES:
        raise ConversionError(f"it has {size} bytes, more than one file can hold")
    onnx_file.write(model, file)


def _others(manifest: Manifest, names: Collection[str]) -> dict[str, Variant]:
    return {p: v for p, v in manifest.variants.items() if v.file not in names}


def _timed(folder: ModelFolder, precisions: Sequence[str]) -> Manifest:
    """The manifest with how long each variant takes, all of them in turn with fp32."""
    engines = ["onnxruntime", *(f"onnxruntime-{precision}" for precision in precisions)]
    timings = bench(
        folder, engines=engines, batches=(1,), threads=(1,), seconds=_SECONDS, rounds=_ROUNDS
    )
    taken = {timing.engine: timing.median_ms for timing in timings}
    variants = dict(folder.manifest.variants)
    for precision in precisions:
        variants[precision] = msgspec.structs.replace(
            variants[precision],
            median_ms=taken[f"onnxruntime-{precision}"],
            fp32_median_ms=taken["onnxruntime"],
        )
    return msgspec.structs.replace(folder.manifest, variants=variants)
