"""The pooling of stages, as nodes of the graph: what a head is fitted on is what is exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from converters.interface import ATTENTION_MASK
from finetuning.stages import Stage

_OPSET = 13  # the first in which ReduceSum and Unsqueeze take their axes as an input


def can_pool(model: onnx.ModelProto) -> bool:
    """Whether the graph's opset has the operators that pooling is made of."""
    versions = [item.version for item in model.opset_import if item.domain in {"", "ai.onnx"}]
    return max(versions, default=1) >= _OPSET


def with_stages(model: onnx.ModelProto, stages: Sequence[Stage]) -> onnx.ModelProto:
    """The graph with the vectors of these stages as its only outputs."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    add(changed.graph, stages)
    widths = {item.name: item for item in model.graph.output}
    outputs = [
        widths.get(stage.output)
        or helper.make_tensor_value_info(stage.output, TensorProto.FLOAT, None)
        for stage in stages
    ]
    del changed.graph.output[:]
    changed.graph.output.extend(outputs)
    return changed


def add(graph: onnx.GraphProto, stages: Sequence[Stage]) -> None:
    """Append the nodes that make the vectors of these stages."""
    made = {name for node in graph.node for name in node.output}
    for stage in stages:
        if stage.output in made:  # of a run, whose head is on this very stage
            continue
        nodes, constants = _of(stage)
        graph.node.extend(nodes)
        graph.initializer.extend(constants)


def _of(stage: Stage) -> tuple[list[NodeProto], list[TensorProto]]:
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        name = stage.output if output == "" else f"{stage.output}/{output}"
        nodes.append(helper.make_node(op, inputs, [name], name=f"{name}/{op}", **attributes))
        return name

    def constant(name: str, value: list[int]) -> str:
        name = f"{stage.output}/{name}"
        constants.append(numpy_helper.from_array(np.array(value, np.int64), name))
        return name

    def tokens(start: int, end: int) -> str:
        places = [constant("start", [start]), constant("end", [end]), constant("axis", [1])]
        return node("Slice", [stage.layer, *places], "tokens")

    def mean(maps: str) -> None:
        node("Flatten", [node("GlobalAveragePool", [maps], "mean")], "", axis=1)

    if stage.pool == "maps":
        mean(stage.layer)
    elif stage.pool == "maps, channels last":
        mean(node("Transpose", [stage.layer], "maps", perm=[0, 3, 1, 2]))
    elif stage.pool == "first token":
        node("Flatten", [tokens(0, 1)], "", axis=1)
    elif stage.pool == "patches":
        patches = tokens(stage.prefix, np.iinfo(np.int64).max)
        mean(node("Transpose", [patches], "channels", perm=[0, 2, 1]))
    elif stage.pool == "words":
        mask = node("Cast", [ATTENTION_MASK], "mask", to=TensorProto.FLOAT)
        axis = constant("axis", [1])
        total = node("MatMul", [node("Unsqueeze", [mask, axis], "row"), stage.layer], "total")
        count = node("ReduceSum", [mask, axis], "count", keepdims=1)
        node("Div", [node("Flatten", [total], "sum", axis=1), count], "")
    return nodes, constants
