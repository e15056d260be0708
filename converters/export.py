"""A torch backbone as one ONNX graph, from what a user has to named outputs.

Exported by ``torch.onnx.export(dynamo=True)`` at opset 20, the first with ``Gelu``. What that
cannot follow the older exporter traces, and the metadata say so. In front comes what
`converters.backbone.Front` puts there, behind logits what makes probabilities of them. The
tensors of all layers keep the names of the layers, so that any of them can be made an output later
(`converters.graph`).
The same backbone gives the same bytes.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path

import msgspec
import onnx
import onnx_ir as ir
import torch
from onnx import helper

from catalog.errors import ConversionError
from converters import onnx_file
from converters.backbone import Backbone, TorchBackbone
from converters.folder import Layer
from converters.interface import LOGITS, MAX_INLINE_BYTES, PROBABILITIES
from converters.layers import Tapped, names_of

OPSET = 20
EXPORTER = "tlhub.exporter"  # of the metadata: which of torch's exporters made the graph
_ACTIVATIONS = {"softmax": "Softmax", "sigmoid": "Sigmoid"}


def export(backbone: TorchBackbone) -> onnx.ModelProto:
    """The graph of a backbone.

    Of an image classifier: input ``image`` uint8 (batch, height, width, 3), RGB of any size; the
    inner tensor ``pixel_values`` float32 (batch, 3, H, W); outputs ``logits`` and
    ``probabilities`` (batch, classes) and ``embedding`` (batch, features), float32.

    Raises:
        ConversionError: torch cannot export it.
    """
    model = _network(backbone)
    _hide_layers(model.graph, backbone.module.outputs)
    backbone.front.attach(model)
    activation = backbone.module.activation
    if LOGITS in backbone.module.outputs and activation in _ACTIVATIONS:
        _append_probabilities(model.graph, activation)
    return model


def set_metadata(
    model: onnx.ModelProto,
    backbone: Backbone,
    labels: Sequence[str],
    layers: Sequence[Layer],
    source: Mapping[str, str],
    version: str,
) -> None:
    """Write into the graph what a stranger needs to use it; ``source`` is file -> sha256."""
    record = backbone.record
    license_name = record.license and (record.license.spdx or record.license.raw)
    facts = {
        "tlhub.schema_version": "1",
        "tlhub.uid": record.uid,
        "tlhub.task": record.task or "unknown",
        "tlhub.labels": json.dumps(list(labels), ensure_ascii=False),
        "tlhub.layers": msgspec.json.encode([*layers]).decode(),
        "tlhub.preprocess": json.dumps(backbone.front.description()),
        "tlhub.license": license_name or "unknown",
        "tlhub.source": json.dumps(dict(sorted(source.items()))),
        "tlhub.version": version,
    }
    facts |= {p.key: p.value for p in model.metadata_props if p.key == EXPORTER}
    theirs = {p.key: p.value for p in model.metadata_props if not p.key.startswith("tlhub.")}
    helper.set_model_props(model, {**theirs, **facts})


def save(model: onnx.ModelProto, file: Path, *, max_inline_bytes: int = MAX_INLINE_BYTES) -> None:
    """Write the graph, weights inline while they fit, else in ``<file>.data`` beside it."""
    if onnx_file.size(model) < max_inline_bytes:
        onnx_file.write(model, file)
        return
    onnx.save_model(
        model,
        str(file),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=f"{file.name}.data",
    )


def exporter_of(model: onnx.ModelProto) -> str | None:
    """Which of torch's exporters made the graph, and why, where it was not the usual one."""
    return next((p.value for p in model.metadata_props if p.key == EXPORTER), None)


def _network(backbone: TorchBackbone) -> onnx.ModelProto:
    """The network as it was exported; where the exporter of choice cannot, by the older one.

    Raises:
        ConversionError: neither can; the message is of the first.
    """
    layers = names_of(backbone.module, backbone.front.example())
    why = backbone.module.traced
    model: onnx.ModelProto | None = None
    if why is None:
        try:
            model = _followed(backbone, layers)
        except ConversionError as error:
            try:
                model = _traced(backbone, layers)
            except Exception:  # the older exporter raises whatever it comes upon
                raise error from None
            why = error.message
    model = model or _traced(backbone, layers)
    _clear_traces(model)
    _part_pads_from_pools(model.graph)
    said = "torch.onnx, dynamo=True" if why is None else f"torch.onnx, dynamo=False: {why}"
    helper.set_model_props(model, {EXPORTER: said})
    return model


def _traced(backbone: TorchBackbone, layers: Sequence[str]) -> onnx.ModelProto:
    """The graph by the exporter that writes down what one run computes.

    Raises:
        ConversionError: it cannot, as far as it says so itself.
    """
    network, front = backbone.module, backbone.front
    stream = io.BytesIO()
    try:
        with _quiet(), _plain_attention(network):
            torch.onnx.export(
                Tapped(network, layers).eval(),
                front.example(),
                stream,  # type: ignore[arg-type]  # it writes to any stream
                input_names=list(network.inputs),
                output_names=[*network.outputs, *layers],
                dynamic_axes=dict(zip(network.inputs, front.dynamic, strict=True)),
                opset_version=OPSET,
                dynamo=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise _refused(backbone, error) from error
    model = onnx.load_from_string(stream.getvalue())
    _free_sizes(model.graph, front.dynamic)
    return model


def _free_sizes(graph: onnx.GraphProto, dynamic: Sequence[Mapping[int, str]]) -> None:
    """Take back what the older exporter says of sizes within: it has one name for several."""
    given = {name for axes in dynamic for name in axes.values()}
    for value in [*graph.value_info, *graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param not in given:
                dim.ClearField("dim_param")


def _refused(backbone: TorchBackbone, error: Exception) -> ConversionError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return ConversionError(
        f"torch {torch.__version__} cannot export {backbone.record.architecture}: {lines[0]}"
    )


def _followed(backbone: TorchBackbone, layers: Sequence[str]) -> onnx.ModelProto:
    """The graph by the exporter that follows what the network computes.

    Raises:
        ConversionError: it cannot.
    """
    network, front = backbone.module, backbone.front
    example = front.example()
    dims = {name: torch.export.Dim(name, min=1) for axes in front.dynamic for name in axes.values()}
    try:
        with _quiet(), _plain_attention(network):
            program = torch.onnx.export(
                Tapped(network, layers).eval(),
                example,
                input_names=list(network.inputs),
                output_names=[*network.outputs, *layers],
                dynamic_shapes=(
                    tuple({a: dims[name] for a, name in axes.items()} for axes in front.dynamic),
                ),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise _refused(backbone, error) from error
    if program is None:  # only other ways of calling it give nothing
        raise ConversionError(f"torch {torch.__version__} exported no graph")
    _keep_constants(program.model.graph)
    _free_names(program.model.graph, {*network.outputs, *layers})
    return program.model_proto


def _keep_constants(graph: ir.Graph) -> None:
    """Give the graph the constants that it reads and does not have.

    Of several clamps of one tensor the exporter names the bounds alike, and keeps those of one.
    """
    for node in graph.all_nodes():
        for value in node.inputs:
            if value is None or value.const_value is None or value.producer() is not None:
                continue
            known = graph.initializers.get(value.name or "")
            if known is None and not value.is_graph_input():
                graph.register_initializer(value)


def _free_names(graph: ir.Graph, names: Set[str]) -> None:
    """Rename inner tensors that the exporter named as outputs are: `embedding` is an operator."""
    made = [value for node in graph.all_nodes() for value in node.outputs]
    for value in [*made, *graph.initializers.values()]:
        if value.name in names and not value.is_graph_output():
            value.name = f"{value.name}/inner"


@contextmanager
def _plain_attention(network: torch.nn.Module) -> Iterator[None]:
    """Have timm spell attention out: the fused operator fails in some exports, and gains nothing.

    In BEiT its decomposition leaves strides that a view cannot take, Hiera's has five dimensions.
    """
    fused = [module for module in network.modules() if getattr(module, "fused_attn", False) is True]
    for module in fused:
        module.fused_attn = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in fused:
            module.fused_attn = True  # type: ignore[assignment]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch.onnx says of itself; what goes wrong it raises."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
    ]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _clear_traces(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes of its own run: the converting machine's source paths."""
    del model.metadata_props[:]
    model.doc_string = ""
    graphs = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        del graph.metadata_props[:]
        graph.doc_string = ""
        for value in graph.value_info:
            del value.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
            graphs += [item.g for item in node.attribute if item.HasField("g")]
            graphs += [inner for item in node.attribute for inner in item.graphs]
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
        value.doc_string = ""


def _part_pads_from_pools(graph: onnx.GraphProto) -> None:
    """Put a step that does nothing between a padding and the pooling after it.

    ONNX Runtime makes one of the two, in which what was padded is less than anything, zeros too
    (microsoft/onnxruntime#18136).
    """
    padded = {output for node in graph.node if node.op_type == "Pad" for output in node.output}
    for at, node in reversed(list(enumerate(graph.node))):
        if node.op_type == "MaxPool" and node.input[0] in padded:
            name = f"{node.output[0]}/padded"
            graph.node.insert(at, helper.make_node("Max", [node.input[0]], [name], name))
            node.input[0] = name


def _hide_layers(graph: onnx.GraphProto, outputs: Sequence[str]) -> None:
    """Leave the layers in the graph as named tensors that are no outputs and cost nothing."""
    made = {name for node in graph.node for name in node.output}
    layers = [item for item in graph.output if item.name not in outputs]
    graph.value_info.extend(item for item in layers if item.name in made)
    kept = [item for item in graph.output if item.name in outputs]
    del graph.output[:]
    graph.output.extend(kept)


def _append_probabilities(graph: onnx.GraphProto, activation: str) -> None:
    node = helper.make_node(_ACTIVATIONS[activation], [LOGITS], [PROBABILITIES], PROBABILITIES)
    if node.op_type == "Softmax":
        node.attribute.append(helper.make_attribute("axis", -1))
    graph.node.append(node)
    outputs = []
    for output in graph.output:
        outputs.append(output)
        if output.name == LOGITS:
            probabilities = onnx.ValueInfoProto()
            probabilities.CopyFrom(output)
            probabilities.name = PROBABILITIES
            outputs.append(probabilities)
    del graph.output[:]
    graph.output.extend(outputs)
