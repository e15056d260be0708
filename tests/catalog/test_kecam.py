"""keras_cv_attention_models' tables, on a checkout of our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from catalog.errors import NotFoundError
from catalog.harvesters import kecam
from catalog.record import ModelRecord

RELEASES = "https://github.com/leondgarse/keras_cv_attention_models/releases/download"
MD5 = "0123456789abcdef0123456789abcdef"
README = f"""\
# Recognition Models
## ToyNet
| Model | Params | FLOPs | Input | Top1 Acc |
| --- | --- | --- | --- | --- |
| [ToyNetTiny]({RELEASES}/toy/toynet_tiny_imagenet.h5) | 3.7M | 0.55G | 224 | 76.7 |
| [- 21k_ft1k]({RELEASES}/toy/toynet_tiny_384_imagenet21k-ft1k.h5) | 3.7M | 1.6G | 384 | 77.55? |
| [- again]({RELEASES}/toy/toynet_tiny_imagenet.h5) | 9M | 9G | 224 | 99.9 |
| [ToyHuge, +.2]({RELEASES}/toy/toy_huge_imagenet.1.h5) | 1.2B | 300.1G | 512 | 85.8 |
| [Broken]({RELEASES}/toy/bro%20ken_imagenet.h5) | 1M | 1G | 224 | 50 |
# Detection Models
## ToyDet
| Model | Params | FLOPs | Input | COCO val AP | test AP |
| --- | --- | --- | --- | --- | --- |
| [ToyDetD0]({RELEASES}/det/toydet_d0_512_coco.h5) | 3.9M | 2.55G | 512 | 34.3 | 34.6 |
## YOLOV8
| Model | Params | FLOPs | Input | COCO val AP | test AP |
| --- | --- | --- | --- | --- | --- |
| [YOLOV8_N]({RELEASES}/yolov8/yolov8_n_coco.h5) | 3.2M | 4.4G | 640 | 37.3 | |
"""
SOURCE = f"""\
PRETRAINED_DICT = {{
    "toynet_tiny": {{"imagenet": "{MD5}", "imagenet21k-ft1k": {{384: "{MD5[::-1]}"}}}},
    "toy_huge": {{"imagenet": ["{MD5}", "{MD5}"]}},
    "toydet_d0": {{"coco": {{512: "not a digest"}}}},
}}
"""


@pytest.fixture
def found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> dict[str, ModelRecord]:
    (tmp_path / "README.md").write_text(README)
    folder = tmp_path / "keras_cv_attention_models/toy"
    folder.mkdir(parents=True)
    (folder / "toy.py").write_text(SOURCE)
    (folder / "latin.py").write_bytes(b"# \xe9")
    with caplog.at_level(logging.WARNING):
        records = {record.uid: record for record in kecam.harvest(tmp_path)}
    assert "latin.py" in caplog.text
    assert "linked twice" in caplog.text
    assert "Broken is left out" in caplog.text
    return records


def test_each_file_is_a_record_and_copyleft_conversions_are_not(
    found: dict[str, ModelRecord],
) -> None:
    names = [
        *("toynet_tiny_imagenet", "toynet_tiny_384_imagenet21k-ft1k", "toy_huge_imagenet"),
        "toydet_d0_512_coco",
    ]
    assert list(found) == [f"kecam/{name}" for name in names]


def test_a_row_has_its_figures_and_the_digest_of_its_file(found: dict[str, ModelRecord]) -> None:
    record = found["kecam/toynet_tiny_imagenet"]
    assert (record.params, record.gmacs, record.input_size) == (3_700_000, 0.55, (3, 224, 224))
    assert (record.architecture, record.top1) == ("ToyNetTiny", 76.7)
    assert record.artifacts[0].digest is not None
    assert record.artifacts[0].digest.value == MD5
    assert [item.id for item in record.source_datasets] == ["imagenet-1k"]


def test_a_variant_keeps_the_name_and_an_uncertain_figure_is_none(
    found: dict[str, ModelRecord],
) -> None:
    record = found["kecam/toynet_tiny_384_imagenet21k-ft1k"]
    assert (record.architecture, record.top1) == ("ToyNetTiny", None)
    assert [(d.id, d.role) for d in record.source_datasets] == [
        ("imagenet-21k", "pretrain"),
        ("imagenet-1k", "finetune"),
    ]


def test_weights_in_two_files_have_both(found: dict[str, ModelRecord]) -> None:
    files = [item.path for item in found["kecam/toy_huge_imagenet"].artifacts]
    assert files == ["toy_huge_imagenet.1.h5", "toy_huge_imagenet.2.h5"]


def test_a_detector_is_scored_on_coco(found: dict[str, ModelRecord]) -> None:
    record = found["kecam/toydet_d0_512_coco"]
    assert record.task == "object-detection"
    assert [(e.dataset, e.metric_type, e.value) for e in record.evals] == [
        ("coco", "box_map", 34.3)
    ]
    assert record.artifacts[0].digest is None


def test_without_a_checkout_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="keras_cv_attention_models"):
        list(kecam.harvest(tmp_path / "none"))
