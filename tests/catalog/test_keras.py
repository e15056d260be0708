"""keras.applications, on modules written in the same forms."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from catalog.harvesters import keras
from catalog.record import ModelRecord

HASH = "0123456789abcdef" * 2
WIDE = "0123456789abcdef" * 4
BASE = "https://example.org/keras/"
MODULES = {
    "vgg16": f'''
PATH = ("{BASE}"
    "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5")
def VGG16():
    path = file_utils.get_file("vgg16.h5", PATH, file_hash="{HASH}")
def preprocess_input(x):
    return imagenet_utils.preprocess_input(x, mode="caffe")
''',
    "inception_resnet_v2": f'''
BASE_WEIGHT_URL = "{BASE}"
def InceptionResNetV2(top):
    if top:
        fname = "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5"
        path = file_utils.get_file(fname, BASE_WEIGHT_URL + fname, file_hash="{HASH}")
    else:
        fname = "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
        path = file_utils.get_file(fname, BASE_WEIGHT_URL + fname, file_hash="{HASH[::-1]}")
''',
    "mobilenet": f'BASE_WEIGHT_PATH = ("{BASE}")\nopen("/nowhere", "w")\n',
    "mobilenet_v3": f'''
BASE_WEIGHT_PATH = "{BASE}"
WEIGHTS_HASHES = {{"large_224_1.0_float": ("{HASH}", "x"), "small_224_1.0_float": ("short", "x")}}
BASE_DOCSTRING = """A table.
| mobilenet_v3_large_1.0_224   | 200 | 5.0 |   70.5   |   51.2  |
"""
''',
    "convnext": f'''
BASE_WEIGHTS_PATH = "{BASE}"
WEIGHTS_HASHES = {{"convnext_tiny": ("{WIDE}", "x")}}
''',
    "xception": "def (",
}


@pytest.fixture
def found(tmp_path: Path) -> dict[str, ModelRecord]:
    (tmp_path / "keras-9.9.dist-info").mkdir()
    (tmp_path / "keras-9.9.dist-info/METADATA").write_text(
        "Name: keras\nVersion: 9.9\nLicense: Apache License 2.0\n"
    )
    folder = tmp_path / keras.FOLDER
    folder.mkdir(parents=True)
    for name, text in MODULES.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "nasnet.py").write_bytes(b"# \xe9")
    return {record.uid: record for record in keras.harvest(tmp_path)}


@pytest.mark.parametrize(
    ("name", "algorithm", "value"),
    [
        ("VGG16", "md5", HASH),
        ("InceptionResNetV2", "md5", HASH),
        ("MobileNetV3Large", "md5", HASH),
        ("ConvNeXtTiny", "sha256", WIDE),
    ],
)
def test_digests_are_those_of_the_file_with_the_classifier(
    found: dict[str, ModelRecord], name: str, algorithm: str, value: str
) -> None:
    (file,) = found[f"keras/{name}"].artifacts
    assert file.urls[0].startswith(BASE)
    assert "notop" not in file.urls[0]
    assert file.digest is not None
    assert (file.digest.algorithm, file.digest.value) == (algorithm, value)


def test_mobilenets_of_all_widths_are_records_without_a_digest(
    found: dict[str, ModelRecord],
) -> None:
    record = found["keras/MobileNet_0.25_128"]
    assert record.artifacts[0].urls == (f"{BASE}mobilenet_2_5_128_tf.h5",)
    assert record.artifacts[0].digest is None
    assert record.input_size == (3, 128, 128)
    assert sum(uid.startswith("keras/MobileNet_") for uid in found) == 15


def test_what_the_docstring_publishes_is_taken(found: dict[str, ModelRecord]) -> None:
    record = found["keras/MobileNetV3Large"]
    assert (record.params, record.gmacs, record.top1) == (5_000_000, 0.2, 70.5)
    assert found["keras/VGG16"].params is None
    assert "BGR" in (found["keras/VGG16"].description or "")


def test_what_cannot_be_found_is_named_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    with caplog.at_level(logging.WARNING):
        found = request.getfixturevalue("found")
    for name in ("Xception", "NASNetLarge", "MobileNetV3Small", "ResNet50"):
        assert f"keras/{name}" not in found
        assert f"no weights of {name} " in caplog.text
