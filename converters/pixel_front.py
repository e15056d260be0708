"""Image networks whose photos no graph can prepare: they take their own tensors, or are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from catalog.errors import ConversionError
from converters.backbone import Given
from converters.image_front import Photo, views_of
from converters.interface import BATCH_SIZES, PIXEL_VALUES

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class PixelFront:
    """Tensors float32 (N, 3, *size) as the network takes them; of photos nothing is known."""

    size: tuple[int, int]  # (height, width)
    reason: str  # why no photo becomes such a tensor in the graph, as half a sentence
    dynamic: tuple[dict[int, str], ...] = ({0: "batch"},)

    def example(self) -> tuple[torch.Tensor, ...]:
        """Two black pictures."""
        return (torch.zeros(2, 3, *self.size),)

    def tensors(self, given: Given) -> tuple[torch.Tensor, ...]:
        """The arrays as they are."""
        return (torch.from_numpy(given[PIXEL_VALUES]),)

    def samples(self) -> list[Photo]:
        """Photos that ship with what is installed."""
        from converters.evidence import sample_photos

        return views_of(sample_photos().values())

    def exact(self, samples: Sequence[Photo]) -> dict[str, Given]:
        """Noise, and the photos squashed to size, in -1..1."""
        random = np.random.default_rng(0)
        batches = {
            f"noise-{count}": random.random((count, 3, *self.size), np.float32) * 2 - 1
            for count in BATCH_SIZES
        }
        height, width = self.size
        squashed = [np.asarray(Image.fromarray(photo).resize((width, height))) for photo in samples]
        photos = np.stack(squashed).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        return {
            name: {PIXEL_VALUES: array} for name, array in {**batches, "photos": photos}.items()
        }

    def real(self, samples: Sequence[Photo]) -> dict[str, Given]:  # noqa: ARG002 - a Front
        """Nothing: no way from photos is known."""
        return {}

    def attach(self, model: onnx.ModelProto) -> None:  # noqa: ARG002 - a Front
        """Refuse a graph that takes photos.

        Raises:
            ConversionError: always.
        """
        raise ConversionError(
            self.reason, hint="--no-preprocess makes a graph of the network alone"
        )

    def description(self) -> dict[str, Any]:
        """Why photos have to be prepared by whoever has them."""
        return {"in_graph": False, "why": self.reason, "size": list(self.size)}
