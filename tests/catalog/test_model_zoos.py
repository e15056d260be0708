"""Zoos that are pages of tables, on pages of our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from catalog.errors import UsageError
from catalog.harvesters import model_zoos
from catalog.record import ModelRecord

FILES = "https://dl.fbaipublicfiles.com"
TWO = f"{FILES}/detectron2"
SWAV = f"{FILES}/vissl/model_zoo/swav_toy.a0a6"
DETECTRON = f"""\
# Zoo
## COCO Instance Segmentation Baselines
<table><tbody>
<th>Name</th><th>box<br/>AP</th><th>mask<br/>AP</th><th>model id</th><th>download</th>
<tr><td><a href="configs/a.yaml">R50-FPN</a></td><td>38.6</td><td>35.2</td><td>13</td>
<td><a href="{TWO}/COCO-InstanceSegmentation/mask_rcnn_toy_1x/13/model_final_a54.pkl">model</a>
&nbsp;|&nbsp;<a href="{FILES}/metrics.json">metrics</a></td></tr>
<tr><td>R1</td><td></td><td></td><td>14</td><td><a href="{FILES}/x.json">metrics</a></td></tr>
<tr><td>R2</td><td>1</td><td>2</td><td>15</td>
<td><a href="{TWO}/not a name/model_final_a54504.pkl">model</a></td></tr>
</tbody></table>
"""
VITDET = f"""\
# ViTDet
<table><tbody>
<th>Name</th><th>box<br/>AP</th><th>download</th>
<tr><td>ViTDet-B</td><td>51.6</td>
<td><a href="{TWO}/ViTDet/COCO/toy_vitdet_b/f3/model_final_61ccd1.pkl
">model</a></td></tr>
</tbody></table>
"""
PYCLS = f"""\
| model | flops<br>(B) | params<br>(M) | error<br>(top-1) | model id | download |
| --- | --- | --- | --- | --- | --- |
| [EN-B1](x.yaml) | 0.7 | 7.8 | 24.1 | 1 | [model]({FILES}/pycls/1/EN-B1_dds_8gpu.pyth) |
"""
VISSL = f"""\
### Supervised
| Method | Model | PreTrain dataset | ImageNet top-1 acc. | URL |
| --- | --- | --- | --- | --- |
| Supervised | RN50 | Places205 | 58.49 | [model]({FILES}/vissl/toy_rn50_places.torch) |
| Supervised | [RN50](x.py) | ImageNet | 76.1 | [m](https://download.pytorch.org/r-19c8.pth) |
### SwAV
| Method | Model | PreTrain dataset | ImageNet top-1 linear acc. | URL |
| --- | --- | --- | --- | --- |
| SwAV | RN50 | ImageNet-1K | 74.92 | [m]({SWAV}/model_final_phase9.torch) |
"""


def harvested(folder: Path, zoo: str, pages: dict[str, str]) -> list[ModelRecord]:
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return list(model_zoos.harvest(**{zoo: folder}))


def test_weights_under_a_license_of_their_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pages = {"MODEL_ZOO.md": DETECTRON, "projects/ViTDet/README.md": VITDET}
    (tmp_path / "LICENSE").write_text("Apache License\nVersion 2.0, January 2004\n")
    (tmp_path / "projects/Latin").mkdir(parents=True)
    (tmp_path / "projects/Latin/README.md").write_bytes(b"\xe9")
    with caplog.at_level(logging.WARNING):
        mask, vitdet = harvested(tmp_path, "detectron2", pages)
    assert "Latin/README.md" in caplog.text
    assert "no name of a model" in caplog.text
    assert mask.uid == "detectron2/COCO-InstanceSegmentation/mask_rcnn_toy_1x"
    assert (mask.task, mask.tags) == ("image-segmentation", ("instance-segmentation",))
    assert [(e.metric_type, e.value) for e in mask.evals] == [("box_map", 38.6), ("mask_map", 35.2)]
    assert mask.license is not None
    assert (mask.license.scope, mask.license.spdx) == ("weights", "CC-BY-SA-3.0")
    # The projects' pages say nothing of a license: what is known is that of the code.
    assert vitdet.uid == "detectron2/ViTDet/COCO/toy_vitdet_b"
    assert vitdet.license is not None
    assert (vitdet.license.scope, vitdet.license.spdx) == ("project", "Apache-2.0")
    assert vitdet.artifacts[0].urls[0].endswith("61ccd1.pkl")


def test_an_error_is_turned_and_the_size_is_of_the_name(tmp_path: Path) -> None:
    (record,) = harvested(tmp_path, "pycls", {"MODEL_ZOO.md": PYCLS})
    assert (record.uid, record.top1) == ("pycls/EN-B1", 75.9)
    assert (record.params, record.gmacs) == (7_800_000, 0.7)
    assert record.input_size == (3, 240, 240)
    assert record.label_set == "imagenet-1k"


def test_a_probe_is_no_top1_of_the_model(tmp_path: Path) -> None:
    places, swav = harvested(tmp_path, "vissl", {"MODEL_ZOO.md": VISSL})
    assert [(d.id, places.label_set) for d in places.source_datasets] == [("places205", None)]
    assert (swav.uid, swav.top1) == ("vissl/swav_toy.a0a6", None)
    assert [(e.metric_type, e.value) for e in swav.evals] == [("linear_probe_top1", 74.92)]


def test_every_zoo_is_described(tmp_path: Path) -> None:
    for name in model_zoos.ZOOS:
        assert list(model_zoos.harvest(**{name: tmp_path})) == []
    with pytest.raises(UsageError, match="no zoo 'toys'"):
        list(model_zoos.harvest(toys=tmp_path))
