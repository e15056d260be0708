"""What a graph of somebody else's can be given: random tensors of the kinds that it asks for.

Names, types and shapes are all that a graph says of its inputs. What cannot be told from them
(sizes that a network needs to be multiples of 32, a height of 48) is found by trying.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from catalog.errors import ConversionError
from converters.backbone import Given

# Of what varies beside the batch: (height, width) of images, and lengths of anything else.
_IMAGE_SIZES = ((224, 224), (48, 192), (64, 96), (320, 256), (32, 100))
_LENGTHS = (7, 33, 16, 128)
_MOST_ELEMENTS = 1 << 28
_TOKENS = 256  # of a vocabulary whose size the graph does not show
_THROUGH = {"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Flatten"}

Sizes = Mapping[str, int]  # of the dimensions that vary, by their names


@dataclass(frozen=True)
class GraphInput:
    """A tensor that a graph must be given."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int | str, ...]  # a length, or the name of one that varies
    tokens: int | None = None  # it counts in a table of so many rows

    @property
    def is_image(self) -> bool:
        """Whether it looks like images, in either layout."""
        channels = {1, 3, 4}
        return len(self.dims) == 4 and bool({self.dims[1], self.dims[3]} & channels)


def inputs_of(model: onnx.ModelProto) -> tuple[GraphInput, ...]:
    """The inputs of a graph that are no weights; lengths that vary have names.

    Raises:
        ConversionError: one is no tensor.
    """
    weights = {item.name for item in model.graph.initializer}
    found = []
    for item in model.graph.input:
        if item.name in weights:
            continue
        if not item.type.HasField("tensor_type"):
            raise ConversionError(f"the input {item.name} of the graph is no tensor")
        kind = item.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if not kind.HasField("shape"):
            raise ConversionError(f"the graph does not say what shape its input {item.name} has")
        dims = tuple(_dim(item.name, n, dim) for n, dim in enumerate(kind.shape.dim))
        found.append(GraphInput(item.name, dtype, dims, _rows(model.graph, item.name)))
    if not found:
        raise ConversionError("the graph takes no input")
    return tuple(found)


def name_dims(model: onnx.ModelProto) -> None:
    """Give what varies in the inputs a name, where it has none that means anything."""
    for item in model.graph.input:
        for n, dim in enumerate(item.type.tensor_type.shape.dim):
            known = _dim(item.name, n, dim)
            if isinstance(known, str) and known != dim.dim_param:
                dim.dim_param = known
    for item in [*model.graph.output, *model.graph.value_info]:
        for dim in item.type.tensor_type.shape.dim:
            if dim.dim_value < 0 or dim.dim_param == "?":
                dim.Clear()


def situations(inputs: Sequence[GraphInput], image: tuple[int, int] | None) -> list[Sizes]:
    """Sizes to try for what varies beside the batch; ``image`` is the likeliest (height, width).

    Raises:
        ConversionError: a tensor would be absurdly large whatever is tried.
    """
    free = [dim for item in inputs for dim in item.dims if isinstance(dim, str)]
    batch = {item.dims[0] for item in inputs if item.dims and isinstance(item.dims[0], str)}
    pictures = _spatial(inputs)
    found: list[Sizes] = []
    images = [*([image] if image else []), *_IMAGE_SIZES]
    for (height, width), length in zip(images, itertools.cycle(_LENGTHS), strict=False):
        sizes = dict.fromkeys(free, length)
        for name, axis in pictures.items():
            sizes[name] = (height, width)[axis]
        for name in set(free) - set(pictures):
            parts = [part.strip() for part in name.split("+")]
            if len(parts) > 1 and all(part in sizes or part.isdigit() for part in parts):
                sizes[name] = sum(sizes.get(p, 0) or int(p) for p in parts)
        sizes |= {str(name): 1 for name in batch}
        if sizes not in found:
            found.append(sizes)
    small = [sizes for sizes in found if _elements(inputs, sizes) <= _MOST_ELEMENTS]
    if not small:
        largest = _elements(inputs, found[0])
        raise ConversionError(f"the graph asks for {largest:.1e} numbers at once")
    return small


def batch_of(inputs: Sequence[GraphInput], sizes: Sizes, count: int, seed: int) -> Given:
    """Random tensors for ``count`` at once, or for as many as the graph is made for."""
    batch = {item.dims[0] for item in inputs if item.dims and isinstance(item.dims[0], str)}
    sizes = {**sizes, **{str(name): count for name in batch}}
    random = np.random.default_rng(seed)
    return {item.name: _tensor(item, _shape(item, sizes), random, seed) for item in inputs}


def _dim(name: str, axis: int, dim: onnx.TensorShapeProto.Dimension) -> int | str:
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return int(dim.dim_value)
    if re.search(r"\w", dim.dim_param):
        return str(dim.dim_param)
    return "batch" if axis == 0 else f"{name}_{axis}"


def _spatial(inputs: Sequence[GraphInput]) -> dict[str, int]:
    """Names of heights (0) and widths (1) of images."""
    found: dict[str, int] = {}
    for item in inputs:
        if item.is_image:
            first = 2 if item.dims[1] in {1, 3, 4} else 1
            for axis in (0, 1):
                dim = item.dims[first + axis]
                if isinstance(dim, str):
                    found.setdefault(dim, axis)
    return found


def _shape(item: GraphInput, sizes: Sizes) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in item.dims)


def _elements(inputs: Sequence[GraphInput], sizes: Sizes) -> int:
    return max(math.prod(_shape(item, sizes)) for item in inputs)


def _tensor(
    item: GraphInput, shape: tuple[int, ...], random: np.random.Generator, seed: int
) -> NDArray[Any]:
    name, kind = item.name.lower(), item.dtype.kind
    if kind in "OUS":
        return random.choice(np.array(["a", "the cat sat", "42"]), shape)
    if kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if "mask" in name:
        mask = np.ones(shape, item.dtype)
        if len(shape) == 2 and shape[0] > 1 and shape[1] > 2:  # one of them is shorter
            mask[-1, shape[1] // 2 :] = 0
        return mask
    if kind == "f":
        noise = random.random(shape) if item.is_image and seed % 2 else random.normal(size=shape)
        return noise.astype(item.dtype)
    if item.dtype.itemsize == 1:
        limits = np.iinfo(item.dtype)
        return random.integers(limits.min, limits.max, shape, item.dtype, endpoint=True)
    if not shape or shape == (1,):  # a choice: a rate, a length, a number of steps
        return np.full(shape, 16000 if name in {"sr", "sample_rate"} else 1, item.dtype)
    if "type" in name or "segment" in name:
        return random.integers(0, 2, shape).astype(item.dtype)
    if "position" in name:
        return np.broadcast_to(np.arange(shape[-1]), shape).astype(item.dtype)
    return random.integers(0, item.tokens or _TOKENS, shape).astype(item.dtype)


def _rows(graph: onnx.GraphProto, name: str) -> int | None:
    """How many rows the smallest table has that an input looks things up in."""
    tables = {item.name: int(item.dims[0]) for item in graph.initializer if len(item.dims) == 2}
    same, rows = {name}, []
    for node in graph.node:
        if node.op_type in _THROUGH and node.input and node.input[0] in same:
            same.add(node.output[0])
        elif node.op_type == "Gather" and node.input[1] in same and node.input[0] in tables:
            rows.append(tables[node.input[0]])
    return min(rows, default=None)
