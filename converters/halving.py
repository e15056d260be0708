"""A network in fp16 but for what would leave its range, by ONNX Runtime's own converter."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx

from converters.network import Batch, session_of

_LARGEST = 65504 / 8  # what a tensor may reach on the samples: other inputs reach further
_SUMS = {"ReduceMean", "ReduceSum", "GlobalAveragePool"}


def halved(network: onnx.ModelProto, floats: Collection[str]) -> onnx.ModelProto:
    """The network in fp16 but for the nodes of these names; inputs and outputs stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    _part_constants(copy.graph, floats)
    made: onnx.ModelProto = convert_float_to_float16(
        copy, keep_io_types=True, node_block_list=sorted(floats)
    )
    _join_casts(made.graph)
    return made


def _part_constants(graph: onnx.GraphProto, floats: Collection[str]) -> None:
    """Give nodes that stay in float constants of their own: the others' lose what fp16 has not."""
    halves = {name for node in graph.node if node.name not in floats for name in node.input}
    constants = {item.name: item for item in graph.initializer}
    for node in graph.node:
        for place, name in enumerate(node.input if node.name in floats else ()):
            if name in halves and name in constants:
                own = f"{name}/float"
                node.input[place] = own
                if own not in constants:
                    constants[own] = graph.initializer.add()
                    constants[own].CopyFrom(constants[name])
                    constants[own].name = own


def _join_casts(graph: onnx.GraphProto) -> None:
    """Let nodes in float hand their tensors to each other as they are.

    The converter casts what each gives to fp16 and back, which would be infinite, and casts a
    tensor anew, under one name, for each node that takes it.
    """
    halved = {n.output[0]: n.input[0] for n in graph.node if n.name.endswith("_cast_to_fp16_node")}
    same = {
        node.output[0]: halved[node.input[0]]
        for node in graph.node
        if node.name.endswith("_cast_to_fp32_node") and node.input[0] in halved
    }
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = same.get(name, name)
    used = {name for node in graph.node for name in node.input}
    used |= {item.name for item in graph.output}
    kept, seen = onnx.GraphProto(), set(same)
    for node in graph.node:
        needless = node.name.endswith("_cast_to_fp16_node") and node.output[0] not in used
        if node.output[0] not in seen and not needless:
            kept.node.append(node)
        seen |= {*node.output}
    del graph.node[:]
    graph.node.extend(kept.node)


def unsafe_nodes(network: onnx.ModelProto, batches: Sequence[Batch]) -> set[str]:
    """Nodes that take or give what fp16 does not hold, on these inputs.

    A mean may sum up far more than it gives: there the sum counts.
    """
    kinds = {item.name: item.type.tensor_type.elem_type for item in network.graph.value_info}
    kinds |= {item.name: item.type.tensor_type.elem_type for item in network.graph.input}
    kinds |= {item.name: item.type.tensor_type.elem_type for item in network.graph.output}
    floats = [name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT]
    largest, sums = _reach(network, floats, batches)
    for item in network.graph.initializer:
        if item.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(item)
            largest[item.name] = float(np.abs(values).max(initial=0))
    unsafe = set()
    for node in network.graph.node:
        reached = [largest.get(name, 0.0) for name in [*node.input, *node.output]]
        if node.op_type in _SUMS and node.input:
            reached.append(sums.get(node.input[0], 0.0))
        if not max(reached, default=0.0) <= _LARGEST:
            unsafe.add(node.name)
    return unsafe


def _reach(
    network: onnx.ModelProto, names: Sequence[str], batches: Sequence[Batch]
) -> tuple[dict[str, float], dict[str, float]]:
    """The largest absolute value of each tensor, and the largest sum over the last two axes."""
    probe = onnx.ModelProto()
    probe.CopyFrom(network)
    have = {item.name for item in probe.graph.output}
    given = {item.name for item in probe.graph.input}
    made = {output for node in probe.graph.node for output in node.output}
    probe.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name in made - have - given
    )
    session = session_of(probe)
    wanted = [item.name for item in session.get_outputs()]
    largest: dict[str, float] = {}
    sums: dict[str, float] = {}
    for batch in batches:
        for name, values in zip(wanted, session.run(wanted, dict(batch)), strict=True):
            if values.dtype != np.float32 or not values.size:
                continue
            size = np.abs(values)
            axes = tuple(range(max(0, size.ndim - 2), size.ndim))
            largest[name] = max(largest.get(name, 0.0), float(size.max()))
            sums[name] = max(sums.get(name, 0.0), float(size.sum(axis=axes).max()))
    return largest, sums
