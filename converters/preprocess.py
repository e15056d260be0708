"""From a decoded photo to the tensor the weights expect, twice: in torch and as ONNX nodes.

Both do what `catalog.record.Preprocess` says, as torchvision does it on a PIL image. The nodes
resize uint8 to uint8, as PIL does: with ``cubic_coeff_a=-0.5``, ``half_pixel``, ``antialias`` and
``exclude_outside`` they come within 1/255 of it. Sizes and offsets are torchvision's: the longer
side is truncated, the crop's offset rounded half to even. All four sizes are passed, since ONNX
Runtime's optimizer fails on ``Resize`` with ``axes``. The crop of transformers begins at the offset
rounded down (``crop_offset``).

A resize is two passes, rounded to 8 bits after each, so their order shows. ONNX Runtime resizes
horizontally first, as Pillow always did; since version 13 Pillow begins vertically where height
shrinks much more than width (python-pillow#9549). The torch side keeps the old order, the one
that published weights were trained and measured with.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from catalog.errors import ConversionError
from catalog.record import ModelRecord, Preprocess

if TYPE_CHECKING:
    import torch
    from onnx import NodeProto, TensorProto

_ONNX_RESIZE: dict[str, dict[str, Any]] = {
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5, "antialias": 1, "exclude_outside": 1},
    "bilinear": {"mode": "linear", "antialias": 1, "exclude_outside": 1},
}


def recipe(record: ModelRecord) -> tuple[Preprocess, tuple[int, int]]:
    """How a record's photos are prepared, and (height, width) of the tensor that makes.

    Raises:
        ConversionError: the record does not say, or says what cannot be done in a graph.
    """
    size, preprocess = record.input_size, record.preprocess
    if size is None or len(size) != 3 or size[0] != 3 or preprocess is None:
        raise ConversionError(
            f"the record of {record.uid} does not say how to prepare an RGB image "
            f"(input_size {size}, preprocess {preprocess})"
        )
    if preprocess.interpolation not in _ONNX_RESIZE:
        raise ConversionError(
            f"{record.uid} resizes with {preprocess.interpolation}, which ONNX cannot do exactly"
        )
    if not 0 < preprocess.crop_pct <= 1:
        raise ConversionError(
            f"{record.uid} has a crop_pct of {preprocess.crop_pct}, not in (0, 1]"
        )
    if preprocess.resize_mode == "shortest" and size[1] != size[2]:
        raise ConversionError(f"{record.uid} resizes the shorter side for a crop of {size[1:]}")
    return preprocess, (size[1], size[2])


def resized_side(side: int, preprocess: Preprocess) -> int:
    """What a side is resized to before the crop.

    A fraction made of whole numbers (224/232) must give that number back: hence the epsilon.
    """
    return math.floor(side / preprocess.crop_pct + 1e-6)


def pixel_values(
    image: NDArray[np.uint8], preprocess: Preprocess, size: tuple[int, int], *, crop: bool = True
) -> torch.Tensor:
    """The tensor float32 (3, H, W) of an image uint8 (height, width, 3), by torchvision and PIL.

    Without ``crop`` all of the resized photo is kept.
    """
    from torchvision.transforms import functional as transforms

    height, width = (resized_side(side, preprocess) for side in size)
    if preprocess.resize_mode == "shortest":
        shorter = min(image.shape[:2])
        height, width = (side * height // shorter for side in image.shape[:2])
    filter_ = Image.Resampling[preprocess.interpolation.upper()]
    photo = Image.fromarray(image)
    photo = photo.resize((width, photo.height), filter_).resize((width, height), filter_)
    if crop:
        margins = ((height - size[0]) / 2, (width - size[1]) / 2)
        floors = preprocess.crop_offset == "floor"
        top, left = (math.floor(m) if floors else round(m) for m in margins)
        photo = transforms.crop(photo, top, left, *size)
    tensor = transforms.to_tensor(photo)
    normal: torch.Tensor = transforms.normalize(tensor, list(preprocess.mean), list(preprocess.std))
    return normal


def onnx_nodes(
    preprocess: Preprocess, size: tuple[int, int], *, source: str, target: str, crop: bool = True
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes and constants from ``source`` uint8 (N, H, W, 3) to ``target`` float32 (N, 3, *)."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        name = output if output == target else f"preprocess/{output}"
        nodes.append(
            helper.make_node(op, inputs, [name], name=f"preprocess/{op}_{output}", **attributes)
        )
        return name

    def constant(name: str, value: Any, dtype: type) -> str:
        name = f"preprocess/{name}"
        constants.append(numpy_helper.from_array(np.array(value, dtype=dtype), name))
        return name

    chw = node("Transpose", [source], "chw", perm=[0, 3, 1, 2])
    batch_channels = node("Shape", [chw], "batch_channels", start=0, end=2)
    goal = [resized_side(side, preprocess) for side in size]
    if preprocess.resize_mode == "shortest":
        shortest = constant("shortest", goal[:1], np.int64)
        hw = node("Shape", [chw], "height_width", start=2, end=4)
        shorter = node("ReduceMin", [hw], "shorter", keepdims=1)
        scaled = node("Mul", [hw, shortest], "scaled")
        resized = node("Div", [scaled, shorter], "resized_size")
    else:
        resized = constant("resized_size", goal, np.int64)
    sizes = node("Concat", [batch_channels, resized], "sizes", axis=0)
    pixels = node(
        "Resize",
        [chw, "", "", sizes],
        "resized",
        coordinate_transformation_mode="half_pixel",
        **_ONNX_RESIZE[preprocess.interpolation],
    )

    if crop:
        kept = constant("crop_size", size, np.int64)
        margin = node("Sub", [resized, kept], "margin")
        if preprocess.crop_offset == "floor":
            start = node("Div", [margin, constant("two", 2, np.int64)], "start")
        else:
            margin = node("Cast", [margin], "margin_float", to=TensorProto.FLOAT)
            half = node("Mul", [margin, constant("half", 0.5, np.float32)], "margin_half")
            start = node(
                "Cast", [node("Round", [half], "start_float")], "start", to=TensorProto.INT64
            )
        end = node("Add", [start, kept], "end")
        axes = constant("spatial_axes", [2, 3], np.int64)
        pixels = node("Slice", [pixels, start, end, axes], "cropped")

    def channels(name: str, values: tuple[float, ...]) -> str:
        return constant(name, np.reshape(values, (1, 3, 1, 1)), np.float32)

    # The operations of torchvision's to_tensor and normalize in their order: equal to the bit.
    unit = node("Cast", [pixels], "float", to=TensorProto.FLOAT)
    unit = node("Div", [unit, constant("white", 255, np.float32)], "unit")
    centered = node("Sub", [unit, channels("mean", preprocess.mean)], "centered")
    node("Div", [centered, channels("std", preprocess.std)], target)
    return nodes, constants


def description(preprocess: Preprocess, size: tuple[int, int]) -> dict[str, Any]:
    """What the graph does to a photo, for whoever reads its metadata."""
    return {
        "in_graph": True,
        "input": "uint8 RGB (batch, height, width, 3) of any size",
        "resize_mode": preprocess.resize_mode,
        "resized_to": [resized_side(side, preprocess) for side in size],
        "interpolation": preprocess.interpolation,
        "crop": list(size),
        "crop_offset": preprocess.crop_offset,
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
    }
