"""Framing: how a photo of any shape is fitted to the square a network looks at.

Networks are trained on crops, with the subject anywhere. People's own pictures often have it
filling the frame, where a crop cuts it off; then seeing the whole picture, out of proportion, is
better. Which it is, the training images tell. Texts have one way.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime

from catalog.record import Preprocess
from converters.folder import ModelFolder, sha256_of
from converters.interface import TOKENIZER
from converters.machine import cores
from converters.runtime import OnnxModel
from converters.session import Device, takes_tokens, usable
from finetuning import graph
from finetuning.features import Content, Extract, Extractor, Rows, key_of
from finetuning.pools import can_pool, with_stages
from finetuning.stages import LAST, Stage, stages_of

AS_TRAINED, WHOLE = "as trained", "whole photo"

_TEXTS = 64  # in one call
_PHOTOS = {"cpu": 2, "cuda": 32}  # on a CPU more at a time save little, and each may be large


@dataclass(frozen=True)
class Framing:
    """One way, as the graph that has it inside, and as an extractor of its stages."""

    name: str
    network: onnx.ModelProto
    preprocess: Preprocess | None  # as a record says it; None where the base has no record of it
    stages: tuple[Stage, ...]  # from the input on; the last is the embedding
    extractor: Extractor  # its vectors go by the outputs of the stages

    def ending_with(self, stages: tuple[Stage, ...]) -> Framing:
        """The same with these of its stages alone."""
        kept = {stage.output for stage in stages}
        keys = {name: key for name, key in self.extractor.keys.items() if name in kept}
        return replace(self, stages=stages, extractor=replace(self.extractor, keys=keys))


def framings(base: ModelFolder, device: Device) -> tuple[Framing, ...]:
    """The way the backbone was made for, and the whole photo where its graph can be changed.

    Raises:
        ConversionError: the backbone has no embedding to put a head on.
        UsageError: ``device`` is not there.
    """
    network = graph.load(base.onnx)
    record = base.manifest.record
    own = record.preprocess
    stages = stages_of(base, network) if can_pool(network) else (LAST,)
    source = _Source(base, network, stages, device)
    as_trained = Framing(AS_TRAINED, network, own, stages, source.extractor(network, "as trained"))
    size = record.input_size
    if own is None or size is None or len(size) != 3 or not graph.has_pixel_values(network):
        return (as_trained,)
    whole = msgspec.structs.replace(own, resize_mode="squash", crop_pct=1.0)
    if whole == own:
        return (as_trained,)
    changed = graph.reframe(network, whole, (size[1], size[2]))
    said = msgspec.json.encode(whole).decode()
    return as_trained, Framing(WHOLE, changed, whole, stages, source.extractor(changed, said))


def tuned_framing(
    base: ModelFolder,
    framing: Framing,
    network: onnx.ModelProto,
    stages: tuple[Stage, ...],
    device: Device,
) -> Framing:
    """The same framing of the backbone in ``network``, whose weights were trained further."""
    stages = stages if stages[-1] == LAST else (*stages, LAST)
    source = _Source(base, network, stages, device)
    weights = hashlib.sha256(network.SerializeToString(deterministic=True)).hexdigest()
    extractor = source.extractor(network, f"{framing.name} {weights}")
    return replace(framing, network=network, stages=stages, extractor=extractor)


class _Source:
    """What the extractors of one backbone have in common."""

    def __init__(
        self, base: ModelFolder, network: onnx.ModelProto, stages: Sequence[Stage], device: Device
    ) -> None:
        self._stages = stages
        self._device = usable(base.onnx, device)
        self._is_text = takes_tokens(network)
        self._tokenizer = base.path / TOKENIZER
        self._parts = [
            sha256_of(base.onnx), f"onnxruntime {onnxruntime.__version__}", self._device
        ]  # fmt: skip
        if self._is_text:
            self._parts.append(sha256_of(self._tokenizer))

    def extractor(self, network: onnx.ModelProto, preprocessing: str) -> Extractor:
        """All stages of ``network``; on a CPU each thread has its own photos or texts."""
        keys = {
            stage.output: key_of(*self._parts, preprocessing, stage.layer, stage.pool)
            for stage in self._stages
        }

        def open_() -> Extract:
            return self._open(with_stages(network, self._stages))

        batch = _TEXTS if self._is_text else _PHOTOS[self._device]
        return Extractor(keys, open_, batch, workers=cores() if self._device == "cpu" else 1)

    def _open(self, tapped: onnx.ModelProto) -> Extract:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            file = Path(folder, "model.onnx")
            graph.save(tapped, file)
            if self._is_text:
                shutil.copyfile(self._tokenizer, file.with_name(TOKENIZER))
            model: OnnxModel[Any, Any] = OnnxModel.open(
                file, device=self._device, threads=1 if self._device == "cpu" else None
            )

        def extract(contents: Sequence[Content], vectors: Sequence[str]) -> Mapping[str, Rows]:
            rows = model.several(contents, vectors)
            columns = zip(*rows, strict=True)
            return {name: np.stack(c) for name, c in zip(vectors, columns, strict=True)}

        return extract
