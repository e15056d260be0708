"""Architectures of torchvision: classifiers, segmentation networks and detectors."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, cast

import torch
from torchvision import __version__, models

from catalog.errors import ConversionError
from catalog.record import ModelRecord, Preprocess
from converters import classifiers, mapping, weights
from converters.backbone import Front, ImageClassifier, Network, TorchBackbone, head_of
from converters.detection import DetectionFront, Detector
from converters.segmentation import SegmentationFront, Segmenter

LIBRARIES = ("torch", "torchvision")

# Their constructors draw slow truncated normals, and warn, unless told not to.
_WITHOUT_INIT = ("googlenet", "inception_v3")
_AUXILIARY = "aux_classifier."  # of training only
# The first weights of these, COCO_V1, were trained without an epsilon in their batch norms, and
# torchvision sets it to 0 where it is asked for them itself (`overwrite_eps`).
_WITHOUT_EPSILON = (
    *("fasterrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn"),
    "retinanet_resnet50_fpn",
)


def create(record: ModelRecord, architecture: str) -> ImageClassifier:
    """The classifier with fresh weights and the record's classes.

    Raises:
        ConversionError: torchvision does not know it.
    """
    if architecture not in models.list_models(module=models):
        raise ConversionError(
            f"torchvision {__version__} has no classifier {architecture!r}",
            hint="upgrade torchvision",
        )
    options: dict[str, Any] = {"init_weights": False} if architecture in _WITHOUT_INIT else {}
    model = models.get_model(architecture, weights=None, num_classes=_classes(record), **options)
    return ImageClassifier(model, head_of(model, record))


def rivals(architecture: str) -> tuple[str, ...]:  # noqa: ARG001 - one of two implementations
    """No two architectures of torchvision agree in all shapes and differ in what they compute."""
    return ()


def load(files: Mapping[str, Path], record: ModelRecord, *, trust: bool) -> TorchBackbone:
    """See `converters.classifiers.load`; of others than classifiers the names must agree."""
    if record.architecture not in _others():
        return classifiers.load(_THIS, files, record, trust=trust)
    network, front = _other(record, record.architecture)
    state = weights.read(weights.weights_file(files), trust=trust)
    state = {name: tensor for name, tensor in state.items() if not name.startswith(_AUXILIARY)}
    named = mapping.by_name(state, network.model)
    if named is None:
        raise ConversionError(
            f"the tensors have other names than those of torchvision's {record.architecture}",
            hint="the record names the wrong architecture, or the file is of another library",
        )
    network.model.load_state_dict(named)
    return TorchBackbone(network, record, front)


def fresh(record: ModelRecord) -> TorchBackbone:
    """The record's architecture with the random weights that torchvision gives it.

    Raises:
        ConversionError: it is unknown.
    """
    if record.architecture not in _others():
        return classifiers.fresh(_THIS, record)
    network, front = _other(record, record.architecture)
    return TorchBackbone(network, record, front)


def _others() -> list[str]:
    return [
        *models.list_models(module=models.segmentation),
        *models.list_models(module=models.detection),
    ]


def _other(record: ModelRecord, architecture: str) -> tuple[Network, Front]:
    """A segmentation network or a detector, and what lies before it."""
    options = {"weights": None, "weights_backbone": None, "num_classes": _classes(record)}
    model = models.get_model(architecture, **options)
    if architecture in models.list_models(module=models.segmentation):
        return Segmenter(model), SegmentationFront.of(record, *_prepared(record, architecture))
    if architecture in _WITHOUT_EPSILON and _is_first(record, architecture):
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 0.0
    detector = Detector(model)
    return detector, DetectionFront(detector.outputs)


def _classes(record: ModelRecord) -> int:
    if not record.num_classes:
        raise ConversionError(f"the record of {record.uid} does not say how many classes it has")
    return record.num_classes


def _prepared(record: ModelRecord, architecture: str) -> tuple[Preprocess, int]:
    """How its photos are prepared, and what the shorter side becomes.

    As the record says, else as torchvision's own weights of the architecture are.
    """
    if record.preprocess is not None and record.input_size is not None:
        return record.preprocess, min(record.input_size[1:])
    said = models.get_model_weights(architecture).DEFAULT.transforms()
    how = Preprocess(
        mean=tuple(said.mean), std=tuple(said.std), interpolation=said.interpolation.value
    )
    return how, said.resize_size[0]


def _is_first(record: ModelRecord, architecture: str) -> bool:
    """Whether the record's file is that of torchvision's own first weights."""
    published = PurePosixPath(models.get_model_weights(architecture)["COCO_V1"].url).name
    return any(PurePosixPath(artifact.path).name == published for artifact in record.artifacts)


_THIS = cast(classifiers.Architectures, sys.modules[__name__])
