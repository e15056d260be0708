"""PaddleClas' list of models and PaddleViT's, on checkouts of our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from catalog.harvesters import paddleclas, paddlevit
from catalog.record import ModelRecord, Preprocess

HOST = "https://weights.example.org"
END = "_pretrained.pdparams"
LAST = f"{HOST}/ToyMobile{END}"
LIST = f"""\
# 模型库
### ToyNet 系列 [1]
| 模型 | Top-1 Acc | Top-5 Acc | time(ms) | FLOPs(G) | Params(M) | 预训练模型下载地址 |
| --- | --- | --- | --- | --- | --- | --- |
| ToyNet_<br>18 | 0.7098 | 0.8992 | 1.2 | 1.83 | 11.70 | [下载]({HOST}/ToyNet_18{END}) |
| ToyNet_384[1] | 83.02 | 96.26 | - | 15.13 | 87.70 | [下载]({HOST}/ToyNet_384_22kto1k{END}) |
| ToyNet_384[1] | 1 | 1 | - | 1 | 1 | [下载]({HOST}/ToyNet_384_22kto1k{END}) |
|  | 0.5 | 0.6 | - | 1 | 1 | [下载]({HOST}/{END}) |
### Mobile
| 模型 | Top-1 Acc | FLOPs(M) | Params(M) | stage-1 | stage-2 |
| --- | --- | --- | --- | --- | --- |
| ToyMobile | 0.6 | 40.9 | 2.11 | [1]({HOST}/ToyMobile_stage1{END}) | [2]({LAST}) |
"""
CONFIG = """\
Global: {image_shape: [3, 256, 256]}
Infer:
  transforms:
    - ResizeImage: {resize_short: 292}
    - CropImage: {size: 256}
    - NormalizeImage: {mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
    - ToCHWImage:
"""


@pytest.fixture
def clas(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> dict[str, ModelRecord]:
    page = tmp_path / paddleclas.PAGE
    page.parent.mkdir(parents=True)
    page.write_text(LIST, "utf-8")
    configs = tmp_path / "ppcls/configs/ImageNet/Toy"
    configs.mkdir(parents=True)
    (configs / "ToyNet_18.yaml").write_text(CONFIG.replace("    - ToCHWImage:\n", ""))
    (configs / "ToyMobile.yaml").write_text("Global: [")
    with caplog.at_level(logging.WARNING):
        found = {record.uid: record for record in paddleclas.harvest(tmp_path)}
    assert "ToyMobile.yaml is not read" in caplog.text
    assert "_pretrained.pdparams is left out" in caplog.text
    return found


def test_each_file_of_paddleclas_is_a_record(clas: dict[str, ModelRecord]) -> None:
    names = ["ToyNet_18", "ToyNet_384_22kto1k", "ToyMobile_stage1", "ToyMobile"]
    assert list(clas) == [f"paddleclas/{name}" for name in names]


def test_fractions_are_percent_and_the_configuration_is_joined(
    clas: dict[str, ModelRecord],
) -> None:
    record = clas["paddleclas/ToyNet_18"]
    assert record.top1 == 70.98
    assert (record.params, record.gmacs, record.gmacs_at) == (11_700_000, 1.83, (3, 256, 256))
    assert record.preprocess == Preprocess(
        mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), interpolation="bilinear", crop_pct=0.87671
    )


def test_a_size_in_a_name_is_derived(clas: dict[str, ModelRecord]) -> None:
    record = clas["paddleclas/ToyNet_384_22kto1k"]
    assert (record.architecture, record.top1, record.input_size) == (
        "ToyNet_384",
        83.02,
        (3, 384, 384),
    )
    assert [d.id for d in record.source_datasets] == ["imagenet-21k", "imagenet-1k"]
    derived = {name for item in record.provenance if item.derived for name in item.fields}
    assert "input_size" in derived


def test_the_figures_are_those_of_the_last_stage(clas: dict[str, ModelRecord]) -> None:
    assert clas["paddleclas/ToyMobile_stage1"].top1 is None
    assert clas["paddleclas/ToyMobile"].top1 == 60.0
    assert clas["paddleclas/ToyMobile"].gmacs == 0.0409


DRIVE = "https://drive.google.com/file/d"
README = f"""\
# PaddleViT
### Image Classification
| Model | Acc@1 | Acc@5 | #Params | FLOPs | Image Size | Crop pct | Interp | Link |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| toy_vit_224 | 80.68 | 95.61 | 88.2M | 4.4G | 224 | .9 | x | [g]({DRIVE}/1aB-c/view)/[b](pan)(x) |
| xtoy_nano | 72.32 | 90.86 | 0.6G | 3.1M | 224 | 1 | cubic | [g]({DRIVE}/2xY_z/view) |
| copied | 1 | 2 | 3M | 4G | 224 | 1 | cubic | [g]({DRIVE}/1aB-c/view)/[b](pan)(x) |
| only-baidu | 1 | 2 | 3M | 4G | 224 | 1 | cubic | [baidu](https://pan.example) |
### Object Detection
| Model | box_mAP | Model |
| --- | --- | --- |
| Toy R-CNN | 48.4 | [g]({DRIVE}/3/view) |
"""


def test_paddlevit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "README.md").write_text(README)
    with caplog.at_level(logging.WARNING):
        vit, swapped = paddlevit.harvest(tmp_path)
    assert "copied links the file of README.md, toy_vit_224" in caplog.text
    assert "only-baidu is left out" in caplog.text
    assert (vit.uid, vit.params, vit.gmacs) == ("paddlevit/toy_vit_224", 88_200_000, 4.4)
    assert vit.artifacts[0].urls == ("https://drive.google.com/uc?export=download&id=1aB-c",)
    assert (swapped.params, swapped.gmacs) == (3_100_000, 0.6)
