"""Detection: a network that finds things in one photo, and gives as many as there are.

torchvision's detectors resize and normalize the photo themselves, so that their part of the graph
begins with its pixels in 0..1, of its own size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.onnx.operators
from numpy.typing import NDArray

from converters.backbone import Given, Network
from converters.image_front import put_in_front
from converters.interface import (
    BOXES,
    IMAGE,
    KEYPOINT_SCORES,
    KEYPOINTS,
    MASKS,
    NUMBERS,
    PIXEL_VALUES,
    SCORES,
)

if TYPE_CHECKING:
    import onnx

Photo = NDArray[np.uint8]  # (H, W, 3)

_MEANING = {
    BOXES: "float32 (found, 4): left, top, right, bottom in pixels of the photo",
    NUMBERS: "int64 (found,): the number of the label",
    SCORES: "float32 (found,) in 0..1, the best first",
    MASKS: "float32 (found, 28, 28) in 0..1, spread over the box; over 0.5 is of the thing",
    KEYPOINTS: "float32 (found, points, 3): x and y in pixels of the photo, and 1",
    KEYPOINT_SCORES: "float32 (found, points): logits",
}


class Detector(Network):
    """A detector of torchvision.

    ``forward`` takes ``pixel_values`` float32 (1, 3, H, W) in 0..1 and returns ``boxes`` (M, 4) in
    its pixels, ``labels`` int64 (M,) and ``scores`` (M,), the best first; ``masks`` (M, h, w) of
    what is within each box, ``keypoints`` (M, K, 3) and ``keypoint_scores`` (M, K), where the
    network has them.
    """

    inputs = (PIXEL_VALUES,)
    activation = None
    # torch.export cannot follow torchvision's suppression of boxes, whose number it does not know
    # (`batched_nms` asks whether there are any).
    traced = "torch.export cannot follow how many boxes torchvision keeps"

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model)
        heads = getattr(model, "roi_heads", None)
        self.outputs = (BOXES, NUMBERS, SCORES)
        if heads is not None and heads.has_mask():
            self.outputs += (MASKS,)
        if heads is not None and heads.has_keypoint():
            self.outputs += (KEYPOINTS, KEYPOINT_SCORES)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What is found in the one photo."""
        photo = pixel_values[0]
        with _exact_sizes(self.model.transform):
            if MASKS not in self.outputs:
                [found] = self.model([photo])
            else:
                found = self._with_masks(photo)
        found[KEYPOINT_SCORES] = found.get("keypoints_scores")
        return tuple(found[name] for name in self.outputs)

    def _with_masks(self, photo: torch.Tensor) -> dict[str, torch.Tensor]:
        """What `GeneralizedRCNN` does, but that the masks are not laid over the whole photo."""
        model: Any = self.model
        images, _ = model.transform([photo])
        features = model.backbone(images.tensors)
        proposals, _ = model.rpn(images, features)
        [found], _ = model.roi_heads(features, proposals, images.image_sizes)
        masks = found.pop(MASKS)
        [found] = model.transform.postprocess([found], images.image_sizes, [photo.shape[-2:]])
        return {**found, MASKS: masks[:, 0]}


@contextmanager
def _exact_sizes(transform: Any) -> Iterator[None]:
    """While it is traced, have the photo's new size reckoned in float64, as when it is not.

    torchvision traces it in float32, and rounds down: 319 where it should be 320.
    """
    if not torch.onnx.is_in_onnx_export() or transform.fixed_size is not None:
        yield
        return
    transform.resize = partial(_resized, transform.min_size[-1], transform.max_size)
    try:
        yield
    finally:
        del transform.resize


def _resized(
    shortest: int, longest: int, image: torch.Tensor, target: None = None
) -> tuple[torch.Tensor, None]:
    sides = torch.onnx.operators.shape_as_tensor(image)[-2:].to(torch.float64)
    goal = torch.tensor([shortest, longest], dtype=torch.float64)  # a number would be float32
    scale = (goal / torch.stack([sides.min(), sides.max()])).min()
    size = torch.floor(sides * scale).to(torch.int64)
    resized = torch.nn.functional.interpolate(
        image[None],
        size=(size[0], size[1]),  # type: ignore[arg-type]  # numbers would be constants
        mode="bilinear",
        align_corners=False,
    )
    return resized[0], target


@dataclass(frozen=True)
class DetectionFront:
    """One photo uint8 (1, height, width, 3) of any size to float32 (1, 3, height, width)."""

    outputs: tuple[str, ...]
    dynamic: tuple[dict[int, str], ...] = ({2: "height", 3: "width"},)

    def example(self) -> tuple[torch.Tensor, ...]:
        """A photo with things in it: what is not found is not traced."""
        [photo, *_] = self.samples()
        return self.tensors({IMAGE: photo[None]})

    def tensors(self, given: Given) -> tuple[torch.Tensor, ...]:
        """The ``pixel_values`` of ``image``."""
        photo = torch.from_numpy(given[IMAGE]).permute(0, 3, 1, 2)
        return (photo.to(torch.float32) / 255,)

    def samples(self) -> list[Photo]:
        """Two photos, a tall strip of one and a small odd piece of it."""
        from converters.evidence import sample_photos

        photos = [*sample_photos().values()]
        pieces = photos[0][:, :201], photos[0][150:211, 200:297]
        return [*photos, *map(np.ascontiguousarray, pieces)]

    def exact(self, samples: Sequence[Photo]) -> dict[str, Given]:
        """Each photo, and noise: before the network is nothing that rounds."""
        noise = np.random.default_rng(0).integers(0, 256, (1, 150, 203, 3), np.uint8)
        photos = {f"photo-{n}": {IMAGE: photo[None]} for n, photo in enumerate(samples)}
        return {**photos, "noise": {IMAGE: noise}}

    def real(self, samples: Sequence[Photo]) -> dict[str, Given]:  # noqa: ARG002 - a Front
        """Nothing more."""
        return {}

    def attach(self, model: onnx.ModelProto) -> None:
        """Put the way from bytes to the network's tensor in front."""
        from onnx import TensorProto, helper, numpy_helper

        white = numpy_helper.from_array(np.array(255, np.float32), "preprocess/white")
        steps = (("Transpose", [IMAGE], "chw"), ("Cast", ["preprocess/chw"], "float"))
        nodes = [
            helper.make_node(op, given, [f"preprocess/{to}"], name=f"preprocess/{op}_{to}")
            for op, given, to in steps
        ]
        nodes[0].attribute.append(helper.make_attribute("perm", [0, 3, 1, 2]))
        nodes[1].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        nodes.append(
            helper.make_node(
                "Div", ["preprocess/float", white.name], [PIXEL_VALUES], name="preprocess/Div_unit"
            )
        )
        put_in_front(model.graph, nodes, [white], batch=1)

    def description(self) -> dict[str, Any]:
        """What the graph does to a photo, and what it gives."""
        return {
            "in_graph": True,
            "input": "uint8 RGB (1, height, width, 3) of any size, one photo at a time",
            "resize_mode": "by the network itself",
            "outputs": {name: _MEANING[name] for name in self.outputs},
        }
