"""The network inside a finished graph: taken out behind the preprocessing, and put back changed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.utils import Extractor

from converters.folder import Layer
from converters.interface import PIXEL_VALUES, PROBABILITIES

if TYPE_CHECKING:
    import onnxruntime

Batch = Mapping[str, NDArray[Any]]
Outputs = dict[str, NDArray[np.float32]]

_FEWEST = 4  # named layers; of a graph with fewer each weighted node is a layer
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_ACTIVATIONS = {"Clip", "Relu"}  # that become one with the node before


def front_of(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """What makes `pixel_values` of a photo; None where the graph is nothing but a network."""
    if not any(PIXEL_VALUES in node.output for node in model.graph.node):
        return None
    return Extractor(model).extract_model([i.name for i in model.graph.input], [PIXEL_VALUES])


def network_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """What comes behind `pixel_values`, its tensors' shapes inferred and its nodes all named."""
    network = onnx.ModelProto()
    network.CopyFrom(model)
    if front_of(model) is not None:
        outputs = [item.name for item in model.graph.output]
        network = Extractor(model).extract_model([PIXEL_VALUES], outputs)
    imports = {item.domain: item.version for item in model.opset_import}  # each once
    del network.opset_import[:]
    network.opset_import.extend(onnx.helper.make_opsetid(*item) for item in imports.items())
    del network.metadata_props[:]
    network = onnx.shape_inference.infer_shapes(network)
    used: set[str] = set()
    for number, node in enumerate(network.graph.node):
        if not node.name or node.name in used:
            node.name = f"{node.op_type}_{number}"
        used.add(node.name)
    return network


def with_network(
    model: onnx.ModelProto, network: onnx.ModelProto, facts: Mapping[str, str]
) -> onnx.ModelProto:
    """The graph with another network in place of its own; ``facts`` are added to its metadata."""
    from onnxruntime.transformers.onnx_model import OnnxModel

    front = front_of(model)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    OnnxModel(network).topological_sort(is_deterministic=True)
    parts = [*([front.graph] if front is not None else []), network.graph]
    for field in ("node", "initializer", "value_info"):
        del getattr(graph, field)[:]
        for part in parts:
            getattr(graph, field).extend(getattr(part, field))
    if front is not None:
        graph.value_info.extend(i for i in network.graph.input if i.name == PIXEL_VALUES)
    imports = {i.domain: i.version for i in [*model.opset_import, *network.opset_import]}
    del changed.opset_import[:]
    changed.opset_import.extend(
        onnx.helper.make_opsetid(domain, version) for domain, version in sorted(imports.items())
    )
    known = {item.key: item.value for item in changed.metadata_props}
    onnx.helper.set_model_props(changed, {**known, **facts})
    onnx.checker.check_model(changed)
    return changed


def parts_of(model: onnx.ModelProto, network: onnx.ModelProto) -> dict[str, list[str]]:
    """The names of the network's nodes by the layer that they belong to, in their order.

    Layers are those that the graph's metadata lists; what follows the last is the ``head``. An
    activation belongs where the node before it does: in int8 the two are one.
    """
    facts = {item.key: item.value for item in model.metadata_props}
    layers = {
        layer.name
        for layer in msgspec.json.decode(facts.get("tlhub.layers", "[]"), type=list[Layer])
    }
    nodes = network.graph.node
    if sum(output in layers for node in nodes for output in node.output) < _FEWEST:
        layers = {node.output[0] for node in nodes if node.op_type in _WEIGHTED}
    parts: dict[str, list[str]] = {}
    current: list[str] = []
    for node in nodes:
        current.append(node.name)
        for output in node.output:
            if output in layers:
                parts[output], current = current, []
    if current:
        parts["head"] = current
    home = {name: layer for layer, names in parts.items() for name in names}
    makers = {output: node.name for node in nodes for output in node.output}
    for node in nodes:
        before = makers.get(node.input[0]) if node.input else None
        if node.op_type in _ACTIVATIONS and before is not None:
            home[node.name] = home[before]
    found: dict[str, list[str]] = {layer: [] for layer in parts}
    for node in nodes:
        found[home[node.name]].append(node.name)
    return {layer: names for layer, names in found.items() if names}


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session of a graph in this process, on one thread: the same numbers every time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    if model.ByteSize() < 1 << 30:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    with tempfile.TemporaryDirectory(prefix="tlhub-") as folder:
        file = Path(folder, "model.onnx")
        onnx.save_model(model, file, save_as_external_data=True, location="model.data")
        return onnxruntime.InferenceSession(str(file), options, providers=providers)


def answers(model: onnx.ModelProto, batches: Iterable[Batch]) -> list[Outputs]:
    """All outputs of a graph but the probabilities, which follow from the logits."""
    session = session_of(model)
    names = [item.name for item in session.get_outputs() if item.name != PROBABILITIES]
    return [dict(zip(names, session.run(names, dict(b)), strict=True)) for b in batches]


def distance(seen: Sequence[Outputs], reference: Sequence[Outputs]) -> float:
    """The root mean square of the difference, relative to that of the reference; worst output.

    Infinite where a number is not finite.
    """
    worst = 0.0
    for name in reference[0]:
        ours = np.concatenate([batch[name].ravel() for batch in seen]).astype(np.float64)
        theirs = np.concatenate([batch[name].ravel() for batch in reference]).astype(np.float64)
        if not np.isfinite(ours).all():
            return float("inf")
        size = float(np.sqrt((theirs**2).mean()))
        worst = max(worst, float(np.sqrt(((ours - theirs) ** 2).mean())) / (size or 1.0))
    return worst
