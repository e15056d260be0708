"""Converts one subject, in a process of its own: `python -m benchmarks.architectures.work NAME`.

It prints one JSON object: what came out, or why nothing did.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import torch

from benchmarks.architectures import tiny
from benchmarks.architectures.alive import enliven, enliven_spatial
from benchmarks.architectures.subjects import all_subjects
from catalog.errors import ConversionError, TlhubError
from catalog.record import ModelRecord
from converters import weights
from converters.convert import WEIGHTS, convert
from converters.evidence import sample_photos
from converters.interface import EMBEDDING
from converters.registry import random_backbone
from converters.runtime import OnnxModel
from converters.text_front import SENTENCES
from tlhub import repositories

# With random weights as large as others' the attention of these is decided by rounding: torch's own
# float32 is 0.1 to 0.4 of the range from float64.
_SCALES = {"timm/byoanet": 0.03, "timm/efficientvit_msra": 0.1}
_SPATIAL = {"image-segmentation", "object-detection"}


def main(name: str) -> None:
    """Convert it, run the result on photos or sentences, and say what came out."""
    torch.set_num_threads(2)
    print(json.dumps(outcome(name)))


def outcome(name: str) -> dict[str, Any]:
    """The row of a subject."""
    record = all_subjects()[name].record
    record = msgspec.structs.replace(record, num_classes=record.num_classes and 12, labels=())
    record = msgspec.structs.replace(record, label_set=None)
    row: dict[str, Any] = {"name": name, "architecture": record.architecture}
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="tlhub-") as work:
            record, files = _source(name, record, Path(work, "source"))
            row["architecture"] = record.architecture
            row |= _convert(record, files, Path(work, "model"))
    except TlhubError as error:
        row["error"] = error.message
    except Exception as error:  # what a library raises of its own is a row too
        row["error"] = f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"
    row["seconds"] = round(time.monotonic() - started, 1)
    row["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return row


def _source(name: str, record: ModelRecord, folder: Path) -> tuple[ModelRecord, dict[str, Path]]:
    """The files of a living network, and its record."""
    folder.mkdir()
    if record.framework == "transformers":
        tiny.write(str(record.family), folder)
        files = {path.name: path for path in folder.iterdir()}
        said = repositories.look(record, files, files)
        if said.obstacle is not None:
            raise ConversionError(said.obstacle)
        return said.record, files
    if record.framework == "keras":
        from benchmarks.architectures import alive_keras

        _, file = alive_keras.write(record, folder)
        return record, {file.name: file}
    backbone = random_backbone(record, 0)
    if record.task in _SPATIAL:
        enliven_spatial(backbone)
    else:
        enliven(backbone.module.model, record, _SCALES.get(name, 1.0))
    weights.write(backbone.module.model.state_dict(), folder / WEIGHTS)
    return record, {WEIGHTS: folder / WEIGHTS}


def _convert(record: ModelRecord, files: dict[str, Path], out: Path) -> dict[str, Any]:
    started = time.monotonic()
    folder = convert(record, files, out)
    took = time.monotonic() - started
    model = OnnxModel.open(folder.path, device="cpu", threads=2)
    given = SENTENCES if record.modality == "text" else sample_photos().values()
    for one in given:
        if record.num_classes:
            model.predict([one])
        if EMBEDDING in model.outputs:
            model.features(one)
    parity = folder.manifest.parity
    if parity is None:
        raise ValueError("converted without a check")
    return {
        "max_rel_diff": parity.max_rel_diff,
        "photo_max_rel_diff": parity.photo_max_rel_diff,
        "layers": len(folder.manifest.layers),
        "mb": round(folder.onnx.stat().st_size / 1e6, 1),
        "convert_s": round(took, 1),
    }


if __name__ == "__main__":
    main(sys.argv[1])
