"""Graphs that are ONNX already: checked, brought to our opset where that is safe, described."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import onnx

from catalog.errors import ConversionError, IntegrityError, UnsafeError
from catalog.record import ModelRecord
from converters import fresh_process, graph_upgrade, graphs
from converters.comparing import differences
from converters.graph_inputs import GraphInput, batch_of, inputs_of, name_dims, situations
from converters.interface import MAX_INLINE_BYTES
from converters.onnx_backbone import PROBE_TIMEOUT_S, OnnxBackbone, OwnTensors
from converters.onnx_pictures import Pictures, name_outputs, pictures
from converters.parity import TOLERANCE

LIBRARIES = ("onnx",)
_MOST_SITUATIONS = 2  # of sizes that the graph is checked with


def load(files: Mapping[str, Path], record: ModelRecord, *, trust: bool) -> OnnxBackbone:  # noqa: ARG001 - a Framework
    """The graph among ``files``, which has its external data among them.

    Raises:
        UnsafeError: it reads from elsewhere, or needs a library of its own.
        IntegrityError: it is damaged.
        ConversionError: it is not valid, or ONNX Runtime does not run it.
    """
    graph = _graph_among(files)
    keeps = _Folder()
    file = _lay_out(graph, files, keeps.path)
    _refuse(file)
    original = _read(file)
    inputs = inputs_of(original)
    pictured = pictures(record, inputs)
    own = OwnTensors(inputs, _working(file, inputs, pictured))
    model, kept = graph_upgrade.upgraded(original)
    if model is not original:
        apart = _apart(file, model, own)
        if apart is not None:
            model, kept = original, apart
    model = graph_upgrade.tidy(model)
    name_dims(model)
    outputs = {item.name: item.name for item in original.graph.output}
    activation = None
    if pictured is not None:
        named = name_outputs(model, record.num_classes or 0)
        if named is not None:
            outputs, activation = named
        else:
            pictured = None
    return OnnxBackbone(
        file=file,
        original=original,
        model=model,
        record=record,
        front=pictured or own,
        own=own,
        origin=_origin(original, model, kept),
        outputs=outputs,
        activation=activation,
        keeps=keeps,
    )


def fresh(record: ModelRecord) -> OnnxBackbone:
    """There is none: the architecture is the graph.

    Raises:
        ConversionError: always.
    """
    raise ConversionError(
        f"{record.uid} is a graph: it has no architecture that random weights could be given",
        hint=f"tlhub pull {record.uid}, then ask the folder",
    )


class _Folder:
    """A folder that lives as long as this does."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="tlhub-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _graph_among(files: Mapping[str, Path]) -> str:
    graphs_there = [name for name in files if name.endswith(".onnx")]
    if len(graphs_there) != 1:
        there = ", ".join(sorted(graphs_there)[:8]) or "none"
        raise ConversionError(f"one graph can be converted at a time, there is: {there}")
    return graphs_there[0]


def _lay_out(graph: str, files: Mapping[str, Path], folder: Path) -> Path:
    """The graph in a folder with what lies beside it, under their own names.

    They are hard links where the disk allows, so that nothing in them leads elsewhere.
    """
    base = PurePosixPath(graph).parent
    for name, path in files.items():
        place = PurePosixPath(name)
        if not place.is_relative_to(base):
            continue
        target = folder / place.relative_to(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), target)
        except OSError:
            shutil.copyfile(path, target)
    return folder / PurePosixPath(graph).name


def _refuse(file: Path) -> None:
    for finding in graphs.scan(file).findings:
        if finding.verdict == "unsafe":
            raise UnsafeError(f"{file.name} was not read: it {finding.what}")
        if finding.verdict == "damaged":
            raise IntegrityError(f"{file.name} {finding.what}")


def _read(file: Path) -> onnx.ModelProto:
    """The graph with its external data in it; where that lies was checked."""
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    model = onnx.load(str(file), load_external_data=False)
    for tensor in _get_all_tensors(model):
        if uses_external_data(tensor):
            said = {entry.key: entry.value for entry in tensor.external_data}
            with (file.parent / said["location"]).open("rb") as stream:
                stream.seek(int(said.get("offset") or 0))
                length = int(said.get("length") or 0)
                tensor.raw_data = stream.read(length) if length else stream.read()
            tensor.ClearField("data_location")
            del tensor.external_data[:]
    try:
        onnx.checker.check_model(model, full_check=model.ByteSize() < MAX_INLINE_BYTES)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        lines = str(error).strip().splitlines() or ["it does not say why"]
        raise ConversionError(f"{file.name} is not valid ONNX: {lines[0]}") from error
    return model


def _working(
    file: Path, inputs: Sequence[GraphInput], pictured: Pictures | None
) -> tuple[Mapping[str, int], ...]:
    """Sizes of what varies with which the graph runs.

    Raises:
        ConversionError: it runs with none that was tried.
    """
    tried = situations(inputs, pictured.front.size if pictured is not None else None)
    given = {str(n): batch_of(inputs, sizes, 1, 1) for n, sizes in enumerate(tried)}
    found = fresh_process.run(file, given, mode="try", timeout_s=PROBE_TIMEOUT_S)
    return tuple(tried[int(n)] for n in found)[:_MOST_SITUATIONS]


def _apart(file: Path, model: onnx.ModelProto, own: OwnTensors) -> str | None:
    """Why the upgraded graph is not to be used; None where it computes the same."""
    batches = own.exact([])
    with tempfile.TemporaryDirectory(prefix="tlhub-") as folder:
        changed = Path(folder, "upgraded.onnx")
        changed.write_bytes(model.SerializeToString())
        expected = fresh_process.run(file, batches)
        try:
            seen = fresh_process.run(changed, batches)
        except ConversionError as error:
            return f"as ONNX converts it, it does not run: {error.message}"
    for batch, outputs in expected.items():
        for name, array in outputs.items():
            there = seen[batch].get(name)
            if there is None or there.shape != array.shape:
                return f"as ONNX converts it, {name} has another shape"
    for name, apart in differences(expected, seen).items():
        if not apart <= TOLERANCE:
            return f"as ONNX converts it, {name} differs by {apart:.1e}"
    return None


def _origin(original: onnx.ModelProto, model: onnx.ModelProto, kept: str | None) -> dict[str, Any]:
    """What the publisher's graph was, for the manifest."""
    producer = f"{original.producer_name} {original.producer_version}".strip()
    counts = Counter(
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        for node in original.graph.node
    )
    return {
        "producer": producer or None,
        "ir_version": original.ir_version,
        "opset": graph_upgrade.opset_of(original),
        "opset_now": graph_upgrade.opset_of(model),
        "opset_kept_because": kept,
        "operators": dict(sorted(counts.items())),
        "metadata": {item.key: item.value[:1000] for item in original.metadata_props[:100]},
    }
