"""Architectures of torchvision's classification models."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torchvision import __version__, models

from catalog.errors import ConversionError
from catalog.record import ModelRecord
from converters import classifiers
from converters.backbone import ImageClassifier, TorchBackbone, head_of

LIBRARIES = ("torch", "torchvision")

# Their constructors draw slow truncated normals, and warn, unless told not to.
_WITHOUT_INIT = ("googlenet", "inception_v3")


def create(record: ModelRecord, architecture: str) -> ImageClassifier:
    """The architecture with fresh weights and the record's classes.

    Raises:
        ConversionError: torchvision does not know it.
    """
    if architecture not in models.list_models(module=models):
        raise ConversionError(
            f"torchvision {__version__} has no classifier {architecture!r}",
            hint="upgrade torchvision",
        )
    if not record.num_classes:
        raise ConversionError(f"the record of {record.uid} does not say how many classes it has")
    options: dict[str, Any] = {"init_weights": False} if architecture in _WITHOUT_INIT else {}
    model = models.get_model(architecture, weights=None, num_classes=record.num_classes, **options)
    return ImageClassifier(model, head_of(model, record))


def rivals(architecture: str) -> tuple[str, ...]:  # noqa: ARG001 - one of two implementations
    """No two architectures of torchvision agree in all shapes and differ in what they compute."""
    return ()


def load(files: Mapping[str, Path], record: ModelRecord, *, trust: bool) -> TorchBackbone:
    """See `converters.classifiers.load`."""
    return classifiers.load(_THIS, files, record, trust=trust)


def fresh(record: ModelRecord) -> TorchBackbone:
    """See `converters.classifiers.fresh`."""
    return classifiers.fresh(_THIS, record)


_THIS = cast(classifiers.Architectures, sys.modules[__name__])
