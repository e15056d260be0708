"""Graphs that were ONNX before: checked, upgraded, described, proven."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from catalog.errors import ConversionError, IntegrityError, UnsafeError, UsageError
from catalog.record import ModelRecord
from converters import fresh_process, graph_layers, graph_upgrade, parity
from converters.convert import Options, convert
from converters.frameworks import onnx as framework
from converters.graph_inputs import batch_of, inputs_of, situations
from converters.runtime import OnnxModel

RECORD = ModelRecord(uid="test/graph", framework="onnx")


def _array(name: str, *shape: int) -> onnx.TensorProto:
    random = np.random.default_rng(sum(name.encode()))
    return numpy_helper.from_array(random.normal(size=shape).astype(np.float32) / 3, name)


def small_network(
    opset: int = 11, *, batch: object = "N", layout: str = "NCHW", softmax: bool = True
) -> onnx.ModelProto:
    """Two convolutions, one of them in a residual block, and a classifier of five classes."""
    nodes = [
        helper.make_node("Conv", ["pixels", "w1"], ["c1"], kernel_shape=[3, 3], strides=[4, 4]),
        helper.make_node("Relu", ["c1"], ["stem"]),
        helper.make_node("Conv", ["stem", "w2"], ["c2"], kernel_shape=[1, 1]),
        helper.make_node("Relu", ["c2"], ["inner"]),
        helper.make_node("Add", ["inner", "stem"], ["block"]),
        helper.make_node("GlobalAveragePool", ["block"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "w3", "b3"], ["scores"], transB=1),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], ["answer"], axis=1))
    if layout == "NHWC":
        nodes.insert(0, helper.make_node("Transpose", ["nhwc"], ["pixels"], perm=[0, 3, 1, 2]))
        given = helper.make_tensor_value_info("nhwc", TensorProto.FLOAT, [batch, 64, 64, 3])
    else:
        given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, 64, 64])
    name = "answer" if softmax else "scores"
    graph = helper.make_graph(
        nodes,
        "small",
        [given],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 5])],
        [_array("w1", 8, 3, 3, 3), _array("w2", 8, 8, 1, 1), _array("w3", 5, 8), _array("b3", 5)],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6, producer_name="tests"
    )
    helper.set_model_props(model, {"author": "somebody"})
    return model


def written(model: onnx.ModelProto, folder: Path) -> dict[str, Path]:
    file = folder / "graph.onnx"
    file.write_bytes(model.SerializeToString())
    return {file.name: file}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    files = written(small_network(), folder)
    return convert(RECORD, files, folder / "out"), files


def test_an_old_graph_is_brought_to_our_opset_and_proven(small):
    folder, _ = small
    folder.verify()
    assert set(folder.manifest.files) == {"model.onnx"}
    model = onnx.load(folder.onnx)
    assert graph_upgrade.opset_of(model) == 20
    onnx.checker.check_model(model, full_check=True)
    figures = folder.manifest.parity
    assert figures.reference.startswith("onnxruntime ")
    assert figures.max_rel_diff <= 1e-6
    assert set(figures.outputs) == {"answer"}
    origin = folder.manifest.origin
    assert (origin["opset"], origin["opset_now"], origin["producer"]) == (11, 20, "tests")
    assert origin["operators"]["Conv"] == 2
    facts = {item.key: item.value for item in model.metadata_props}
    assert facts["author"] == "somebody"
    assert json.loads(facts["tlhub.preprocess"])["inputs"][0]["shape"] == ["N", 3, 64, 64]
    assert not {"stem", "block"} - {item.name for item in model.graph.value_info}


def test_its_layers_are_where_it_could_be_cut(small):
    folder, _ = small
    layers = {layer.name: layer for layer in folder.manifest.layers}
    assert list(layers) == ["stem", "block", "scores"]
    assert layers["stem"].shape == layers["block"].shape == (8, 16, 16)
    assert layers["stem"].gmacs == pytest.approx(8 * 16 * 16 * 3 * 9 / 1e9)
    assert layers["block"].params == 64
    assert layers["scores"].params == 45
    assert layers["scores"].gmacs == pytest.approx(40 / 1e9)


def test_a_layer_can_be_an_output_and_another_cannot(small, tmp_path):
    _, files = small
    folder = convert(RECORD, files, tmp_path / "out", options=Options(layers=("block",)))
    session = onnxruntime.InferenceSession(folder.onnx, providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == ["answer", "block"]
    assert set(folder.manifest.parity.outputs) == {"answer", "block"}
    with pytest.raises(UsageError, match="no layer 'blok'") as caught:
        convert(RECORD, files, tmp_path / "no", options=Options(layers=("blok",)))
    assert "did you mean block?" in caught.value.hint


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("softmax", "batch"), [(True, "N"), (False, 1)])
def test_a_classifier_takes_photos_where_the_record_says_how(
    layout, softmax, batch, record_of, photos, tmp_path
):
    record = record_of("graph", framework="onnx", side=64, classes=5)
    files = written(small_network(12, layout=layout, softmax=softmax, batch=batch), tmp_path)
    folder = convert(record, files, tmp_path / "out")
    model = OnnxModel.open(folder.path, device="cpu")
    assert model(photos["chelsea.png"], top=1)[0].label.startswith("class ")
    figures = folder.manifest.parity
    assert {"logits", "probabilities", "embedding"} == set(figures.outputs)
    assert figures.max_rel_diff <= 1e-5
    assert figures.photos == 6
    assert folder.labels[4] == "class 4"


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Sigmoid"])
@pytest.mark.parametrize(
    "after", [(), ("Identity", "Cast"), ("Reshape", "Identity"), ("Flatten",), ("Squeeze",)]
)
def test_what_are_probabilities_already_get_no_second_softmax(
    op, after, record_of, photos, tmp_path
):
    model = small_network(13, softmax=False)
    graph, given, add = model.graph, "scores", _adds(model.graph)
    if {*after} & {"Flatten", "Squeeze", "Reshape"}:
        given = add("Unsqueeze", given, np.array([2, 3]))
    name = add(op, given, axis=1) if "max" in op.lower() else add(op, given)
    for step in after:
        constant = {"Reshape": np.array([-1, 5]), "Squeeze": np.array([2, 3])}.get(step)
        name = add(step, name, constant, **({"to": TensorProto.FLOAT} if step == "Cast" else {}))
    graph.output[0].name = name
    record = record_of("graph", framework="onnx", side=64, classes=5)
    folder = convert(record, written(model, tmp_path), tmp_path / "out")
    assert {"logits", "probabilities"} <= set(folder.manifest.parity.outputs)
    image = np.ascontiguousarray(photos["chelsea.png"][None])
    session = onnxruntime.InferenceSession(folder.onnx, providers=["CPUExecutionProvider"])
    seen = dict(
        zip(
            [o.name for o in session.get_outputs()],
            session.run(None, {"image": image}),
            strict=True,
        )
    )
    expected = fresh_process.run(tmp_path / "graph.onnx", {"": {"pixels": _pixels(folder, image)}})[
        ""
    ][name]
    expected = np.exp(expected) if op == "LogSoftmax" else expected
    np.testing.assert_allclose(seen["probabilities"], expected, atol=1e-5)


def _adds(graph):
    """Appends a node with one further, constant input; gives its output's name."""

    def add(op, given, constant=None, **attributes):
        name = f"{op}_{len(graph.node)}"
        inputs = [given]
        if constant is not None:
            inputs.append(f"{name}/constant")
            graph.initializer.append(numpy_helper.from_array(constant, inputs[1]))
        graph.node.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    return add


def _pixels(folder, image):
    """What the preprocessing of a converted graph makes of a photo."""
    model = onnx.load(folder.onnx)
    model.graph.output.append(
        helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(["pixel_values"], {"image": image})[0]


def test_external_data_is_taken_in(tmp_path):
    model = small_network()
    onnx.save_model(
        model,
        str(tmp_path / "graph.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    files = {name: tmp_path / name for name in ("graph.onnx", "weights.bin")}
    folder = convert(RECORD, files, tmp_path / "out")
    assert set(folder.manifest.files) == {"model.onnx"}
    assert folder.manifest.parity.max_rel_diff <= 1e-6


def _converted(model: onnx.ModelProto, tmp_path: Path):
    return convert(RECORD, written(model, tmp_path), tmp_path / "out")


def test_an_opset_that_cannot_be_converted_is_kept_with_the_reason(tmp_path):
    model = small_network(17)
    node = helper.make_node("FusedMatMul", ["features", "extra"], ["more"], domain="com.microsoft")
    model.graph.node.append(node)
    model.graph.initializer.append(_array("extra", 8, 2))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 2]))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.ir_version = 8
    folder = _converted(model, tmp_path)
    assert folder.manifest.origin["opset_now"] == 17
    assert "com.microsoft" in folder.manifest.origin["opset_kept_because"]


def test_a_wrong_upgrade_is_not_used(tmp_path, monkeypatch):
    def wrong(model):
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        array = numpy_helper.to_array(changed.graph.initializer[1])
        changed.graph.initializer[1].CopyFrom(numpy_helper.from_array(-array, "w2"))
        return changed, None

    monkeypatch.setattr(graph_upgrade, "upgraded", wrong)
    folder = _converted(small_network(), tmp_path)
    assert folder.manifest.origin["opset_now"] == 11
    assert "answer differs by" in folder.manifest.origin["opset_kept_because"]
    assert folder.manifest.parity.max_rel_diff == 0


def _negated(model):
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), "w2"))


def _without_block(model):
    for node in model.graph.node:
        node.input[:] = ["stem" if name == "block" else name for name in node.input]


def _other_classes(model):
    for node in model.graph.node:
        if node.op_type == "Gemm":
            node.input[2] = "other"
    model.graph.initializer.append(numpy_helper.from_array(np.ones(5, np.float32), "other"))


@pytest.mark.parametrize(
    ("mutate", "said"),
    [
        (_negated, "answer differs .* layer block is the first part"),
        (_without_block, "answer differs"),
        (_other_classes, "answer differs"),
    ],
)
def test_a_mutated_graph_is_caught(mutate, said, small, tmp_path):
    folder, files = small
    backbone = framework.load(files, RECORD, trust=False)
    model = onnx.load(folder.onnx)
    mutate(model)
    onnx.save(model, tmp_path / "mutant.onnx")
    with pytest.raises(ConversionError, match=said):
        parity.check(tmp_path / "mutant.onnx", backbone, tmp_path)


def test_weights_that_were_inputs_are_none_any_more(tmp_path):
    model = small_network(9)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        kind = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims))
        model.graph.input.append(kind)
    assert [item.name for item in inputs_of(model)] == ["pixels"]
    graph = onnx.load(_converted(model, tmp_path).onnx)
    assert [item.name for item in graph.graph.input] == ["pixels"]


def test_what_an_input_is_given_makes_sense():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        g (int64[batch, tokens] input_ids, int64[batch, tokens] attention_mask,
           int64[batch, tokens] token_type_ids, uint8[batch, 3, h, w] photo, float[batch, q] x,
           string[batch] word, bool[batch] flag, int64[batch, past] both)
        => (float[batch, tokens, 4] y)
        <float[40, 4] table> { y = Gather(table, input_ids) }
    """)
    model.graph.initializer.append(_array("table", 40, 4))
    model.graph.input[-1].type.tensor_type.shape.dim[1].dim_param = "q + tokens"
    inputs = inputs_of(model)
    sizes = situations(inputs, (64, 32))
    assert sizes[0]["q + tokens"] == 2 * sizes[0]["tokens"]
    assert (sizes[0]["h"], sizes[0]["w"]) == (64, 32)
    given = batch_of(inputs, sizes[0], 5, 0)
    assert {len(array) for array in given.values()} == {5}
    assert given["input_ids"].max() < 40
    assert set(np.unique(given["attention_mask"])) == {0, 1}
    assert set(np.unique(given["token_type_ids"])) <= {0, 1}
    assert given["photo"].dtype == np.uint8
    assert given["photo"].max() > 200


def test_sizes_that_a_network_needs_are_found(tmp_path):
    """It reshapes a height of 48 only."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 13]>
        g (float[n, 3, h, w] x) => (float[n, c, s] y)
        <int64[3] shape = {0, 144, -1}> { y = Reshape(x, shape) }
    """)
    assert _converted(model, tmp_path).manifest.parity.max_rel_diff == 0


# Hostile ones


def test_external_data_outside_the_folder_is_not_read(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4096))
    (tmp_path / "model").mkdir()
    model = small_network()
    tensor = model.graph.initializer[3]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret"
    files = written(model, tmp_path / "model")
    with pytest.raises(UnsafeError, match="outside its folder"):
        convert(RECORD, files, tmp_path / "out")
    entry.value = "here"
    with pytest.raises(IntegrityError, match="needs here, which is missing"):
        convert(RECORD, written(model, tmp_path / "model"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("float[n, 1000000000000] x) => (float[n, m] y) { y = Relu(x) }", None, "numbers at once"),
        ("float[n, 2] x) => (float[n, 2] y) { y = Softmin(x) }", None, "not valid ONNX"),
        (
            (
                "float[n, 2] x) => (float[m] y) <int64[1] s = {1000000000000}> "
                "{ big = ConstantOfShape(s)\n y = Add(big, big) }"
            ),
            None,
            "could not run",
        ),
    ],
)
def test_absurd_graphs_are_refused(text, error, said, tmp_path):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 13]> g ({text}')
    with pytest.raises(ConversionError, match=said):
        _converted(model, tmp_path)


def test_a_loop_without_an_end_is_stopped(tmp_path, monkeypatch):
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 13]>
        g (float[n, 2] x) => (float[n, 2] y) <int64 many = {9000000000000000000}> {
          true = Constant<value = bool {1}>()
          y = Loop(many, true, x) <body = step (int64 i, bool c, float[n, 2] a) =>
            (bool more, float[n, 2] b) { more = Identity(c)
 b = Sin(a) }>
        }
    """)
    monkeypatch.setattr(framework, "PROBE_TIMEOUT_S", 3)
    with pytest.raises(ConversionError, match="did not finish the graph in 3 s"):
        _converted(model, tmp_path)


def test_operators_and_metadata_that_no_graph_needs_are_refused(tmp_path):
    model = small_network()
    model.graph.node[1].domain = "evil.ops"
    with pytest.raises(UnsafeError, match=r"needs the operator evil\.ops::Relu"):
        _converted(model, tmp_path)
    model = small_network()
    helper.set_model_props(model, {"notes": "x" * (17 << 20)})
    with pytest.raises(UnsafeError, match="17 MiB of metadata"):
        _converted(model, tmp_path)


def test_a_run_that_fails_for_some_batches_leaves_these_out(tmp_path):
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[n] x) => (float[m, k] y) '
        "<int64[2] s = {3, -1}> { y = Reshape(x, s) }"
    )
    [file] = written(model, tmp_path).values()
    batches = {"a": {"x": np.ones(4, np.float32)}, "b": {"x": np.ones(6, np.float32)}}
    assert list(fresh_process.run(file, batches, mode="try")) == ["b"]
    found = fresh_process.run(file, {"b": batches["b"]}, mode="shapes")
    assert found["b"]["y"].tolist() == [3, 2]


def test_layers_of_quantized_weights_are_counted():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[n, 8] x) => (float[n, 4] y)
        <int8[8, 8] q, float scale = {0.5}, int8 zero = {0}, float[8, 4] w> {
          dq = DequantizeLinear(q, scale, zero)
          h = MatMul(x, dq)
          r = Relu(h)
          y = MatMul(r, w)
        }
    """)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 8), np.int8), "q"))
    model.graph.initializer.append(_array("w", 8, 4))
    [layer] = graph_layers.layers_of(model, {"r": (1, 8), "h": (1, 8)})
    assert (layer.name, layer.params, layer.gmacs) == ("r", 66, 64e-9)
