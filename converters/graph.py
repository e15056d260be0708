"""Changes to a finished graph: which of its named tensors it gives, and a part of it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

from catalog.errors import UsageError


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The graph with these named tensors among its outputs, after those that it has.

    Raises:
        UsageError: it has no tensor of that name; the hint has those that it has.
    """
    graph = model.graph
    have = {item.name for item in graph.output}
    known = {item.name: item for item in graph.value_info}
    missing = [name for name in names if name not in have and name not in known]
    if missing:
        made = {name for node in graph.node for name in node.output}
        layers = [name for name in known if name in made]
        raise UsageError(
            f"the graph has no layer {missing[0]!r}",
            hint=f"it has {', '.join(layers[:40])}{' ...' if len(layers) > 40 else ''}",
        )
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.graph.output.extend(known[name] for name in dict.fromkeys(names) if name not in have)
    return changed


def part_of(
    model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """What computes these outputs of tensors in the graph, which are its only inputs then.

    As `onnx.utils.Extractor`, but that it follows what only the graphs within nodes (`If`, `Loop`)
    read, and needs to know the shape of no tensor. What nothing is said of is float32.
    """
    graph = model.graph
    wanted, nodes = set(outputs), []
    for node in reversed(graph.node):
        if wanted & {*node.output} - {*inputs}:
            nodes.append(node)
            wanted |= read_by(node)
    known = {item.name: item for item in (*graph.value_info, *graph.input, *graph.output)}
    given, made = (
        [
            known.get(name) or helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in names
        ]
        for names in (inputs, outputs)
    )
    inside = {name for node in nodes for name in node.output} - {*outputs}
    part = helper.make_model(
        helper.make_graph(
            nodes[::-1],
            graph.name,
            given,
            made,
            [tensor for tensor in graph.initializer if tensor.name in wanted],
            value_info=[item for item in graph.value_info if item.name in inside],
            sparse_initializer=[t for t in graph.sparse_initializer if t.values.name in wanted],
        ),
        ir_version=model.ir_version,
        opset_imports=model.opset_import,
        functions=model.functions,
    )
    part.metadata_props.extend(model.metadata_props)
    return part


def read_by(node: onnx.NodeProto) -> set[str]:
    """The tensors that a node needs, the graphs in it too."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            names |= {name for inner in graph.node for name in read_by(inner)}
    return names
