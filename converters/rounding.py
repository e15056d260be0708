"""Weights rounded to int8 so that what a layer gives changes least, and not each weight.

To the nearest, the errors of a kernel's weights add up wherever its inputs are alike, on a flat
part of a photo for example. Here the weights of an output are rounded one after the other, and the
error of each is made up for by those that are left, by how they go together in the inputs seen
(second moments): GPTQ, Frantar et al. 2022, arXiv 2210.17323, algorithm 1 without its blocks. The
bias is the last of them and is not rounded, which makes up for the mean of the error as the bias
correction of Nagel et al. 2019 does (arXiv 1906.04721).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from converters.network import Batch, session_of

_DAMPING = 1e-2  # of the mean second moment, so that what was never seen is not relied on
_PLACES = 6144  # of a map, over all inputs, whose moments are taken
_LARGEST = 127


@dataclass(frozen=True)
class Rounded:
    """The weights and the bias of one node."""

    weight: str  # the names of its tensors
    bias: str
    values: NDArray[np.int8]
    biases: NDArray[np.float32]


@dataclass(frozen=True)
class _Layer:
    """A node with weights, as a matrix product: ``groups`` of rows of weights on patches."""

    node: onnx.NodeProto
    matrix: NDArray[np.float64]  # (groups, rows, weights of a row)
    bias: NDArray[np.float64]  # (groups, rows)
    scale: NDArray[np.float64]  # (groups, rows)
    kernel: tuple[int, ...]  # () of a Gemm


def rounded(
    network: onnx.ModelProto, scales: Mapping[str, NDArray[Any]], batches: Sequence[Batch]
) -> dict[str, Rounded]:
    """By the names of the nodes that have scales, weights and a bias: those rounded.

    ``scales`` are by the names of the weights, one for each output.
    """
    weights = {item.name: item for item in network.graph.initializer}
    layers = [
        layer for node in network.graph.node if (layer := _layer(node, weights, scales)) is not None
    ]
    moments = _moments(network, layers, batches)
    found = {}
    for layer, moment in zip(layers, moments, strict=True):
        values, biases = _round(layer, moment)
        weight, bias = layer.node.input[1], layer.node.input[2]
        shape = numpy_helper.to_array(weights[weight]).shape
        turned = layer.node.op_type == "Gemm" and not _attribute(layer.node, "transB", 0)
        values = values[0].T if turned else values.reshape(shape)
        found[layer.node.name] = Rounded(
            weight, bias, np.ascontiguousarray(values, np.int8), biases.ravel().astype(np.float32)
        )
    return found


def _layer(
    node: onnx.NodeProto,
    weights: Mapping[str, onnx.TensorProto],
    scales: Mapping[str, NDArray[Any]],
) -> _Layer | None:
    if node.op_type not in {"Conv", "Gemm"} or len(node.input) != 3 or node.input[1] not in scales:
        return None
    if node.input[1] not in weights or node.input[2] not in weights:
        return None
    array = numpy_helper.to_array(weights[node.input[1]]).astype(np.float64)
    bias = numpy_helper.to_array(weights[node.input[2]]).astype(np.float64)
    kernel: tuple[int, ...] = ()
    groups = 1
    if node.op_type == "Gemm":
        plain = all(_attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
        if not plain or _attribute(node, "transA", 0):
            return None
        array = array if _attribute(node, "transB", 0) else array.T
    else:
        if array.ndim != 4 or _attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
            return None
        kernel, groups = array.shape[2:], int(_attribute(node, "group", 1))
        array = array.reshape(len(array), -1)
    scale = np.broadcast_to(scales[node.input[1]].astype(np.float64), (len(array),))
    if bias.shape != (len(array),) or not (scale > 0).all():
        return None
    rows = len(array) // groups
    return _Layer(
        node,
        array.reshape(groups, rows, -1),
        bias.reshape(groups, rows),
        scale.reshape(groups, rows),
        kernel,
    )


def _moments(
    network: onnx.ModelProto, layers: Sequence[_Layer], batches: Sequence[Batch]
) -> list[NDArray[np.float64]]:
    """Of each layer (groups, n + 1, n + 1): the mean product of its inputs, a one behind them."""
    probe = onnx.ModelProto()
    probe.CopyFrom(network)
    del probe.graph.output[:]
    given = {item.name for item in probe.graph.input}
    names = sorted({layer.node.input[0] for layer in layers} - given)
    probe.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    session = session_of(probe) if names else None
    random = np.random.default_rng(0)
    sizes = [(len(layer.matrix), layer.matrix.shape[2] + 1) for layer in layers]
    moments = [np.zeros((groups, size, size)) for groups, size in sizes]
    seen = [0] * len(layers)
    for batch in batches:
        values = dict(batch)
        if session is not None:
            values |= zip(names, session.run(names, dict(batch)), strict=True)
        for n, layer in enumerate(layers):
            patches = _patches(layer, values[layer.node.input[0]], len(batches), random)
            patches = np.pad(patches, ((0, 0), (0, 0), (0, 1)), constant_values=1)
            moments[n] += patches.transpose(0, 2, 1) @ patches
            seen[n] += patches.shape[1]
    return [moment / count for moment, count in zip(moments, seen, strict=True)]


def _patches(
    layer: _Layer, values: NDArray[np.float32], batches: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """(groups, places, weights of a row): what the rows are multiplied with, at some places."""
    groups = len(layer.matrix)
    if not layer.kernel:
        return values.reshape(1, -1, values.shape[-1])
    node, (high, wide) = layer.node, layer.kernel
    top, left, bottom, right = _attribute(node, "pads", [0, 0, 0, 0])
    down, along = _attribute(node, "strides", [1, 1])
    spread = _attribute(node, "dilations", [1, 1])
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    height = (padded.shape[2] - spread[0] * (high - 1) - 1) // down + 1
    width = (padded.shape[3] - spread[1] * (wide - 1) - 1) // along + 1
    count = min(max(1, _PLACES // batches), len(values) * height * width)
    image = random.integers(0, len(values), count)
    y = random.integers(0, height, count)[:, None, None] * down
    x = random.integers(0, width, count)[:, None, None] * along
    y = y + (np.arange(high) * spread[0])[None, :, None]
    x = x + (np.arange(wide) * spread[1])[None, None, :]
    taken = padded[image[:, None, None], :, y, x]  # (places, high, wide, channels)
    taken = taken.transpose(0, 3, 1, 2).reshape(count, groups, -1)
    return np.ascontiguousarray(taken.transpose(1, 0, 2))


def _round(layer: _Layer, moments: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The integers (groups, rows, weights of a row) and the biases (groups, rows)."""
    size = moments.shape[-1]
    mean = np.trace(moments, axis1=1, axis2=2) / size
    damped = moments + (_DAMPING * mean + 1e-12)[:, None, None] * np.eye(size)
    inverse = np.linalg.inv(damped)
    upper = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2).transpose(0, 2, 1)
    upper = np.ascontiguousarray(upper, np.float32)
    left = np.concatenate([layer.matrix, layer.bias[:, :, None]], axis=2).astype(np.float32)
    values = np.empty_like(layer.matrix)
    for n in range(size - 1):
        values[:, :, n] = np.clip(np.rint(left[:, :, n] / layer.scale), -_LARGEST, _LARGEST)
        error = (left[:, :, n] - values[:, :, n] * layer.scale) / upper[:, n, n, None]
        left[:, :, n + 1 :] -= error[:, :, None] * upper[:, None, n, n + 1 :]
    return values, left[:, :, -1]


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default
