"""The way from decoded photos to `pixel_values`: by torchvision and PIL, and in the graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from catalog.record import ModelRecord, Preprocess
from converters import preprocess
from converters.backbone import Given
from converters.interface import BATCH_SIZES, IMAGE, PIXEL_VALUES

if TYPE_CHECKING:
    import onnx

Photo = NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True)
class ImageFront:
    """Photos uint8 (N, height, width, 3) of any size to float32 (N, 3, *size), in the graph."""

    preprocess: Preprocess
    size: tuple[int, int]  # (height, width)
    dynamic: tuple[dict[int, str], ...] = ({0: "batch"},)

    @classmethod
    def of(cls, record: ModelRecord) -> ImageFront:
        """As the record says.

        Raises:
            ConversionError: it does not say, or what cannot be done in a graph.
        """
        return cls(*preprocess.recipe(record))

    def example(self) -> tuple[torch.Tensor, ...]:
        """Two black photos."""
        return (torch.zeros(2, 3, *self.size),)

    def pixel_values(self, photos: Iterable[Photo]) -> torch.Tensor:
        """Photos of any sizes as one float32 (N, 3, *size)."""
        return torch.stack(
            [preprocess.pixel_values(photo, self.preprocess, self.size) for photo in photos]
        )

    def tensors(self, given: Given) -> tuple[torch.Tensor, ...]:
        """The ``pixel_values`` of ``image``."""
        return (self.pixel_values(given[IMAGE]),)

    def samples(self) -> list[Photo]:
        """Two photos in several shapes: each as it is, a tall strip of it, a small odd piece."""
        from converters.evidence import sample_photos

        return views_of(sample_photos().values())

    def exact(self, samples: Sequence[Photo]) -> dict[str, Given]:
        """Images that a resize leaves as they are: noise of three shapes, and the photos.

        Everything after the resize is the same to the bit, so they show the network, the crop, the
        order of channels and the normalization without the graph being cut open.
        """
        height, width = (preprocess.resized_side(side, self.preprocess) for side in self.size)
        shapes = [(height, width)] * 3
        if self.preprocess.resize_mode == "shortest":  # the longer side is only cropped
            shapes = [(height, width), (height, width + 31), (height + 18, width)]
        random = np.random.default_rng(0)
        batches = {
            f"noise-{size}": random.integers(0, 256, (size, *shape, 3), np.uint8)
            for size, shape in zip(BATCH_SIZES, shapes, strict=True)
        }
        resized = [Image.fromarray(photo).resize((width, height)) for photo in samples]
        batches["resized-photos"] = np.stack([np.asarray(photo) for photo in resized])
        return {name: {IMAGE: batch} for name, batch in batches.items()}

    def real(self, samples: Sequence[Photo]) -> dict[str, Given]:
        """Photos of other sizes: they show the resize, each side doing its own."""
        return {f"photo-{n}": {IMAGE: photo[None]} for n, photo in enumerate(samples)}

    def attach(self, model: onnx.ModelProto) -> None:
        """Put the preprocessing in front of the network."""
        nodes, constants = preprocess.onnx_nodes(
            self.preprocess, self.size, source=IMAGE, target=PIXEL_VALUES
        )
        put_in_front(model.graph, nodes, constants)

    def description(self) -> dict[str, Any]:
        """What the graph does to a photo."""
        return preprocess.description(self.preprocess, self.size)


def views_of(photos: Iterable[Photo]) -> list[Photo]:
    """Photos in several shapes: each as it is, a tall strip of it, and a small odd piece."""
    return [
        np.ascontiguousarray(view)
        for photo in photos
        for view in (photo, photo[:, :201], photo[150:211, 200:297])
    ]


def put_in_front(
    graph: onnx.GraphProto,
    nodes: Iterable[onnx.NodeProto],
    constants: Iterable[onnx.TensorProto],
    batch: str | int = "batch",
) -> None:
    """Have a graph take photos: ``nodes`` make its one input, ``pixel_values``, of ``image``."""
    from onnx import TensorProto, helper

    network = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *network])
    graph.initializer.extend(constants)
    [pixel_values] = graph.input
    graph.value_info.append(pixel_values)
    del graph.input[:]
    shape: list[str | int | None] = [batch, "height", "width", 3]
    graph.input.append(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, shape))
