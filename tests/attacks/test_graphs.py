"""Graphs that read outside their folder, or are no graphs."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from catalog.errors import IntegrityError, UnsafeError, UsageError
from converters import graphs, session
from converters.export import save
from converters.runtime import OnnxModel


def _classifier(location: str | None = None, *, inside: str = "graph") -> onnx.ModelProto:
    """The mean of each channel as three classes, its scale read from ``location``."""
    scale = numpy_helper.from_array(np.ones(3, np.float32), "scale")
    if location is not None:
        scale.ClearField("raw_data")
        scale.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": "0", "length": "12"}.items():
            entry = scale.external_data.add()
            entry.key, entry.value = key, value
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["probabilities"]),
    ]
    constants = [numpy_helper.from_array(np.array([1, 2]), "axes")]
    if inside == "graph":
        constants.append(scale)
    else:
        nodes.insert(0, helper.make_node("Constant", [], ["scale"], value=scale))
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _write(model: onnx.ModelProto, file: Path) -> Path:
    file.write_bytes(model.SerializeToString())
    return file


def test_the_harmless_one_runs(tmp_path):
    model = OnnxModel.open(_write(_classifier(), tmp_path / "x.onnx"))
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 200
    assert model(red, top=1)[0].label == "0"


@pytest.mark.parametrize("inside", ["graph", "node"])
@pytest.mark.parametrize(
    "location", ["../secret", "a/../../secret", "{absolute}", "link", "C:\\secret", ""]
)
def test_weights_outside_the_folder_are_not_read(location, inside, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    model = _classifier(location.format(absolute=secret), inside=inside)
    with pytest.raises(UnsafeError, match="outside its folder"):
        OnnxModel.open(_write(model, folder / "x.onnx"))


def test_weights_in_the_folder_are_read_and_missing_ones_missed(tmp_path):
    file = _write(_classifier("weights.bin"), tmp_path / "x.onnx")
    with pytest.raises(IntegrityError, match=r"weights\.bin, which is missing"):
        OnnxModel.open(file)
    (tmp_path / "weights.bin").write_bytes(np.array([1, -1, 1], np.float32).tobytes())
    assert OnnxModel.open(file)(np.full((2, 2, 3), 9, np.uint8))[2].label == "1"


@pytest.mark.parametrize(
    ("offset", "length"), [("0", "400"), ("8", "12"), ("-4", "12"), ("0", "1e9"), ("9" * 30, "12")]
)
def test_weights_beyond_the_end_of_their_file_are_not_read(offset, length, tmp_path):
    (tmp_path / "weights.bin").write_bytes(np.ones(3, np.float32).tobytes())
    model = _classifier("weights.bin")
    said = {"offset": offset, "length": length}
    for entry in model.graph.initializer[1].external_data:
        entry.value = said.get(entry.key, entry.value)
    file = _write(model, tmp_path / "x.onnx")
    with pytest.raises(IntegrityError, match=r"from bytes .* of weights\.bin, which has 12"):
        OnnxModel.open(file)
    assert graphs.scan(file).verdict == "damaged"


def test_links_of_a_cache_are_followed_and_no_others(tmp_path):
    """A Hugging Face cache has links in its snapshots, to its `blobs`."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    _write(_classifier("weights.bin"), blobs / "a")
    (blobs / "b").write_bytes(np.ones(3, np.float32).tobytes())
    (snapshot / "x.onnx").symlink_to(blobs / "a")
    (snapshot / "weights.bin").symlink_to(blobs / "b")
    assert graphs.scan(snapshot / "x.onnx").findings == ()
    (blobs / "b").rename(tmp_path / "b")
    (snapshot / "weights.bin").unlink()
    (snapshot / "weights.bin").symlink_to(tmp_path / "b")
    assert graphs.scan(snapshot / "x.onnx").verdict == "unsafe"


def test_a_tensor_that_claims_what_is_not_there_is_seen(tmp_path):
    for dims in ([10**12], [2**40, 2**40], [-1], [5]):
        model = _classifier()
        model.graph.initializer[1].dims[:] = dims
        file = _write(model, tmp_path / "x.onnx")
        assert graphs.scan(file).verdict == "damaged"
        with pytest.raises(IntegrityError):
            OnnxModel.open(file)


def test_functions_that_call_themselves_are_seen(tmp_path):
    calls = {"A": "B", "B": "C", "C": "A"}
    model = _classifier()
    for name, called in calls.items():
        node = helper.make_node(called, ["x"], ["y"], domain="own")
        function = helper.make_function(
            "own", name, ["x"], ["y"], [node], [helper.make_opsetid("own", 1)]
        )
        model.functions.append(function)
    file = _write(model, tmp_path / "x.onnx")
    assert "call themselves" in graphs.scan(file).findings[0].what


def test_graphs_within_graphs_have_an_end(tmp_path):
    """A node with a graph with a node and so on, by its bytes: protobuf would not write it."""

    def field(number: int, body: bytes) -> bytes:
        length, size = len(body), b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + body

    graph = b""
    for _ in range(1000):
        graph = field(1, field(5, field(6, graph)))  # graph.node.attribute.g
    file = tmp_path / "x.onnx"
    file.write_bytes(b"\x08\x0a" + field(7, graph))
    assert graphs.scan(file).verdict == "damaged"
    with pytest.raises((IntegrityError, UsageError)):
        OnnxModel.open(file)


def test_a_graph_too_large_for_one_file_has_its_weights_beside_it(tmp_path):
    model = _classifier()
    model.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(np.array([1, 1, 5], np.float32), "scale")
    )
    big = numpy_helper.from_array(np.ones(3000, np.float32), "unused")
    model.graph.initializer.append(big)
    save(model, tmp_path / "model.onnx", max_inline_bytes=1000)
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    loaded = OnnxModel.open(tmp_path / "model.onnx")
    assert loaded(np.full((2, 2, 3), 9, np.uint8), top=1)[0].label == "2"


@pytest.fixture(params=[False, True], ids=["no driver", "driver"])
def driver(request, monkeypatch):
    """With a driver of CUDA there, a graph is taken apart before it is opened."""
    monkeypatch.setattr(session, "cuda_driver", lambda: request.param)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("content", [b"", b"garbage", b"\x00" * 100, b"<html>location</html>"])
def test_what_is_no_graph_is_said(content, tmp_path):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises((IntegrityError, UsageError), match=r"x\.onnx"):
        OnnxModel.open(tmp_path / "x.onnx")


@pytest.mark.usefixtures("driver")
def test_every_truncation_is_said(tmp_path):
    content = _classifier().SerializeToString()
    file = tmp_path / "x.onnx"
    for length in range(1, len(content) - 1, 17):
        file.write_bytes(content[:length])
        with pytest.raises((IntegrityError, UsageError), match=r"x\.onnx"):
            OnnxModel.open(file)


def test_operators_that_are_not_onnx_are_refused(tmp_path):
    model = _classifier()
    model.graph.node[2].domain = "evil.ops"
    model.opset_import.append(helper.make_opsetid("evil.ops", 1))
    file = _write(model, tmp_path / "x.onnx")
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        OnnxModel.open(file)
    assert graphs.scan(file).findings[0].what.startswith("needs the operator evil.ops::Mul")


def test_a_text_model_that_takes_more_than_a_tokenizer_gives_is_refused(tmp_path):
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        g (int64[n, t] input_ids, int64[n, t] attention_mask, int64[n, t] position_ids)
        => (float[n, t] embedding) {
            masked = Mul(input_ids, attention_mask)
            sum = Add(masked, position_ids)
            embedding = Cast<to = 1>(sum)
        }
    """)
    with pytest.raises(UsageError, match=r"it takes input_ids.*position_ids"):
        OnnxModel.open(_write(model, tmp_path / "x.onnx"))


def test_labels_that_are_no_labels(tmp_path):
    for text in ("{", '{"a": 1}', "[1, 2]"):
        model = _classifier()
        helper.set_model_props(model, {"tlhub.labels": text})
        with pytest.raises(IntegrityError, match="labels that cannot be read"):
            OnnxModel.open(_write(model, tmp_path / "x.onnx"))


def test_a_gigabyte_of_metadata_is_refused_unread(tmp_path):
    file = tmp_path / "noted.onnx"
    length = 1 << 30
    field = bytes([14 << 3 | 2])  # metadata_props, of so many bytes
    while length > 127:
        field, length = field + bytes([length & 127 | 128]), length >> 7
    file.write_bytes(field + bytes([length]))
    os.truncate(file, (1 << 30) + 6)  # a hole: it takes no room
    tracemalloc.start()
    [finding] = graphs.scan(file).findings
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert (finding.verdict, finding.what) == ("unsafe", "has 1024 MiB of metadata")


def test_a_field_longer_than_any_file_is_damage(tmp_path):
    file = tmp_path / "long.onnx"
    file.write_bytes(b"\x72" + b"\xff" * 9 + b"\x7f" + b"x")
    [finding] = graphs.scan(file).findings
    assert finding.verdict == "damaged"


@pytest.mark.parametrize("field", [b"\x08\x01", b"\x72\x00"])
def test_a_model_of_a_million_fields_is_not_gone_through(field, tmp_path):
    file = tmp_path / "fields.onnx"
    file.write_bytes(field * (9 << 17))
    [finding] = graphs.scan(file).findings
    assert finding.verdict == "unsafe"
