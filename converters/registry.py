"""Frameworks that weights come from, by name; naming them imports none of them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from catalog.errors import ConversionError
from catalog.record import ModelRecord
from converters import repository, vision_repository

if TYPE_CHECKING:
    from converters.backbone import Backbone, TorchBackbone

FRAMEWORKS: dict[str, str] = {
    "keras": "converters.frameworks.keras",
    "onnx": "converters.frameworks.onnx",
    "scikit-learn": "converters.frameworks.sklearn",
    "sentence-transformers": "converters.frameworks.sentence_transformers",
    "timm": "converters.frameworks.timm",
    "torchvision": "converters.frameworks.torchvision",
    "transformers": "converters.frameworks.transformers",
}


# Their models are described by the files beside the weights.
_OF_REPOSITORIES = (repository.TRANSFORMERS, repository.SENTENCE_TRANSFORMERS)
# Their files are whole models.
_WHOLE = ("keras", "onnx", "scikit-learn")
# Tasks of torchvision whose networks prepare photos themselves, or all in one way.
_SPATIAL = ("image-segmentation", "keypoint-detection", "object-detection")


class Framework(Protocol):
    """What a framework's module has."""

    LIBRARIES: tuple[str, ...]  # distributions whose versions decide what is computed

    def load(self, files: Mapping[str, Path], record: ModelRecord, *, trust: bool) -> Backbone:
        """The weights in ``files``, by their names in the record; see `load_backbone`."""

    def fresh(self, record: ModelRecord) -> TorchBackbone:
        """The record's architecture with random weights."""


def framework_of(record: ModelRecord) -> Framework:
    """The framework of a record, imported.

    Raises:
        ConversionError: it cannot be loaded yet, or the record names none.
    """
    if record.framework not in FRAMEWORKS:
        raise ConversionError(
            f"{record.uid} is of framework {record.framework!r}, which cannot be converted",
            hint=f"frameworks that can: {', '.join(sorted(FRAMEWORKS))}",
        )
    return cast(Framework, importlib.import_module(FRAMEWORKS[record.framework]))


def obstacle(record: ModelRecord) -> str | None:
    """Why no framework here can convert a record, as half a sentence; None where one can try."""
    if record.framework not in FRAMEWORKS:
        known = ", ".join(sorted(FRAMEWORKS))
        return f"no converter knows {record.framework or 'its framework'}; known are {known}"
    if record.framework in _OF_REPOSITORIES:
        return vision_repository.obstacle(record.architecture)
    if record.framework in _WHOLE:
        return None
    if record.architecture is None:
        return "its architecture is not known"
    if record.framework == "torchvision":
        reason = _of_torchvision(record)
        if reason is not None or (record.task in _SPATIAL and record.num_classes):
            return reason
    if not record.num_classes and (record.framework != "timm" or record.modality != "image"):
        return "it is no image classifier"
    if record.preprocess is None or record.input_size is None:
        return "how its images are prepared is not known"
    return None


def _of_torchvision(record: ModelRecord) -> str | None:
    """What of torchvision is no photo in, and numbers that ONNX knows out."""
    if str(record.architecture).startswith("quantized_") or "quantized" in record.tags:
        return (
            "its weights are quantized for torch's own kernels, which have no ONNX; its fp32 "
            "weights with --precision int8 are the way there"
        )
    if record.modality == "video":
        return "it takes video clips; what can be converted takes photos or texts"
    return None


def load_backbone(
    files: Mapping[str, Path], record: ModelRecord, *, trust: bool = False
) -> Backbone:
    """The weights in ``files`` (by their names in the record) in the record's architecture.

    ``trust`` is that of `converters.weights.read`.

    Raises:
        ConversionError: they do not fit, or nothing shows that they do.
        UnsafeError: reading them could run code.
        IntegrityError: they are corrupted.
    """
    return framework_of(record).load(files, record, trust=trust)


def random_backbone(record: ModelRecord, seed: int) -> TorchBackbone:
    """The record's architecture with fresh random weights: what transfer is measured against.

    Raises:
        ConversionError: the architecture is unknown.
    """
    import torch

    framework = framework_of(record)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return framework.fresh(record)
