"""MindCV's tables of results, on a checkout of our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from catalog.harvesters import mindcv

HOST = "https://download.example.org/toolkits/mindcv"
FIRST = f"{HOST}/toy/toynet50-f369a08d-910v2.ckpt"
HEAD = """\
| model name | params(M) | resolution | acc@top1 | acc@top5 | recipe | weight |
| --- | --- | --- | --- | --- | --- | --- |
"""
README = f"""\
# ToyNet
> [Toys](https://arxiv.org/abs/1512.03385)
## Performance
{HEAD}\
| toynet50 | 25.61 | 224x224 | 76.76 | 93.31 | [yaml](x) | [w]({FIRST}) |
"""
BENCHMARK = f"""\
{HEAD}\
| toynet50 | 25.61 | 224x224 | 76.76 | 93.31 | [yaml](x) | [w]({FIRST}) |
| toynet50 | 25.61 | 160x192 | 70.1 | 90.2 | [yaml](x) | [w]({HOST}/toy/toynet50-e0733ab8.ckpt) |
| not a name | x | ? | ? | ? | | [weights]({HOST}/toy/broken.ckpt) |
"""


def test_each_training_is_a_record_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "configs/toy").mkdir(parents=True)
    (tmp_path / "configs/toy/README.md").write_text(README)
    (tmp_path / "benchmark_results.md").write_text(BENCHMARK)
    (tmp_path / "LICENSE.md").write_text("Apache License\nVersion 2.0, January 2004\n")
    with caplog.at_level(logging.WARNING):
        first, second = mindcv.harvest(tmp_path)
    assert "not a name is left out" in caplog.text
    assert first.uid == "mindcv/toynet50-f369a08d-910v2"
    assert (first.architecture, first.params, first.top1) == ("toynet50", 25_610_000, 76.76)
    assert first.paper_ids == ("1512.03385",)
    assert first.license is not None
    assert (first.license.scope, first.license.spdx) == ("project", "Apache-2.0")
    assert (second.uid, second.input_size) == ("mindcv/toynet50-e0733ab8", (3, 160, 192))
