"""A torch backbone as one ONNX graph, from raw uint8 photos to probabilities.

Exported by ``torch.onnx.export(dynamo=True)`` at opset 20, the first with ``Gelu``. In front come
the nodes of `converters.preprocess`, behind a softmax. The same backbone gives the same bytes.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper

from catalog.errors import ConversionError
from converters import preprocess
from converters.backbone import OUTPUTS, TorchBackbone
from converters.interface import IMAGE, MAX_INLINE_BYTES, PIXEL_VALUES, PROBABILITIES

OPSET = 20


def export(backbone: TorchBackbone) -> onnx.ModelProto:
    """The graph of a classifier.

    Input ``image`` uint8 (batch, height, width, 3), RGB of any size; the inner tensor
    ``pixel_values`` float32 (batch, 3, H, W); outputs ``logits`` and ``probabilities`` (batch,
    classes) and ``embedding`` (batch, features), float32.

    Raises:
        ConversionError: torch cannot export it.
    """
    model = _network(backbone)
    _clear_traces(model)
    _prepend_preprocessing(model.graph, backbone)
    _append_softmax(model.graph)
    try:
        onnx.checker.check_model(model, full_check=model.ByteSize() < MAX_INLINE_BYTES)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"the exported graph is not valid ONNX: {error}") from error
    return model


def set_metadata(
    model: onnx.ModelProto,
    backbone: TorchBackbone,
    labels: Sequence[str],
    source: Mapping[str, str],
    version: str,
) -> None:
    """Write into the graph what a stranger needs to use it; ``source`` is file -> sha256."""
    record = backbone.record
    license_name = record.license and (record.license.spdx or record.license.raw)
    facts = {
        "tlhub.schema_version": "1",
        "tlhub.uid": record.uid,
        "tlhub.task": record.task or "image-classification",
        "tlhub.labels": json.dumps(list(labels), ensure_ascii=False),
        "tlhub.preprocess": json.dumps(
            preprocess.description(backbone.preprocess, backbone.input_size)
        ),
        "tlhub.license": license_name or "unknown",
        "tlhub.source": json.dumps(dict(sorted(source.items()))),
        "tlhub.version": version,
    }
    helper.set_model_props(model, facts)


def save(model: onnx.ModelProto, file: Path, *, max_inline_bytes: int = MAX_INLINE_BYTES) -> None:
    """Write the graph, weights inline while they fit, else in ``<file>.data`` beside it."""
    if model.ByteSize() < max_inline_bytes:
        file.write_bytes(model.SerializeToString(deterministic=True))
        return
    onnx.save_model(
        model,
        str(file),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=f"{file.name}.data",
    )


def _network(backbone: TorchBackbone) -> onnx.ModelProto:
    # Two images: a batch of one would be taken for a constant.
    example = torch.zeros(2, 3, *backbone.input_size)
    try:
        with _quiet():
            program = torch.onnx.export(
                backbone.module,
                (example,),
                input_names=[PIXEL_VALUES],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConversionError(
            f"torch {torch.__version__} cannot export {backbone.record.architecture}: {lines[0]}"
        ) from error
    if program is None:  # only other ways of calling it give nothing
        raise ConversionError(f"torch {torch.__version__} exported no graph")
    return program.model_proto


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


def _prepend_preprocessing(graph: onnx.GraphProto, backbone: TorchBackbone) -> None:
    nodes, constants = preprocess.onnx_nodes(
        backbone.preprocess, backbone.input_size, source=IMAGE, target=PIXEL_VALUES
    )
    network = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *network])
    graph.initializer.extend(constants)
    [pixel_values] = graph.input
    graph.value_info.append(pixel_values)
    del graph.input[:]
    graph.input.append(
        helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["batch", "height", "width", 3])
    )


def _append_softmax(graph: onnx.GraphProto) -> None:
    logits, embedding = graph.output
    graph.node.append(
        helper.make_node("Softmax", [logits.name], [PROBABILITIES], name=PROBABILITIES, axis=-1)
    )
    probabilities = onnx.ValueInfoProto()
    probabilities.CopyFrom(logits)
    probabilities.name = PROBABILITIES
    del graph.output[:]
    graph.output.extend([logits, probabilities, embedding])
