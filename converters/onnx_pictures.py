"""A publisher's graph that classifies images, with the preparation of photos put in front.

Where the record says how photos are prepared, the graph gets what graphs of other frameworks have:
`image` as its input, and `logits`, `probabilities` and `embedding` as outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from catalog.errors import ConversionError
from catalog.record import ModelRecord
from converters.backbone import Given
from converters.graph_inputs import GraphInput
from converters.image_front import ImageFront
from converters.interface import EMBEDDING, LOGITS, PIXEL_VALUES, PROBABILITIES

_SAME = {"Identity", "Reshape", "Flatten", "Squeeze", "Cast"}  # the same numbers in their order
_BETWEEN = {"Add", *_SAME}  # a product and its logits
_ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}


@dataclass(frozen=True)
class Pictures:
    """Photos for the one input of somebody's graph."""

    front: ImageFront
    input: GraphInput
    channels_last: bool

    def samples(self) -> list[Any]:
        """As of the front."""
        return self.front.samples()

    def exact(self, samples: Sequence[Any]) -> dict[str, Given]:
        """As of the front; one photo at a time for a graph that takes no more."""
        return self._one_at_a_time(self.front.exact(samples))

    def real(self, samples: Sequence[Any]) -> dict[str, Given]:
        """As of the front."""
        return self.front.real(samples)

    def tensors(self, given: Given) -> dict[str, NDArray[Any]]:
        """What the publisher's graph is given: by torchvision and PIL."""
        [pixels] = self.front.tensors(given)
        array = pixels.numpy()
        if self.channels_last:
            array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
        return {self.input.name: array.astype(self.input.dtype)}

    def attach(self, model: onnx.ModelProto) -> None:
        """Put the preparation in front of the graph."""
        [theirs] = [item for item in model.graph.input if item.name == self.input.name]
        size = self.front.size
        kind = model.graph.input[0].type.tensor_type.elem_type
        if self.channels_last:
            node = helper.make_node("Transpose", [PIXEL_VALUES], [theirs.name], perm=[0, 2, 3, 1])
        else:
            node = helper.make_node("Cast", [PIXEL_VALUES], [theirs.name], to=kind)
        node.name = "preprocess/to_network"
        model.graph.node.insert(0, node)
        batch = theirs.type.tensor_type.shape.dim[0]
        known: int | str = batch.dim_value or "batch"
        pixels = helper.make_tensor_value_info(PIXEL_VALUES, TensorProto.FLOAT, [known, 3, *size])
        model.graph.value_info.append(theirs)
        model.graph.input.remove(theirs)
        model.graph.input.append(pixels)
        self.front.attach(model)
        if isinstance(known, int):
            model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = known

    def description(self) -> dict[str, Any]:
        """As of the front."""
        return self.front.description()

    def _one_at_a_time(self, batches: Mapping[str, Given]) -> dict[str, Given]:
        count = self.input.dims[0]
        if isinstance(count, str):
            return dict(batches)
        return {
            f"{name}-{n}": {key: array[n : n + count] for key, array in batch.items()}
            for name, batch in batches.items()
            for n in range(0, len(next(iter(batch.values()))) // count * count, count)
        }


def pictures(record: ModelRecord, inputs: Sequence[GraphInput]) -> Pictures | None:
    """The preparation of photos for a graph; None where that is not known, or not what it takes."""
    if record.preprocess is None or record.num_classes is None or len(inputs) != 1:
        return None
    [taken] = inputs
    if len(taken.dims) != 4 or taken.dtype.kind != "f" or 3 not in {taken.dims[1], taken.dims[3]}:
        return None
    channels_last = taken.dims[1] != 3
    front = ImageFront.of(record)
    height, width = taken.dims[1:3] if channels_last else taken.dims[2:4]
    for side, fixed in zip(front.size, (height, width), strict=True):
        if isinstance(fixed, int) and fixed != side:
            raise ConversionError(
                f"the graph takes images of {height} x {width}, the record says {front.size}"
            )
    if channels_last and taken.dtype != np.float32:
        return None
    return Pictures(front, taken, channels_last)


def name_outputs(model: onnx.ModelProto, classes: int) -> tuple[dict[str, str], str] | None:
    """The outputs of a classifier under the names that they have everywhere.

    Returns what each of them was called, and what makes probabilities of its logits, which may have
    been of another shape. None where no output has one number for each class.
    """
    graph = model.graph
    named = [o for o in graph.output if _shape(o)[1:] == (classes,)]
    if len(named) != 1:
        return None
    [answer] = named
    makers = {name: node for node in graph.node for name in node.output}
    logits, activation, between = _before_activation(makers, answer.name)
    renamed = {LOGITS: logits}
    embedding = _features(makers, logits)
    if embedding is not None:
        renamed[EMBEDDING] = embedding
    given = dict(renamed)
    if between - {"Cast", "Identity"}:
        row = numpy_helper.from_array(np.array([-1, classes], np.int64), f"{LOGITS}/row")
        graph.initializer.append(row)
        given[LOGITS] = f"{LOGITS}/rows"
        graph.node.append(helper.make_node("Reshape", [logits, row.name], [given[LOGITS]]))
    for ours, theirs in given.items():
        if "Cast" in between:  # a network in fp16
            node = helper.make_node("Cast", [theirs], [ours], name=ours, to=TensorProto.FLOAT)
        else:
            node = helper.make_node("Identity", [theirs], [ours], name=ours)
        graph.node.append(node)
    op = "Sigmoid" if activation == "sigmoid" else "Softmax"
    graph.node.append(helper.make_node(op, [LOGITS], [PROBABILITIES], name=PROBABILITIES))
    others = [item for item in graph.output if item.name != answer.name]
    batch = answer.type.tensor_type.shape.dim[0]
    shape: list[int | str | None] = [batch.dim_value or "batch", classes]
    del graph.output[:]
    for name in (LOGITS, PROBABILITIES):
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    if embedding is not None:
        wide = helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, [shape[0], None])
        graph.output.append(wide)
    graph.output.extend(others)
    return renamed | {item.name: item.name for item in others}, activation


def _before_activation(
    makers: Mapping[str, onnx.NodeProto], answer: str
) -> tuple[str, str, set[str]]:
    """What the last activation is given, its name, and the operators between it and the answer.

    What has none is logits, of which a softmax makes probabilities.
    """
    name, between = answer, set[str]()
    while (node := makers.get(name)) is not None:
        if node.op_type in _ACTIVATIONS:
            return node.input[0], _ACTIVATIONS[node.op_type], between
        if node.op_type not in _SAME:
            break
        between.add(node.op_type)
        name = node.input[0]
    return answer, "softmax", set()


def _features(makers: Mapping[str, onnx.NodeProto], logits: str) -> str | None:
    """What the product that gives the logits is given."""
    name = logits
    while (node := makers.get(name)) is not None:
        if node.op_type in {"Gemm", "MatMul"}:
            return str(node.input[0])
        if node.op_type not in _BETWEEN:
            return None
        name = next((n for n in node.input if n in makers), "")
    return None


def _shape(item: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    dims = item.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims)
