"""Framing: how a photo of any shape is fitted to the square a network looks at.

Networks are trained on crops, with the subject anywhere. People's own pictures often have it
filling the frame, where a crop cuts it off; then seeing the whole picture, out of proportion, is
better. Which it is, the training images tell.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import onnx
import onnxruntime

from catalog.record import Preprocess
from converters.folder import ModelFolder, sha256_of
from converters.image_model import ImageModel
from converters.session import Device
from finetuning import graph
from finetuning.features import Extract, Extractor, key_of

AS_TRAINED, WHOLE = "as trained", "whole photo"


@dataclass(frozen=True)
class Framing:
    """One way, as the graph that has it inside, and as an extractor of its embeddings."""

    name: str
    network: onnx.ModelProto
    preprocess: Preprocess | None  # as a record says it; None where the base has no record of it
    extractor: Extractor


def framings(base: ModelFolder, device: Device) -> tuple[Framing, ...]:
    """The way the backbone was made for, and the whole photo where its graph can be changed.

    Raises:
        ConversionError: the backbone has no embedding to put a head on.
        UsageError: ``device`` is not there.
    """
    network = graph.load(base.onnx)
    record = base.manifest.record
    own = record.preprocess
    model = ImageModel.open(base.onnx, device=device)  # says which device `auto` is
    parts = (sha256_of(base.onnx), f"onnxruntime {onnxruntime.__version__}", model.device)
    as_trained = Framing(
        AS_TRAINED, network, own, Extractor(key_of(*parts), lambda: model.features)
    )
    size = record.input_size
    if own is None or size is None or len(size) != 3 or not graph.has_pixel_values(network):
        return (as_trained,)
    whole = msgspec.structs.replace(own, resize_mode="squash", crop_pct=1.0)
    if whole == own:
        return (as_trained,)
    changed = graph.reframe(network, whole, (size[1], size[2]))
    key = key_of(*parts, msgspec.json.encode(whole).decode())
    return as_trained, Framing(
        WHOLE, changed, whole, Extractor(key, lambda: _features(changed, model.device))
    )


def _features(network: onnx.ModelProto, device: Device) -> Extract:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = Path(folder, "model.onnx")
        graph.save(network, file)
        return ImageModel.open(file, device=device).features
