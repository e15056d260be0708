"""The acceptance: EfficientNet-Lite's real weights, on real photos."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from catalog.errors import ConversionError
from converters.convert import convert
from converters.labels import labels_of
from converters.registry import load_backbone
from converters.runtime import OnnxModel

pytestmark = pytest.mark.index


@pytest.fixture(scope="module")
def lite0(lite, tmp_path_factory):
    record, files = lite(0)
    steps: list[str] = []
    folder = convert(
        record, files, tmp_path_factory.mktemp("models") / "lite0", progress=steps.append
    )
    assert "exporting to ONNX (opset 20)" in steps
    return folder


@pytest.fixture(scope="module")
def backbone(lite0):
    files = {"model.safetensors": lite0.path / "model.safetensors"}
    return load_backbone(files, lite0.manifest.record)


def test_it_sees_what_is_there(lite0, photos):
    """The scores that the publisher's own code gives."""
    model = OnnxModel.open(lite0.path, device="cpu")
    expected = {
        "chelsea.png": {"tiger cat": 0.395, "Egyptian cat": 0.355, "tabby": 0.170},
        "coffee.png": {"espresso": 0.951},
        "china.jpg": {"palace": 0.298},
        "flower.jpg": {"daisy": 0.315},
    }
    for name, classes in expected.items():
        best = model(photos[name], top=len(classes))
        assert [prediction.label for prediction in best] == list(classes), name
        for prediction in best:
            assert prediction.score == pytest.approx(classes[prediction.label], abs=0.01), name


def test_its_top_five_are_those_of_torch(lite0, backbone, photos):
    model, labels = OnnxModel.open(lite0.path, device="cpu"), labels_of(backbone.record)
    for name in ("chelsea.png", "coffee.png", "china.jpg", "flower.jpg", "portrait", "97x61"):
        logits = torch.from_numpy(backbone.expected({"image": photos[name][None]})["logits"])
        best = logits.softmax(-1)[0].topk(5)
        ours = model(photos[name])
        assert [p.label for p in ours] == [labels[n] for n in best.indices]
        np.testing.assert_allclose([p.score for p in ours], best.values, atol=2e-3)


def test_its_features_are_those_of_torch(lite0, backbone, photos):
    model = OnnxModel.open(lite0.path, device="cpu")
    theirs = backbone.features(list(photos.values()))
    assert theirs.shape == (len(photos), 1280)
    for photo, reference in zip(photos.values(), theirs, strict=True):
        ours = model.features(photo)
        cosine = ours @ reference / np.linalg.norm(ours) / np.linalg.norm(reference)
        assert cosine > 0.9999


def test_the_evidence_is_for_the_record_and_kept(lite0):
    figures = lite0.manifest.evidence["architectures"]
    own, twin = figures["tf_efficientnet_lite0"], figures["efficientnet_lite0"]
    assert own["drift"] == pytest.approx(0.1615, abs=0.002)
    assert twin["drift"] == pytest.approx(0.1882, abs=0.002)
    assert own["confidence"] > twin["confidence"]
    assert twin["layers_nearer"] > 0.7


def test_weights_in_the_wrong_places_are_refused(lite, tmp_path):
    """Two convolutions of one shape change places: names and shapes cannot tell."""
    record, files = lite(0)
    [file] = files.values()
    state = torch.load(file, weights_only=True)
    one, other = (f"_blocks.{block}._project_conv.weight" for block in (6, 7))
    state[one], state[other] = state[other], state[one]
    torch.save(state, tmp_path / "swapped.pth")
    with pytest.raises(ConversionError, match="not in their places"):
        load_backbone({"swapped.pth": tmp_path / "swapped.pth"}, record)


@pytest.mark.parametrize("number", [0, 2])
def test_the_twin_that_fits_by_shape_is_refused(number, lite):
    record, files = lite(number)
    wrong = msgspec.structs.replace(record, architecture=f"efficientnet_lite{number}")
    with pytest.raises(ConversionError, match=f"fit tf_efficientnet_lite{number} better"):
        load_backbone(files, wrong)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_the_larger_ones_convert(number, lite, photos, tmp_path):
    record, files = lite(number)
    folder = convert(record, files, tmp_path / "model")
    best = OnnxModel.open(folder.path, device="cpu")(photos["chelsea.png"], top=1)[0]
    assert best.label == "Egyptian cat"
    assert best.score == pytest.approx({1: 0.430, 2: 0.601}[number], abs=0.01)
