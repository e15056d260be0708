"""pytorchcv's table of models, on a table of our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from catalog.harvesters import pytorchcv
from catalog.record import ModelRecord

SHA = "0123456789abcdef0123456789abcdef01234567"
HEAD = (
    "model_name,net_weights,error_value,checksum,repo_release_tag,model_caption,arxiv_paper,"
    "test_dataset,img_size,img_scale,test_batch,remark\n"
)
ROWS = f"""\
toynet,1000,0650,{SHA},v0.0.1,ToyNet,1602.0736,in1k,240,0.875,200,NA
toynet_cifar10,900,0597,{SHA},v0.0.2,NA,NA,cf,NA,NA,NA,NA
seg_toy_voc,800,8144,{SHA},v0.0.3,NA,NA,voc,NA,NA,NA,NA
jazz_de,700,1166,{SHA},v0.0.4,NA,NA,mcv,NA,NA,NA,NA
raft_toy,600,0000,{SHA},v0.0.5,NA,NA,NA,NA,NA,NA,NA
untrained,500,NA,NA,NA,NA,NA,in1k,224,0.875,200,NA
broken,many,0650,{SHA},v0.0.1,NA,NA,in1k,224,0.875,200,NA
hashless,500,0650,../x,v0.0.1,NA,NA,in1k,224,0.875,200,NA
"""
README = f"""\
Name: pytorchcv
Version: 9.9
License-Expression: MIT

| Model | Top1 | Top5 | Params | FLOPs/2 | Remarks |
| --- | --- | --- | --- | --- | --- |
| ToyNet | 22.28 | 6.50 | 1,000 | 4,110.5M | ([log](https://x.org/toynet-0650-{SHA[:8]}.pth.log)) |
"""


@pytest.fixture
def found(tmp_path: Path) -> dict[str, ModelRecord]:
    (tmp_path / "pytorchcv-9.9.dist-info").mkdir()
    (tmp_path / "pytorchcv-9.9.dist-info/METADATA").write_text(README)
    common = tmp_path / "pytorchcv/models/common"
    common.mkdir(parents=True)
    (common / "model_metainfos.csv").write_text(HEAD + ROWS)
    (tmp_path / "pytorchcv/models/seg.py").write_text(
        "def seg_toy_voc(in_size: tuple[int, int] = (480, 320)):\n    pass\n"
    )
    (tmp_path / "pytorchcv/models/latin.py").write_bytes(b"# \xe9")
    return {record.uid: record for record in pytorchcv.harvest(tmp_path)}


def test_rows_with_weights_are_records(found: dict[str, ModelRecord]) -> None:
    names = ["toynet", "toynet_cifar10", "seg_toy_voc", "jazz_de", "raft_toy"]
    assert list(found) == [f"pytorchcv/{name}" for name in names]


def test_an_imagenet_row_has_the_figures_of_the_readme(found: dict[str, ModelRecord]) -> None:
    record = found["pytorchcv/toynet"]
    assert record.top1 == 77.72  # the four digits of the file name are the top-5 error
    assert [e.value for e in record.evals if e.metric_type == "top5"] == [93.5]
    assert (record.params, record.gmacs, record.input_size) == (1000, 4.1105, (3, 240, 240))
    assert record.paper_ids == ("1602.07360",)
    assert record.license is not None
    assert (record.license.spdx, record.license.scope) == ("MIT", "project")


def test_the_file_is_in_a_zip_and_the_digest_is_its_own(found: dict[str, ModelRecord]) -> None:
    (file,) = found["pytorchcv/toynet"].artifacts
    name = f"toynet-0650-{SHA[:8]}.pth"
    folder = "https://github.com/osmr/imgclsmob/releases/download/v0.0.1"
    assert file.urls == (f"{folder}/{name}.zip!{name}",)
    assert file.digest is not None
    assert (file.digest.algorithm, file.digest.value) == ("sha1", SHA)


def test_without_the_readme_the_digits_in_the_name_are_the_figure(
    found: dict[str, ModelRecord],
) -> None:
    cifar, voc, speech = (
        found[f"pytorchcv/{name}"] for name in ("toynet_cifar10", "seg_toy_voc", "jazz_de")
    )
    assert [(e.dataset, e.metric_type, e.value) for e in cifar.evals] == [
        ("cifar10", "top1", 94.03)
    ]
    assert cifar.input_size == (3, 32, 32)
    assert [(e.metric_type, e.value) for e in voc.evals] == [("mean_iou", 81.44)]
    assert voc.input_size == (3, 480, 320)  # as its source says
    assert [(e.metric_type, e.value, e.higher_is_better) for e in speech.evals] == [
        ("wer", 11.66, False)
    ]
    assert speech.languages == ("de",)
    assert not speech.source_datasets  # a test set says nothing of the training
    assert not found["pytorchcv/raft_toy"].evals


def test_broken_rows_and_files_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    with caplog.at_level(logging.WARNING):
        request.getfixturevalue("found")
    assert "line 8" in caplog.text
    assert "line 9" in caplog.text
    assert "latin.py" in caplog.text
