"""`TorchBackbone`: pretrained weights as a torch module, with what it takes to feed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from catalog.errors import ConversionError
from catalog.record import ModelRecord, Preprocess
from converters import preprocess
from converters.interface import EMBEDDING, LOGITS

OUTPUTS = (LOGITS, EMBEDDING)


class ImageClassifier(torch.nn.Module):
    """A network of some framework, with two outputs.

    ``forward`` takes ``pixel_values`` float32 (N, 3, H, W) and returns ``logits`` (N, classes) and
    ``embedding`` (N, features): what the classifier, ``head``, is given (pooled where it is given
    a map). ``model`` is the framework's own module, untouched.
    """

    def __init__(self, model: torch.nn.Module, head: str) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and embedding of a batch."""
        seen: list[torch.Tensor] = []
        hook = self.model.get_submodule(self.head).register_forward_pre_hook(
            lambda _module, arguments: seen.append(arguments[0])
        )
        try:
            logits = self.model(pixel_values)
        finally:
            hook.remove()
        embedding = seen[0]
        return logits, embedding.mean((2, 3)) if embedding.ndim == 4 else embedding


@dataclass(frozen=True)
class TorchBackbone:
    """Weights in their own framework, in evaluation mode on the CPU."""

    module: ImageClassifier
    record: ModelRecord
    preprocess: Preprocess
    input_size: tuple[int, int]  # (height, width)
    evidence: Mapping[str, Any] | None = None  # why these weights are this architecture

    @classmethod
    def of(
        cls,
        module: ImageClassifier,
        record: ModelRecord,
        evidence: Mapping[str, Any] | None = None,
    ) -> TorchBackbone:
        """The backbone of a module, prepared as its record says.

        Raises:
            ConversionError: the record does not say how.
        """
        recipe, size = preprocess.recipe(record)
        return cls(module.eval(), record, recipe, size, evidence)

    def pixel_values(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Images uint8 (H, W, 3) of any sizes as one float32 (N, 3, *input_size)."""
        return torch.stack(
            [preprocess.pixel_values(image, self.preprocess, self.input_size) for image in images]
        )

    def outputs(self, pixel_values: torch.Tensor) -> dict[str, NDArray[np.float32]]:
        """``logits`` and ``embedding`` of a prepared batch."""
        with torch.inference_mode():
            return {
                name: tensor.numpy()
                for name, tensor in zip(OUTPUTS, self.module(pixel_values), strict=True)
            }

    def features(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embeddings float32 (N, embed_dim) of images uint8 (H, W, 3), by torch alone."""
        batches = [
            self.outputs(self.pixel_values(images[start : start + 16]))["embedding"]
            for start in range(0, len(images), 16)
        ]
        return np.concatenate(batches)


def head_of(model: torch.nn.Module, record: ModelRecord) -> str:
    """The name of the classifier: the record's, else the last layer as wide as the classes.

    Raises:
        ConversionError: there is none.
    """
    if record.head is not None:
        try:
            model.get_submodule(record.head)
        except AttributeError:
            raise ConversionError(
                f"{record.architecture} has no module {record.head!r}, the head of {record.uid}"
            ) from None
        return record.head
    modules: list[tuple[str, torch.nn.Module]] = list(model.named_modules())
    for name, module in reversed(modules):
        width = getattr(module, "out_features", getattr(module, "out_channels", None))
        if width == record.num_classes:
            return name
    raise ConversionError(
        f"{record.architecture} has no classifier of {record.num_classes} classes"
    )
