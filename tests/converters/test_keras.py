"""Models of Keras on its torch backend."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from benchmarks.architectures.alive_keras import enliven, write
from benchmarks.architectures.subjects import APPLICATIONS
from benchmarks.architectures.subjects import keras_record as application
from catalog.errors import ConversionError, IntegrityError, TlhubError, UnsafeError
from catalog.record import ModelRecord
from converters import extraction, keras_pooling, parity, scanning
from converters.convert import convert
from converters.keras_network import keras as on_torch
from converters.registry import load_backbone
from converters.runtime import OnnxModel

if find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)
h5py = pytest.importorskip("h5py")

# Keras itself, when tests make models with it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
RECORD = ModelRecord(uid="test/model", framework="keras")


@pytest.fixture(scope="module")
def small():
    keras = on_torch()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    given = keras.Input((32, 32, 3), name="picture")
    x = layers.Conv2D(8, 3, strides=2, name="conv1")(given)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.ReLU(name="relu1")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="conv2")(x)
    x = layers.ReLU(name="relu2")(layers.Add(name="add")([x, y]))
    x = layers.MaxPooling2D(name="pool1")(x)
    x = layers.Conv2D(8, 3, activation="relu", name="conv3")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    model = keras.Model(given, layers.Dense(5, activation="softmax", name="classes")(x))
    enliven(model)
    return model


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_whole_model_is_converted(suffix, small, tmp_path):
    file = tmp_path / f"model.{suffix}"
    small.save(file)
    folder = convert(RECORD, {file.name: file}, tmp_path / "out")
    figures = folder.manifest.parity
    assert figures.reference.startswith("torch ")
    assert set(figures.outputs) == {"logits", "probabilities"}
    names = [layer.name for layer in folder.manifest.layers]
    assert {"relu1", "relu2", "pool1", "pooled"} <= set(names)
    graph = onnx.load(folder.onnx)
    [given] = graph.graph.input
    assert given.name == "picture"
    dims = given.type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 32, 32, 3]


def test_the_probabilities_are_those_of_keras(small, tmp_path):
    import onnxruntime

    batch = np.random.default_rng(0).random((3, 32, 32, 3)).astype(np.float32)
    expected = small(batch).detach().numpy()
    small.save(tmp_path / "model.keras")
    folder = convert(RECORD, {"model.keras": tmp_path / "model.keras"}, tmp_path / "out")
    session = onnxruntime.InferenceSession(folder.onnx, providers=["CPUExecutionProvider"])
    [seen] = session.run(["probabilities"], {"picture": batch})
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def _check_application(record: ModelRecord, tmp_path: Path) -> None:
    model, file = write(record, tmp_path)
    folder = convert(record, {file.name: file}, tmp_path / "out")
    figures = folder.manifest.parity
    assert figures.max_rel_diff <= figures.tolerance <= 1e-4
    assert figures.photos == 6
    # From a photo that needs no resize to probabilities, by Keras' own preprocessing.
    side = round(record.input_size[1] / 0.875 - 0.5)
    photo = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    start = round((side - record.input_size[1]) / 2)
    crop = photo[start : start + record.input_size[1], start : start + record.input_size[1]]
    homes = {"VGG16": "vgg16", "ResNet50": "resnet", "MobileNet": "mobilenet"}
    home = homes.get(str(record.architecture))
    if home is not None:
        prepare = getattr(on_torch().applications, home).preprocess_input
        expected = model(prepare(crop[None].astype(np.float32))).detach().numpy()[0]
        runner = OnnxModel.open(folder.path, device="cpu")
        seen = {p.label: p.score for p in runner(photo, top=len(expected))}
        ours = [seen[str(n)] for n in range(len(expected))]
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_an_application_of_keras_takes_photos(tmp_path):
    record = application("MobileNet", 64, "MobileNet_0.25_64")
    _check_application(record, tmp_path)
    again = load_backbone({"model.safetensors": tmp_path / "out" / "model.safetensors"}, record)
    assert parity.check(tmp_path / "out" / "model.onnx", again, tmp_path).max_rel_diff <= 1e-5
    weight = next(p for n, p in again.module.model.named_parameters() if p.ndim == 4)
    with torch.no_grad():
        weight.neg_()
    with pytest.raises(ConversionError, match="is not the model"):
        parity.check(tmp_path / "out" / "model.onnx", again, tmp_path)


def test_the_mean_of_maps_is_over_their_places(tmp_path):
    record = application("MobileNet", 64, "MobileNet_0.25_64")
    _, file = write(record, tmp_path)
    folder = convert(record, {file.name: file}, tmp_path / "out")
    layer = next(layer.name for layer in folder.manifest.layers if layer.shape[:2] == (8, 8))
    model = OnnxModel.open(folder.path, device="cpu", layers=[layer])
    photo = np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8)
    out = tmp_path / "table.npy"
    extraction.extract(model, ["a"], lambda _: photo, out, key="a model", layer=layer)
    maps = model.features(photo, layer)
    assert maps.shape[:2] == (8, 8) != maps.shape[1:]
    np.testing.assert_allclose(np.load(out), maps.mean((0, 1))[None], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), APPLICATIONS.items())
def test_the_applications_of_2018_are_converted(name, side, tmp_path):
    _check_application(application(name, side), tmp_path)


def test_average_pooling_at_the_border_is_over_what_is_there():
    """As TensorFlow does it; Keras' torch backend repeats the border at stride 2."""
    layers = on_torch().layers
    random = np.random.default_rng(0)
    for height, width, stride in ((7, 7, 1), (8, 8, 2), (11, 14, 2), (9, 6, 3)):
        given = on_torch().Input((height, width, 3))
        inner = on_torch().Sequential([layers.AveragePooling2D(3, stride, padding="same")])
        model = on_torch().Model(given, inner(given))
        keras_pooling.mend(model)
        image = random.random((2, height, width, 3)).astype(np.float32)
        seen = model(image).detach().numpy()
        sides = [-(-side // stride) for side in (height, width)]
        assert seen.shape == (2, *sides, 3)
        above, left = (
            max((new - 1) * stride + 3 - side, 0) // 2
            for new, side in zip(sides, (height, width), strict=True)
        )
        for row, column in np.ndindex(*sides):
            top, start = row * stride - above, column * stride - left
            window = image[:, max(top, 0) : top + 3, max(start, 0) : start + 3]
            np.testing.assert_allclose(seen[:, row, column], window.mean((1, 2)), atol=1e-6)


def test_code_and_other_files_are_refused(small, tmp_path):
    keras = on_torch()
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2), layers.Dense(2)])
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(UnsafeError, match="Lambda"):
        convert(RECORD, {"x.keras": tmp_path / "lambda.keras"}, tmp_path / "out")

    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["kernel"] = np.ones(3)
    with h5py.File(tmp_path / "linked.h5", "w") as content:
        content["kernel"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "kernel")
    with pytest.raises(UnsafeError, match="from another file"):
        convert(application("MobileNet", 64), {"x.h5": tmp_path / "linked.h5"}, tmp_path / "out")

    small.save(tmp_path / "good.keras")
    with (
        zipfile.ZipFile(tmp_path / "good.keras") as good,
        zipfile.ZipFile(tmp_path / "bad.keras", "w") as bad,
    ):
        for name in good.namelist():
            file = tmp_path / "linked.h5"
            bad.writestr(name, file.read_bytes() if name.endswith(".h5") else good.read(name))
    with pytest.raises(UnsafeError, match="from another file"):
        convert(RECORD, {"x.keras": tmp_path / "bad.keras"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_configuration_without_weights_is_looked_at(tmp_path):
    keras = on_torch()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2)])
    model.save(tmp_path / "whole.keras")
    for kept in ({"config.json", "metadata.json"}, {"config.json"}):
        with (
            zipfile.ZipFile(tmp_path / "whole.keras") as whole,
            zipfile.ZipFile(tmp_path / "bare.keras", "w") as bare,
        ):
            for name in kept:
                bare.writestr(name, whole.read(name))
        assert scanning.scan(tmp_path / "bare.keras").verdict == "unsafe"
        with pytest.raises(UnsafeError, match="Lambda"):
            convert(RECORD, {"x.keras": tmp_path / "bare.keras"}, tmp_path / "out")
    (tmp_path / "bare.keras").rename(tmp_path / "bare.zip")
    with zipfile.ZipFile(tmp_path / "bare.zip", "a") as bare:
        bare.writestr("metadata.json", "{}")
    assert scanning.scan(tmp_path / "bare.zip").format == "keras"


def test_what_is_of_another_format_than_its_name_says_is_refused(small, tmp_path):
    (tmp_path / "page").write_text("<!doctype html><title>Not found</title>")
    small.save(tmp_path / "model.h5")
    small.save(tmp_path / "model.keras")
    zipped = zipfile.ZipFile(tmp_path / "pictures", "w")
    zipped.writestr("a.png", "")
    zipped.close()
    for name, other in (
        ("x.h5", "page"),
        ("x.keras", "page"),
        ("x.keras", "model.h5"),
        ("x.h5", "model.keras"),
        ("x.keras", "pictures"),
        ("x.h5", "pictures"),
    ):
        with pytest.raises((ConversionError, IntegrityError), match=rf"{name} "):
            convert(RECORD, {name: tmp_path / other}, tmp_path / "out")


def test_what_is_no_model_is_said(small, tmp_path):
    small.save(tmp_path / "good.keras")
    whole = (tmp_path / "good.keras").read_bytes()
    (tmp_path / "torn.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((IntegrityError, ConversionError)):
        convert(RECORD, {"x.keras": tmp_path / "torn.keras"}, tmp_path / "out")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    for record in (RECORD, application("MobileNet", 64), application("ResNet51", 64)):
        with pytest.raises(TlhubError, match=r"no application|cannot read"):
            convert(record, {"x.h5": tmp_path / "empty.h5"}, tmp_path / "out")


def test_another_backend_is_said_and_nothing_stays_in_the_environment():
    script = """
import os, sys
os.environ.pop("KERAS_BACKEND", None)
from converters.keras_network import keras
keras()
print(os.environ.get("KERAS_BACKEND"), "tensorflow" in sys.modules)
sys.modules["keras"].backend.backend = lambda: "jax"
try:
    keras()
except Exception as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.stdout.splitlines() == [
        "None False",
        "Keras runs on jax in this process, and is converted on torch",
    ], ran.stderr
