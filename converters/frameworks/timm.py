"""Architectures of timm (`pytorch-image-models`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import timm

from catalog.errors import ConversionError
from catalog.record import ModelRecord
from converters import classifiers
from converters.backbone import ImageClassifier, ImageEncoder, TorchBackbone, head_of

LIBRARIES = ("torch", "torchvision", "timm")


def create(record: ModelRecord, architecture: str) -> ImageClassifier | ImageEncoder:
    """The architecture with fresh weights and the record's classes, if any, and input size.

    Raises:
        ConversionError: timm does not know it.
    """
    if not timm.is_model(architecture):
        raise ConversionError(
            f"timm {timm.__version__} has no architecture {architecture!r}", hint="upgrade timm"
        )
    model = timm.create_model(
        architecture,
        pretrained=False,
        num_classes=record.num_classes or 0,
        pretrained_cfg_overlay={"input_size": record.input_size},
    )
    if not record.num_classes:
        return ImageEncoder(model)
    return ImageClassifier(model, head_of(model, record))


def rivals(architecture: str) -> tuple[str, ...]:
    """Architectures that differ from this one in nothing a tensor's shape would show.

    timm keeps networks ported from TensorFlow apart by the prefix ``tf_``: same tensors, but
    padded as TensorFlow pads and with its batch-norm epsilon.
    """
    twin = architecture.removeprefix("tf_")
    twin = f"tf_{architecture}" if twin == architecture else twin
    return (twin,) if timm.is_model(twin) else ()


def load(files: Mapping[str, Path], record: ModelRecord, *, trust: bool) -> TorchBackbone:
    """See `converters.classifiers.load`."""
    return classifiers.load(_THIS, files, record, trust=trust)


def fresh(record: ModelRecord) -> TorchBackbone:
    """See `converters.classifiers.fresh`."""
    return classifiers.fresh(_THIS, record)


_THIS = cast(classifiers.Architectures, sys.modules[__name__])
