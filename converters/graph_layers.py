"""The layers of a graph that has no modules: the tensors that everything after them rests on.

Such a tensor is all that is known of the input at its place: it could be cut there. In a network
of blocks these are what the blocks give; within a block two ways lie side by side. Between two
layers at least one product with weights is computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from converters.folder import Layer
from converters.graph import read_by

_RECURRENT = ("LSTM", "GRU", "RNN")
_FEW = 32  # numbers in a constant that are no weights
# Products with weights, and where the weights are among their inputs.
_PRODUCTS = {
    "Conv": 1,
    "ConvInteger": 1,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
    "MatMulInteger": 1,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
    **dict.fromkeys(_RECURRENT, 1),
}
# What does not change the shape: norms and activations.
_FOLLOWERS = {
    *("Add", "BatchNormalization", "Clip", "Div", "Elu", "Gelu", "HardSigmoid", "HardSwish"),
    *("LayerNormalization", "LeakyRelu", "Mish", "Mul", "PRelu", "Relu", "Selu", "Sigmoid", "Sub"),
    *("Swish", "Tanh"),
}
_OF_CONSTANTS = {"Cast", "DequantizeLinear", "Div", "Identity", "Mul", "Sub", "Transpose"}


@dataclass(frozen=True)
class _Stretch:
    """What is computed between the layer before and this tensor, with it."""

    tensor: str
    nodes: tuple[onnx.NodeProto, ...]

    @property
    def products(self) -> tuple[onnx.NodeProto, ...]:
        return tuple(node for node in self.nodes if node.op_type in _PRODUCTS)


def to_measure(model: onnx.ModelProto) -> tuple[str, ...]:
    """The tensors whose shapes `layers_of` has to know."""
    names = []
    for stretch in _stretches(model):
        names.append(stretch.tensor)
        names += [node.output[0] for node in stretch.products]
        names += [node.input[0] for node in stretch.products if node.op_type == "ConvTranspose"]
    return tuple(dict.fromkeys(names))


def layers_of(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> tuple[Layer, ...]:
    """The layers in the order of computation; ``shapes`` are of tensors for one input."""
    weights, constants = _weights(model.graph), _constants(model.graph)
    seen: set[str] = set()
    layers = []
    for stretch in _stretches(model):
        used = {name for node in stretch.nodes for name in node.input} & constants.keys() - seen
        seen |= used
        shape = shapes.get(stretch.tensor, ())
        if len(shape) < 2:
            continue
        macs = sum(_macs(node, weights, shapes) for node in stretch.products)
        layers.append(
            Layer(
                name=stretch.tensor,
                type=stretch.nodes[-1].op_type,
                shape=tuple(shape[1:]),
                params=sum(math.prod(constants[name]) for name in used),
                gmacs=macs / 1e9,
            )
        )
    return tuple(layers)


def _stretches(model: onnx.ModelProto) -> list[_Stretch]:
    graph = model.graph
    weights = _weights(graph)
    outputs = {item.name for item in graph.output}
    last: dict[str, int] = {}  # where each tensor is used for the last time
    for place, node in enumerate(graph.node):
        last |= dict.fromkeys(read_by(node), place)
    last |= dict.fromkeys(outputs, len(graph.node))
    learned: set[str] = set()  # tensors that weights had a part in
    alive: set[str] = set()  # of these, those that are used later
    found: list[_Stretch] = []
    nodes: list[onnx.NodeProto] = []
    for place, node in enumerate(graph.node):
        nodes.append(node)
        read = read_by(node)
        made = {name for name in node.output if name} - weights.keys()
        by_weights = any(math.prod(weights[name]) > _FEW for name in read & weights.keys())
        if node.op_type not in {"Shape", "Size"} and (read & learned or by_weights):
            learned |= made
            alive |= made
        alive = {name for name in alive if last.get(name, -1) > place}
        if len(alive) != 1 or not alive <= made or alive & outputs:
            continue
        [tensor] = alive
        stretch = _Stretch(tensor, tuple(nodes))
        if stretch.products or not found:
            found.append(stretch)
            nodes = []
        elif node.op_type in _FOLLOWERS:  # they belong to the product before them
            found[-1] = _Stretch(tensor, (*found[-1].nodes, *nodes))
            nodes = []
    return [stretch for stretch in found if stretch.products]


def _constants(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Shapes of the constants, by name."""
    known = {item.name: tuple(item.dims) for item in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                known[node.output[0]] = tuple(attribute.t.dims)
    return known


def _weights(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """The same, and of what is made of constants alone: weights that are quantized."""
    known = _constants(graph)
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type in _OF_CONSTANTS and inputs and all(name in known for name in inputs):
            shape = max((known[name] for name in inputs), key=math.prod)
            known[node.output[0]] = shape[::-1] if node.op_type == "Transpose" else shape
    return known


def _macs(
    node: onnx.NodeProto,
    weights: Mapping[str, tuple[int, ...]],
    shapes: Mapping[str, Sequence[int]],
) -> int:
    place = _PRODUCTS[node.op_type]
    shape = weights.get(node.input[place]) if len(node.input) > place else None
    made = shapes.get(node.output[0], ())
    if not shape or not made:
        return 0
    if node.op_type in _RECURRENT:
        return made[0] * (math.prod(shape) + math.prod(weights.get(node.input[2], ())))
    if node.op_type == "ConvTranspose":
        return math.prod(shapes.get(node.input[0], (0,))) * math.prod(shape[1:])
    if "Conv" in node.op_type:
        return math.prod(made) * math.prod(shape[1:])
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return math.prod(made) * (shape[-1] if transposed else shape[-2:][0])
