"""Frameworks that weights come from, by name; naming them imports none of them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from catalog.errors import ConversionError
from catalog.record import ModelRecord

if TYPE_CHECKING:
    from converters.backbone import ImageClassifier, TorchBackbone

FRAMEWORKS: dict[str, str] = {
    "timm": "converters.frameworks.timm",
    "torchvision": "converters.frameworks.torchvision",
}


class Framework(Protocol):
    """What a framework's module has."""

    LIBRARIES: tuple[str, ...]  # distributions whose versions decide what is computed

    def create(self, record: ModelRecord, architecture: str) -> ImageClassifier:
        """The architecture with fresh weights."""

    def rivals(self, architecture: str) -> tuple[str, ...]:
        """Other architectures that the same tensors may fit."""


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
    if record.architecture is None or not record.num_classes:
        return "it is no image classifier of a known architecture"
    if record.preprocess is None or record.input_size is None:
        return "how its images are prepared is not known"
    return None


def load_backbone(
    files: Mapping[str, Path], record: ModelRecord, *, trust: bool = False
) -> TorchBackbone:
    """The weights in ``files`` (by their names in the record) in the record's architecture.

    Where the tensors' names are not the architecture's, they are mapped by order and shape and
    `converters.evidence` must find for the record's architecture and against its rivals.
    ``trust`` is that of `converters.weights.read`.

    Raises:
        ConversionError: they do not fit, or the evidence is against it.
        UnsafeError: reading them could run code.
        IntegrityError: they are corrupted.
    """
    from converters import evidence, mapping, weights
    from converters.backbone import TorchBackbone

    framework, architecture = framework_of(record), _architecture(record)
    state = weights.read(weights.weights_file(files), trust=trust)
    module = framework.create(record, architecture)
    named = mapping.by_name(state, module.model)
    if named is not None:
        module.model.load_state_dict(named)
        return TorchBackbone.of(module, record)
    module.model.load_state_dict(mapping.by_order(state, module.model))
    backbone = TorchBackbone.of(module, record)
    figures = evidence.weigh(backbone, architecture, state, framework)
    return TorchBackbone.of(module, record, figures)


def random_backbone(record: ModelRecord, seed: int) -> TorchBackbone:
    """The record's architecture with fresh random weights: what transfer is measured against.

    Raises:
        ConversionError: the architecture is unknown.
    """
    import torch

    from converters.backbone import TorchBackbone

    framework = framework_of(record)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TorchBackbone.of(framework.create(record, _architecture(record)), record)


def _architecture(record: ModelRecord) -> str:
    if record.architecture is None or not record.num_classes:
        raise ConversionError(
            f"{record.uid} is no image classifier of a known architecture "
            f"(architecture {record.architecture!r}, {record.num_classes} classes)"
        )
    return record.architecture
