from __future__ import annotations

from pathlib import Path

import pytest
from unpacked import unpacked

from catalog.harvesters.openvino import harvest
from catalog.record import ModelRecord

HOST = "https://weights.example.org"
SHA = "ab" * 48

CLASSIFIER = f"""\
description: >-
  FooNet* trained on ImageNet <https://arxiv.org/abs/2101.00001>.
task_type: classification
files:
  - name: foonet-0123abcd.pth
    checksum: {SHA}
    size: 100000000
    source: {HOST}/mirror/foonet-0123abcd.pth
    original_source: {HOST}/foonet-0123abcd.pth
  - {{name: foonet.py, checksum: {SHA}, size: 10, source: '{HOST}/foonet.py'}}
input_info: [{{name: data, shape: [1, 320, 224, 3], layout: NHWC}}]
framework: pytorch
license: https://licenses.example.org/FOO
"""
CHECK = """\
models:
  - name: foonet
    datasets:
      - name: imagenet_1000_classes
        metrics:
          - {name: accuracy@top1, type: accuracy, top_k: 1, reference: 0.775}
          - {name: accuracy@top5, type: accuracy, top_k: 5, reference: 0.935}
          - {type: never_heard_of, reference: 1}
"""
DETECTOR = f"""\
description: Finds cats.
task_type: detection
files:
  - {{name: FP32/cats.xml, checksum: {"a1" * 48}, size: 1000, source: '{HOST}/32/cats.xml'}}
  - {{name: FP32/cats.bin, checksum: {"a2" * 48}, size: 4000000, source: '{HOST}/32/cats.bin'}}
  - {{name: FP16-INT8/cats.bin, checksum: {"a3" * 48}, size: 1000000, source: '{HOST}/8/cats.bin'}}
input_info: [{{name: image, shape: [1, 3, 256, 320], layout: NCHW}}]
framework: dldt
license: https://example.org/open_model_zoo/master/LICENSE
"""
CATS = """\
models:
  - datasets:
      - name: ms_coco_detection_cats
        metrics:
          - {type: coco_precision, threshold: 0.5, reference: 0.5}
          - {type: coco_precision, reference: 0.3}
      - name: noise
        metrics: [{type: psnr, reference: {mean: 30.5, std: 1}}, {type: wer, reference: 0.08}]
"""
README = """\
# foonet

## Specification

| Metric  | Value |
|---------|-------|
| GFLOPs  | 8.2   |
| MParams | 25.5  |

## Legal Information

The original model is distributed under the following
[license](https://licenses.example.org/FOO):

```
Permission is hereby granted, free of charge, to any person
THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND
```
"""
COMPOSITE = """\
description: Reads text.
task_type: text_to_speech
framework: dldt
stages_order: [talk-en-0001-encoder]
license: https://example.org/open_model_zoo/master/LICENSE
"""
TALK = """\
## Encoder model specification

| Metric  | Value |
|---------|-------|
| GFlops  | 2     |
| MParams | 1     |

## Decoder model specification

| MParams | 5     |
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    stage = DETECTOR.replace("detection", "text_to_speech").replace("[1, 3, 256, 320]", "[1, 80]")
    return unpacked(
        tmp_path / "wheel",
        "zoo",
        {
            "omz_tools/models/public/foonet/model.yml": CLASSIFIER,
            "omz_tools/models/public/foonet/accuracy-check.yml": CHECK,
            "omz_tools/models/intel/cat-detection-0001/model.yml": DETECTOR,
            "omz_tools/models/intel/cat-detection-0001/accuracy-check.yml": CATS,
            "omz_tools/models/intel/talk-en-0001/composite-model.yml": COMPOSITE,
            "omz_tools/models/intel/talk-en-0001/talk-en-0001-encoder/model.yml": stage,
            "omz_tools/models/public/broken/model.yml": "description: nothing else",
            "omz_tools/models/public/latin/model.yml": b"description: caf\xe9",
            "omz_tools/models/public/checkless/model.yml": CLASSIFIER,
            "omz_tools/models/public/checkless/accuracy-check.yml": "models: 7",
        },
        "Apache-2.0",
    )


@pytest.fixture
def readmes(tmp_path: Path) -> Path:
    for name, text in (
        ("public/foonet", README),
        ("intel/talk-en-0001", TALK),
        ("public/checkless", README.replace("25.5", "2550")),
    ):
        (tmp_path / "zoo/models" / name).mkdir(parents=True)
        (tmp_path / "zoo/models" / name / "README.md").write_text(text)
    return tmp_path / "zoo"


def harvested(wheel: Path, readmes: Path | None = None) -> dict[str, ModelRecord]:
    return {record.uid: record for record in harvest(wheel, readmes)}


def test_a_model_has_what_its_files_say(wheel: Path, readmes: Path) -> None:
    record = harvested(wheel, readmes)["openvino/foonet"]
    assert (record.task, record.framework, record.family) == (
        "image-classification",
        "pytorch",
        "foonet",
    )
    assert record.input_size == (3, 320, 224)
    assert record.params == 25_500_000
    assert record.gmacs == 4.1  # the zoo counts a multiply and an add as two
    assert [(e.metric_type, e.value) for e in record.evals] == [("top1", 77.5), ("top5", 93.5)]
    assert record.top1 == 77.5
    assert (record.num_classes, record.label_set) == (1000, "imagenet-1k")
    assert record.paper_ids == ("2101.00001",)
    assert record.license is not None
    assert (record.license.spdx, record.license.scope) == ("MIT", "weights")
    (artifact,) = record.artifacts  # the code that comes along is no artifact
    assert artifact.urls == (
        f"{HOST}/mirror/foonet-0123abcd.pth",
        f"{HOST}/foonet-0123abcd.pth",
    )
    assert (artifact.safe, artifact.size_bytes) == (False, 100_000_000)
    assert artifact.digest is not None
    assert (artifact.digest.algorithm, artifact.digest.prefix) == ("sha384", False)
    said = {field: item for item in record.provenance for field in item.fields}
    assert said["task"].derived
    assert said["params"].path == "models/public/foonet/README.md"
    assert not said["evals"].derived


def test_without_readmes_there_are_no_counts(wheel: Path) -> None:
    record = harvested(wheel)["openvino/foonet"]
    assert record.params is record.gmacs is record.gmacs_at is None
    assert record.license is not None
    assert record.license.url == "https://licenses.example.org/FOO"
    assert record.evals


def test_precisions_and_metrics_are_told_apart(wheel: Path) -> None:
    record = harvested(wheel)["openvino/cat-detection-0001"]
    assert [a.precision for a in record.artifacts] == ["fp32", "fp32", "int8"]
    assert record.family is None  # its name says what it is for
    assert [(e.dataset, e.metric_type, e.value, e.unit) for e in record.evals] == [
        ("coco", "box_map_50", 50.0, "%"),
        ("coco", "box_map", 30.0, "%"),
        ("noise", "psnr", 30.5, "dB"),
        ("noise", "wer", 8.0, "%"),
    ]
    assert not record.evals[-1].higher_is_better
    assert record.license is not None
    assert record.license.spdx == "Apache-2.0"


def test_a_stage_has_its_own_figures_and_the_whole_no_files(wheel: Path, readmes: Path) -> None:
    records = harvested(wheel, readmes)
    stage = records["openvino/talk-en-0001-encoder"]
    assert (stage.params, stage.gmacs) == (1_000_000, 1.0)
    assert (stage.task, stage.languages) == ("text-to-speech", ("en",))
    whole = records["openvino/talk-en-0001"]
    assert "composite" in whole.tags
    assert not whole.artifacts  # they would make it one with its stages


def test_what_cannot_be_is_left_out(
    wheel: Path, readmes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = harvested(wheel, readmes)
    assert len(records) == 5
    assert "broken/model.yml is left out" in caplog.text
    assert "latin/model.yml" in caplog.text
    assert "the figures of omz_tools/models/public/checkless" in caplog.text
    other = records["openvino/checkless"]  # 100 MB cannot hold 2.5 billion parameters
    assert other.params is None
    assert not other.evals
