"""Graphs of other people's exporters brought to our opset, where ONNX itself can do that."""

from __future__ import annotations

import onnx
from onnx import version_converter

from converters.interface import MAX_INLINE_BYTES

OPSET = 20
_IR = 10  # of the files that are written: what ONNX Runtime 1.18 and later read
_STANDARD = {"", "ai.onnx", "ai.onnx.ml"}


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of ONNX's own operators."""
    versions = [o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}]
    return max(versions, default=1)


def upgraded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str | None]:
    """The graph at `OPSET`, or as it is and why; that it computes the same is to be shown."""
    opset = opset_of(model)
    if opset >= OPSET:
        return model, None
    foreign = sorted({node.domain for node in model.graph.node} - _STANDARD)
    if foreign:
        return model, f"it has operators of {', '.join(foreign)}"
    if model.functions:
        return model, "it has functions of its own"
    if model.ByteSize() >= MAX_INLINE_BYTES:
        return model, "it is over 2 GB"
    try:
        changed = version_converter.convert_version(model, OPSET)
        changed.ir_version = max(changed.ir_version, _IR)
        onnx.checker.check_model(changed, full_check=True)
    except Exception as error:  # C++ exceptions of several kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return model, f"ONNX cannot convert it: {lines[0][:200]}"
    _restore(changed, model)
    return changed, None


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without what its exporter noted of its own run, and with all shapes that follow."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    weights = {item.name for item in changed.graph.initializer}
    given = [item for item in changed.graph.input if item.name not in weights]
    if len(given) < len(changed.graph.input):  # before IR 4 weights had to be inputs too
        del changed.graph.input[:]
        changed.graph.input.extend(given)
        changed.ir_version = max(changed.ir_version, 4)
    for node in changed.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    if changed.ByteSize() >= MAX_INLINE_BYTES:
        return changed
    try:
        return onnx.shape_inference.infer_shapes(changed, data_prop=True)
    except Exception:  # it is right without them
        return changed


def _restore(changed: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """What the converter drops: who made it, and what they noted."""
    changed.producer_name, changed.producer_version = model.producer_name, model.producer_version
    changed.domain, changed.model_version = model.domain, model.model_version
    changed.doc_string = model.doc_string
    del changed.metadata_props[:]
    changed.metadata_props.extend(model.metadata_props)
