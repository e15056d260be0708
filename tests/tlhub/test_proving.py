"""`tlhub verify --parity` of folders whose reference is the file that they were made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from catalog.errors import UsageError
from tlhub import api
from tlhub.settings import Settings
from tlhub.verification import document, verify

GRAPH = """
    <ir_version: 8, opset_import: ["": 13]>
    g (float[n, 4] x) => (float[n, 2] y) <float[4, 2] w> { h = MatMul(x, w)
 y = Relu(h) }
"""


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "home", offline=False)


def _onnx(folder: Path) -> Path:
    model = onnx.parser.parse_model(GRAPH)
    model.graph.initializer.append(numpy_helper.from_array(np.eye(4, 2, dtype=np.float32), "w"))
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def _skops(folder: Path) -> Path:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    dump = pytest.importorskip("skops.io").dump
    given, classes = load_digits(return_X_y=True)
    dump(LogisticRegression(max_iter=20, tol=0.5).fit(given, classes), folder / "model.skops")
    return folder / "model.skops"


def _keras(folder: Path) -> Path:
    pytest.importorskip("h5py")
    from converters.keras_network import keras as on_torch

    keras = on_torch()
    layers = [keras.Input((4,)), keras.layers.Dense(5, activation="relu"), keras.layers.Dense(3)]
    keras.Sequential(layers).save(folder / "model.keras")
    return folder / "model.keras"


@pytest.mark.parametrize("make", [_onnx, _skops, _keras])
def test_the_parity_of_what_was_a_file_is_measured_again(make, settings, tmp_path):
    (tmp_path / "source").mkdir()
    file = make(tmp_path / "source")
    folder = api.convert(file, out=tmp_path / "out", settings=settings)
    report = verify(str(folder.path), settings, parity=True)
    assert report.parity_error is None
    assert report.max_rel_diff == pytest.approx(folder.manifest.parity.max_rel_diff, abs=1e-7)
    _negate(folder.onnx)
    manifest = json.loads((folder.path / "tlhub.json").read_text())
    from converters.folder import sha256_of

    entry = {"sha256": sha256_of(folder.onnx), "size_bytes": folder.onnx.stat().st_size}
    manifest["files"]["model.onnx"] = entry
    (folder.path / "tlhub.json").write_text(json.dumps(manifest))
    told = document(verify(str(folder.path), settings, parity=True), settings)
    assert "is not the model" in told["parity"]["error"]
    assert not told["ok"]
    shutil.rmtree(settings.home / "blobs")
    with pytest.raises(UsageError, match="which is not here any more"):
        verify(str(folder.path), settings, parity=True)


def _negate(file: Path) -> None:
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.ndim == 2:
            tensor.CopyFrom(numpy_helper.from_array(-array, tensor.name))
            break
    else:
        for attribute in model.graph.node[0].attribute:
            if attribute.name == "coefficients":
                attribute.floats[:] = [-value for value in attribute.floats]
    onnx.save(model, file)


def test_a_bare_graph_is_compared_as_it_was_made(settings, tmp_path):
    (tmp_path / "source").mkdir()
    file = _onnx(tmp_path / "source")
    folder = api.convert(file, preprocess=False, out=tmp_path / "out", settings=settings)
    assert verify(str(folder.path), settings, parity=True).parity_error is None
