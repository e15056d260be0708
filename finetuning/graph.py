"""One ONNX graph: a pretrained backbone up to its embedding, and a new head on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from catalog.errors import ConversionError, IntegrityError
from catalog.record import Preprocess
from converters import onnx_file
from converters.folder import Layer
from converters.interface import (
    EMBEDDING,
    IMAGE,
    LOGITS,
    MAX_INLINE_BYTES,
    PIXEL_VALUES,
    PREDICTIONS,
    PROBABILITIES,
    SIMILARITIES,
)
from converters.preprocess import onnx_nodes
from finetuning.heads import FittedHead
from finetuning.pools import add
from finetuning.stages import Stage

LAYERS = "tlhub.layers"  # in the metadata
_PROJECTED, _FEATURES = "head/projected", "head/features"  # inside, of an embedding
_SUMS, _HIDDEN = "head/sums", "head/layer"  # inside, of a head with a hidden layer
# What heads have made, of the tensors of a graph.
_OUTPUTS = (LOGITS, PROBABILITIES, PREDICTIONS, SIMILARITIES, EMBEDDING)
_HEADS = (*_OUTPUTS, _PROJECTED, _FEATURES, _SUMS, _HIDDEN)


def load(file: Path) -> onnx.ModelProto:
    """The graph of a backbone.

    Raises:
        IntegrityError: it cannot be parsed.
        ConversionError: it has no output ``embedding`` (batch, features), or is over 2 GB.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if file.stat().st_size > MAX_INLINE_BYTES:
        raise ConversionError(f"{file} is over 2 GB, which cannot be given a new head yet")
    try:
        model = onnx.load(str(file))
    except DecodeError as error:
        raise IntegrityError(f"{file} is not an ONNX graph: {error}") from error
    shapes = {
        output.name: output.type.tensor_type.shape.dim
        for output in model.graph.output
        if output.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    if len(shapes.get(EMBEDDING, ())) != 2:
        outputs = ", ".join(output.name for output in model.graph.output)
        raise ConversionError(
            f"{file} has no output {EMBEDDING!r} float32 (batch, features) to put a head on; it "
            f"has {outputs}",
            hint="take a model that tlhub pulled or fine-tuned",
        )
    return model


def has_pixel_values(model: onnx.ModelProto) -> bool:
    """Can the way from the photo to the network be told from the network?"""
    return any(PIXEL_VALUES in node.output for node in model.graph.node)


def save(model: onnx.ModelProto, file: Path) -> None:
    """Write a graph, the same bytes for the same graph."""
    onnx_file.write(model, file)


def reframe(
    model: onnx.ModelProto, preprocess: Preprocess, size: tuple[int, int]
) -> onnx.ModelProto:
    """The same network with another way from the photo to its tensor ``pixel_values``."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes, constants = onnx_nodes(preprocess, size, source=IMAGE, target=PIXEL_VALUES)
    names = {constant.name for constant in constants}
    kept = [item for item in model.graph.initializer if item.name not in names]
    _set(changed.graph.initializer, [*kept, *constants])
    old = {output for node in _upstream(model.graph, {PIXEL_VALUES}) for output in node.output}
    network = [node for node in model.graph.node if not old & set(node.output)]
    _set(changed.graph.node, [*nodes, *network])
    _prune(changed.graph)
    return changed


def with_head(
    model: onnx.ModelProto,
    stages: Sequence[Stage],
    head: FittedHead,
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """The graph up to these stages, with a new head on their vectors side by side.

    Outputs ``logits`` and ``probabilities`` (batch, classes), or of numbers ``predictions``, and
    ``embedding`` (batch, features), float32; where that is what the head makes, it alone and, of a
    head with prototypes, ``similarities`` (batch, known classes). What only the old head or layers
    above the stages needed is gone. ``metadata`` replaces what is there under the same keys.

    Raises:
        ConversionError: the result is not valid ONNX.
    """
    tuned = onnx.ModelProto()
    tuned.CopyFrom(model)
    graph = tuned.graph
    [old] = [output for output in graph.output if output.name == EMBEDDING]
    is_embedding = head.link.output == EMBEDDING
    features = _FEATURES if is_embedding else EMBEDDING
    _embed(graph, stages, features)
    outputs = _add_head(graph, head, features)
    batch = old.type.tensor_type.shape.dim[0]
    rows = batch.dim_param or (batch.dim_value if batch.HasField("dim_value") else None)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, width])
        for name, width in outputs.items()
    ]
    _set(graph.output, values)
    _prune(graph)
    props = {item.key: item.value for item in model.metadata_props} | dict(metadata)
    if LAYERS in props:
        props[LAYERS] = _left(props[LAYERS], tensors_of(tuned))
    helper.set_model_props(tuned, props)
    try:
        onnx.checker.check_model(tuned, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"backbone and head do not make a valid ONNX graph: {error}",
            hint="the model was not kept; please report which backbone it was",
        ) from error
    return tuned


def _add_head(graph: onnx.GraphProto, head: FittedHead, features: str) -> dict[str, int]:
    """Append a head on ``features``; what it gives, with the width of each."""
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value, np.float32), f"head/{name}")
        for name, value in head.tensors.items()
    )
    link, width = head.link, len(head.weight)
    projects = link.output == EMBEDDING
    scores = _PROJECTED if projects else LOGITS if link.operator else link.output
    given = features
    if head.hidden is not None:
        given, names = _HIDDEN, [features, "head/hidden", "head/shifts"]
        graph.node.append(helper.make_node("Gemm", names, [_SUMS], name=_SUMS, transB=1))
        graph.node.append(helper.make_node("Relu", [_SUMS], [_HIDDEN], name=_HIDDEN))
    names = [given, "head/weight", "head/bias"]
    graph.node.append(helper.make_node("Gemm", names, [scores], name="head", transB=1))
    if link.operator:
        answers = helper.make_node(link.operator, [scores], [link.output], name=link.output)
        if link.operator != "Sigmoid":
            answers.attribute.append(helper.make_attribute("axis", -1))
        graph.node.append(answers)
    if not projects:
        return {**dict.fromkeys((scores, link.output), width), EMBEDDING: head.features}
    if head.prototypes is None:
        return {EMBEDDING: width}
    names = [EMBEDDING, "head/prototypes"]
    graph.node.append(helper.make_node("Gemm", names, [SIMILARITIES], name=SIMILARITIES, transB=1))
    return {SIMILARITIES: len(head.prototypes), EMBEDDING: width}


def _left(layers: str, made: Set[str]) -> str:
    """Of the layers that metadata lists those whose tensors are still there."""
    try:
        known = msgspec.json.decode(layers, type=list[Layer])
    except msgspec.DecodeError:
        return "[]"
    return msgspec.json.encode([layer for layer in known if layer.name in made]).decode()


def tensors_of(model: onnx.ModelProto) -> set[str]:
    """The names of all tensors that a graph computes."""
    return {name for node in model.graph.node for name in node.output}


def _embed(graph: onnx.GraphProto, stages: Sequence[Stage], features: str) -> None:
    """Make ``features`` the vectors of these stages side by side; old names get out of the way."""
    made = {name for node in graph.node for name in (*node.output, node.name)}
    before = "before/"
    while any(name.startswith(before) for name in made):
        before = f"before/{before}"
    constants = {item.name for item in graph.initializer if item.name.startswith("head/")}
    for name in (*_HEADS, *sorted(constants)):
        _rename(graph, name, f"{before}{name}")
    add(graph, stages)
    vectors = [
        f"{before}{EMBEDDING}" if stage.output == EMBEDDING else stage.output for stage in stages
    ]
    graph.node.append(
        helper.make_node("Concat", vectors, [features], name=f"{before}stages", axis=1)
    )


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
        if node.name == old.split("/", maxsplit=1)[0]:
            node.name = f"{new}/node"
    for constant in graph.initializer:
        if constant.name == old:
            constant.name = new


def _prune(graph: onnx.GraphProto) -> None:
    """Leave only what the outputs need."""
    nodes = _upstream(graph, {output.name for output in graph.output})
    used = {name for node in nodes for name in _reads(node)}
    made = {name for node in nodes for name in node.output}
    outputs = {output.name for output in graph.output}
    _set(graph.node, nodes)
    _set(graph.initializer, [item for item in graph.initializer if item.name in used])
    _set(graph.value_info, [item for item in graph.value_info if item.name in made - outputs])


def _upstream(graph: onnx.GraphProto, wanted: Iterable[str]) -> list[NodeProto]:
    """The nodes that these tensors come from, in the graph's order."""
    needed = set(wanted)
    nodes = []
    for node in reversed(graph.node):  # ONNX requires them sorted
        if needed & set(node.output):
            needed |= _reads(node)
            nodes.append(node)
    return nodes[::-1]


def _reads(node: NodeProto) -> set[str]:
    """The tensors a node reads, those that its inner graphs take from outside included."""
    names = set(node.input)
    for attribute in node.attribute:
        inner_graphs = [attribute.g] if attribute.HasField("g") else []
        for inner in [*inner_graphs, *attribute.graphs]:
            names |= {name for item in inner.node for name in _reads(item)}
            names |= {output.name for output in inner.output}
    return names


def _set(field: object, items: Iterable[object]) -> None:
    """Replace the content of a repeated protobuf field."""
    copies = list(items)
    del field[:]  # type: ignore[attr-defined]
    field.extend(copies)  # type: ignore[attr-defined]
