"""Hailo's descriptions of networks, on a checkout of our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from catalog.harvesters import hailo

URL = "https://zoo.example.org/toynet.zip"
BASE = """\
info:
  task: object detection
  eval_metric: mAP
  framework: pytorch
  training_data: coco train2017
  validation_data: coco val2017
  license_name: MIT
"""
NETWORK = f"""\
base: [base/toy.yaml, base/missing.yaml]
paths: {{url: {URL}}}
info:
  input_shape: 320x640x3
  operations: 28.6G
  parameters: 11.2M
  full_precision_result: 44.58
  license_url: https://example.org/LICENSE
  source: https://example.org/toynet
"""


def test_a_network_continues_its_base(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / hailo.CONFIGS
    (folder / "networks").mkdir(parents=True)
    (folder / "base").mkdir()
    (folder / "base/toy.yaml").write_text(BASE)
    (folder / "base/round.yaml").write_text("base: [base/round.yaml]")
    (folder / "networks/toynet.yaml").write_text(NETWORK)
    (folder / "networks/toynet_nv12.yaml").write_text(NETWORK)  # the same file of weights
    (folder / "networks/broken.yaml").write_text("paths: [")
    (folder / "networks/cut.yaml").write_text("paths: {url: null}\ninfo: {}")
    (folder / "networks/endless.yaml").write_text("base: [base/round.yaml]\ninfo: {}")
    with caplog.at_level(logging.WARNING):
        (record,) = hailo.harvest(tmp_path)
    assert "broken.yaml is left out" in caplog.text
    assert "missing.yaml" in caplog.text
    assert "continues itself" in caplog.text
    assert (record.uid, record.task, record.params) == (
        "hailo/toynet",
        "object-detection",
        11_200_000,
    )
    assert (record.gmacs, record.gmacs_at) == (14.3, (3, 320, 640))  # of two operations each
    assert [(e.dataset, e.metric_type, e.value) for e in record.evals] == [
        ("coco", "box_map", 44.58)
    ]
    assert record.license is not None
    assert (record.license.scope, record.license.spdx) == ("project", "MIT")
    assert record.license.url == "https://example.org/LICENSE"
    assert record.artifacts[0].urls == (URL,)
