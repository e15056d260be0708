"""Image networks of a framework that builds them by name: weights into an architecture."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch

from catalog.errors import ConversionError
from catalog.record import ModelRecord
from converters import evidence, mapping, weights
from converters.backbone import ImageClassifier, ImageEncoder, TorchBackbone
from converters.image_front import ImageFront
from converters.weights import StateDict


class Architectures(Protocol):
    """What a framework that builds networks by name has."""

    def create(self, record: ModelRecord, architecture: str) -> ImageClassifier | ImageEncoder:
        """The architecture with fresh weights."""

    def rivals(self, architecture: str) -> tuple[str, ...]:
        """Other architectures that the same tensors may fit."""


def load(
    architectures: Architectures, files: Mapping[str, Path], record: ModelRecord, *, trust: bool
) -> TorchBackbone:
    """The weights in ``files`` in the record's architecture.

    Where the tensors' names are not the architecture's, they are mapped by order and shape and
    `converters.evidence` must find for the record's architecture and against its rivals.

    Raises:
        ConversionError: they do not fit, or the evidence is against it.
        UnsafeError: reading them could run code.
        IntegrityError: they are corrupted.
    """
    name = _architecture(record)
    state = weights.read(weights.weights_file(files), trust=trust)
    module = architectures.create(record, name)
    front = ImageFront.of(record)
    named = mapping.by_name(state, module.model)
    if named is not None:
        _fill(module.model, named)
        return TorchBackbone(module, record, front)
    _fill(module.model, mapping.by_order(state, module.model))
    if not isinstance(module, ImageClassifier):
        raise ConversionError(
            f"the tensors have other names than {name}'s, and without a classifier nothing shows "
            "that they are in their places",
            hint="look for the model under the names of its framework",
        )
    figures = evidence.weigh(module.eval(), front, record, state, architectures)
    return TorchBackbone(module, record, front, figures)


def fresh(architectures: Architectures, record: ModelRecord) -> TorchBackbone:
    """The record's architecture with the random weights that its framework gives it.

    Raises:
        ConversionError: it is unknown.
    """
    module = architectures.create(record, _architecture(record))
    return TorchBackbone(module, record, ImageFront.of(record))


def _fill(model: torch.nn.Module, state: StateDict) -> None:
    """Load the tensors as those of the architecture of now: MNASNet asks, files do not say."""
    named = OrderedDict(state)
    named._metadata = {"": {"version": model._version}}  # type: ignore[attr-defined]
    model.load_state_dict(named)


def _architecture(record: ModelRecord) -> str:
    if record.architecture is None:
        raise ConversionError(f"the record of {record.uid} names no architecture")
    return record.architecture
