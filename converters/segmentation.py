"""Segmentation: a network that gives every pixel a class, and the way from a photo and back to it.

The photo's shorter side is resized and nothing is cropped, so that the network's height and width
vary. `logits` are of the resized photo. `class_map` has the photo's own size: each of its pixels
has the class of the network's pixel that it lies in, reckoned in whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from catalog.errors import ConversionError
from catalog.record import ModelRecord, Preprocess
from converters import preprocess
from converters.backbone import Given, Network
from converters.image_front import put_in_front
from converters.interface import BATCH_SIZES, CLASS_MAP, IMAGE, LOGITS, PIXEL_VALUES

if TYPE_CHECKING:
    import onnx

Photo = NDArray[np.uint8]  # (H, W, 3)

MOST_CLASSES = 256  # of what one byte can number


class Segmenter(Network):
    """A segmentation network of torchvision, which gives a mapping with its logits as ``out``.

    ``forward`` takes ``pixel_values`` float32 (N, 3, H, W) and returns ``logits`` (N, classes, H,
    W).
    """

    inputs = (PIXEL_VALUES,)
    outputs = (LOGITS,)
    activation = None

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
        """The logits of every pixel."""
        return (self.model(pixel_values)["out"],)


@dataclass(frozen=True)
class SegmentationFront:
    """Photos uint8 (N, height, width, 3) to float32 (N, 3, H, W), the shorter of them ``side``."""

    preprocess: Preprocess
    side: int
    dynamic: tuple[dict[int, str], ...] = ({0: "batch", 2: "resized_height", 3: "resized_width"},)

    @classmethod
    def of(cls, record: ModelRecord, how: Preprocess, side: int) -> SegmentationFront:
        """As ``how`` says.

        Raises:
            ConversionError: there are more classes than the map can have.
        """
        if (record.num_classes or 0) > MOST_CLASSES:
            raise ConversionError(
                f"{record.uid} has {record.num_classes} classes, a class map up to {MOST_CLASSES}"
            )
        return cls(how, side)

    def example(self) -> tuple[torch.Tensor, ...]:
        """Two black photos; height and width are of no size that a network has for a constant."""
        return (torch.zeros(2, 3, 131, 173),)

    def tensors(self, given: Given) -> tuple[torch.Tensor, ...]:
        """The ``pixel_values`` of ``image``."""
        return (torch.stack([self._pixel_values(photo) for photo in given[IMAGE]]),)

    def _pixel_values(self, photo: Photo) -> torch.Tensor:
        size = (self.side, self.side)
        return preprocess.pixel_values(photo, self.preprocess, size, crop=False)

    def samples(self) -> list[Photo]:
        """Two photos, and a small odd piece of one."""
        from converters.evidence import sample_photos

        photos = [*sample_photos().values()]
        return [*photos, np.ascontiguousarray(photos[0][150:211, 200:297])]

    def exact(self, samples: Sequence[Photo]) -> dict[str, Given]:
        """Images that a resize leaves as they are: noise of three shapes, and a photo."""
        random = np.random.default_rng(0)
        shapes = [(self.side, self.side + 31), (self.side + 18, self.side), (self.side, self.side)]
        batches = {
            f"noise-{size}": random.integers(0, 256, (size, *shape, 3), np.uint8)
            for size, shape in zip(BATCH_SIZES, shapes, strict=True)
        }
        for photo in samples[:1]:
            shorter = min(photo.shape[:2])
            height, width = (self.side * length // shorter for length in photo.shape[:2])
            resized = Image.fromarray(photo).resize((width, height))
            batches["resized-photo"] = np.asarray(resized)[None]
        return {name: {IMAGE: batch} for name, batch in batches.items()}

    def real(self, samples: Sequence[Photo]) -> dict[str, Given]:
        """Photos of other sizes: they show the resize, each side doing its own."""
        return {f"photo-{n}": {IMAGE: photo[None]} for n, photo in enumerate(samples)}

    def attach(self, model: onnx.ModelProto) -> None:
        """Put the preprocessing in front of the network, and the class map behind it."""
        from onnx import TensorProto, helper

        graph = model.graph
        nodes, constants = preprocess.onnx_nodes(
            self.preprocess,
            (self.side, self.side),
            source=IMAGE,
            target=PIXEL_VALUES,
            crop=False,
        )
        put_in_front(graph, nodes, constants)
        behind, more = _class_map_nodes()
        graph.node.extend(behind)
        graph.initializer.extend(more)
        photo: list[str | int | None] = ["batch", "height", "width"]
        graph.output.append(helper.make_tensor_value_info(CLASS_MAP, TensorProto.UINT8, photo))

    def description(self) -> dict[str, Any]:
        """What the graph does to a photo, and what it gives."""
        return {
            "in_graph": True,
            "input": "uint8 RGB (batch, height, width, 3) of any size",
            "resize_mode": self.preprocess.resize_mode,
            "resized_to": self.side,
            "interpolation": self.preprocess.interpolation,
            "crop": None,
            "mean": list(self.preprocess.mean),
            "std": list(self.preprocess.std),
            "outputs": {
                LOGITS: "float32 (batch, classes, height, width) of the resized photo",
                CLASS_MAP: "uint8 (batch, height, width) of the photo: the number of the class",
            },
        }


def class_map(logits: NDArray[np.float32], height: int, width: int) -> NDArray[np.uint8]:
    """What the graph makes of ``logits`` (N, classes, H, W): uint8 (N, height, width)."""
    classes = logits.argmax(1).astype(np.uint8)
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip((height, width), logits.shape[2:], strict=True)
    )
    spread: NDArray[np.uint8] = classes[:, rows][:, :, columns]
    return spread


def _class_map_nodes() -> tuple[Iterable[onnx.NodeProto], Iterable[onnx.TensorProto]]:
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[onnx.NodeProto] = []

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        name = output if output == CLASS_MAP else f"{CLASS_MAP}/{output}"
        nodes.append(helper.make_node(op, inputs, [name], name=f"{CLASS_MAP}/{op}_{output}"))
        nodes[-1].attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        return name

    zero, one, two = (f"{CLASS_MAP}/{name}" for name in ("zero", "one", "two"))
    constants = [
        numpy_helper.from_array(np.array(value, np.int64), name)
        for value, name in enumerate((zero, one, two))
    ]
    best = node("ArgMax", [LOGITS], "best", axis=1, keepdims=0)
    classes = node("Cast", [best], "classes", to=TensorProto.UINT8)
    for axis, side in ((1, "height"), (2, "width")):
        length = [axis, axis + 1]
        new = node("Shape", [IMAGE], f"photo_{side}", start=length[0], end=length[1])
        new = node("Squeeze", [new], f"new_{side}")
        old = node("Shape", [LOGITS], f"logits_{side}", start=length[0] + 1, end=length[1] + 1)
        centers = node("Range", [zero, new, one], f"{side}_range")
        centers = node("Add", [node("Mul", [centers, two], f"{side}_even"), one], f"{side}_odd")
        scaled = node("Mul", [centers, old], f"{side}_scaled")
        places = node("Div", [scaled, node("Mul", [new, two], f"{side}_twice")], f"{side}_places")
        last = CLASS_MAP if axis == 2 else f"{side}_gathered"
        classes = node("Gather", [classes, places], last, axis=axis)
    return nodes, constants
