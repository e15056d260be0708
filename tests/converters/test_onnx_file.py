from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters import onnx_file


def _model() -> onnx.ModelProto:
    """Everything a model can hold: functions, metadata, weights of several kinds, a subgraph."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17, "own": 1], producer_name: "it", doc_string: "what">
        g (float[n, 3] x, bool c) => (float[n, 3] y)
        <float[3] shift = {1, 2, 3}, int64[1] axes = {0}> {
            a = own.twice(x)
            b = Add(a, shift)
            y = If(c) <then_branch = t () => (float[n, 3] u) { u = Relu(b) },
                       else_branch = e () => (float[n, 3] v) { v = Neg(b) }>
        }
        <domain: "own", opset_import: ["": 17]> twice (x) => (y) { y = Add(x, x) }
    """)
    big = np.random.default_rng(0).normal(size=(200, 70)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(big, "big"))
    model.graph.initializer.append(helper.make_tensor("empty", TensorProto.FLOAT, [0], []))
    values, places = helper.make_tensor("s", TensorProto.FLOAT, [1], [2.0]), [4]
    indices = helper.make_tensor("s_at", TensorProto.INT64, [1], places)
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9]))
    helper.set_model_props(model, {"labels": '["é"]', "k": ""})
    return model


@pytest.mark.parametrize("weights", [True, False])
def test_a_file_is_the_model_and_its_bytes_are_always_the_same(
    weights: bool, tmp_path: Path
) -> None:
    model = _model()
    if not weights:
        del model.graph.initializer[:]
    before = model.SerializeToString(deterministic=True)
    for name in ("a", "b"):
        onnx_file.write(model, tmp_path / name)
    assert model.SerializeToString(deterministic=True) == before
    read = onnx.load(str(tmp_path / "a"))
    assert read == model
    assert read.SerializeToString(deterministic=True) == before
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size == len(before)


def test_the_size_is_that_of_the_file_but_for_a_few_bytes(tmp_path: Path) -> None:
    model = _model()
    onnx_file.write(model, tmp_path / "a")
    assert 0 < (tmp_path / "a").stat().st_size - onnx_file.size(model) < 64
