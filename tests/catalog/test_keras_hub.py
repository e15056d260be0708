"""keras-hub's presets, on tables of our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from catalog.harvesters import keras_hub
from catalog.record import ModelRecord

BERT = """
backbone_presets = {
    "bert_toy_en": {
        "metadata": {
            "description": ("2-layer toy. "
                "Trained on English Wikipedia + BooksCorpus."),
            "params": 4385920,
            "path": "bert",
        },
        "kaggle_handle": "kaggle://toys/bert/keras/bert_toy_en/3",
    },
    "bert_toy_en_sst2": {
        "metadata": {"description": "Toy, tuned on SST-2.", "params": 1, "path": "bert"},
        "kaggle_handle": "kaggle://toys/bert/keras/bert_toy_en_sst2/1",
    },
    "bert_nowhere": {
        "metadata": {"description": "No handle.", "params": 1, "path": "bert"},
        "kaggle_handle": "file:///etc/passwd",
    },
    "bert_hollow": {"kaggle_handle": "kaggle://toys/bert/keras/bert_hollow/1"},
}
"""
RESNET = """
presets_with_weights = {
    "resnet_toy_imagenet": {
        "metadata": {
            "description": "A toy pre-trained on the ImageNet 1k dataset at a 256x256 resolution.",
            "params": 11186112,
            "path": "resnet",
        },
        "kaggle_handle": "kaggle://toys/resnet/keras/resnet_toy_imagenet/3",
    },
}
backbone_presets = {**presets_with_weights}
"""


@pytest.fixture
def found(tmp_path: Path) -> dict[str, ModelRecord]:
    (tmp_path / "keras_hub-9.9.dist-info").mkdir()
    (tmp_path / "keras_hub-9.9.dist-info/METADATA").write_text(
        "Name: keras-hub\nVersion: 9.9\nLicense-Expression: Apache-2.0\n"
    )
    for name, text in (("bert", BERT.encode()), ("resnet", RESNET.encode()), ("vgg", b"# \xe9")):
        folder = tmp_path / f"keras_hub/src/models/{name}"
        folder.mkdir(parents=True)
        (folder / f"{name}_presets.py").write_bytes(text)
    return {record.uid: record for record in keras_hub.harvest(tmp_path)}


def test_a_preset_is_a_record_once(found: dict[str, ModelRecord]) -> None:
    names = ["bert_toy_en", "bert_toy_en_sst2", "resnet_toy_imagenet"]
    assert list(found) == [f"keras-hub/{name}" for name in names]


def test_what_is_said_and_what_is_read_from_prose_are_kept_apart(
    found: dict[str, ModelRecord],
) -> None:
    record = found["keras-hub/bert_toy_en"]
    assert record.params == 4_385_920
    assert record.origin_url == "https://www.kaggle.com/models/toys/bert/keras/bert_toy_en/3"
    assert (record.task, record.languages) == ("fill-mask", ("en",))
    assert [d.id for d in record.source_datasets] == ["wikipedia", "bookcorpus"]
    said, derived = record.provenance
    assert "params" in said.fields
    assert {"task", "source_datasets", "languages"} <= set(derived.fields)
    assert derived.derived


def test_tasks_sizes_and_tuning_come_from_names_and_prose(found: dict[str, ModelRecord]) -> None:
    tuned = found["keras-hub/bert_toy_en_sst2"]
    assert tuned.task == "text-classification"
    assert [(d.id, d.role) for d in tuned.source_datasets] == [("sst2", "finetune")]
    image = found["keras-hub/resnet_toy_imagenet"]
    assert (image.task, image.input_size) == ("image-classification", (3, 256, 256))
    assert (image.label_set, image.num_classes) == ("imagenet-1k", 1000)


def test_broken_presets_and_files_are_named(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    with caplog.at_level(logging.WARNING):
        request.getfixturevalue("found")
    for name in ("bert_nowhere", "bert_hollow", "vgg_presets.py"):
        assert name in caplog.text
