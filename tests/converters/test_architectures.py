"""A slice of `make architectures`: a dozen that differ in what they ask of an exporter."""

from __future__ import annotations

import pytest

from benchmarks.architectures.__main__ import run
from benchmarks.architectures.page import write
from benchmarks.architectures.subjects import SLICE, all_subjects
from benchmarks.architectures.work import outcome
from converters.parity import MOST_OF_ROUNDING


@pytest.mark.parametrize("name", SLICE)
def test_a_slice_converts(name: str) -> None:
    row = outcome(name)
    assert "error" not in row, row
    assert 0 < row["max_rel_diff"] <= MOST_OF_ROUNDING  # as far as its own rounding
    assert row["layers"] > 3


def test_a_subject_that_dies_is_a_row_and_the_page_says_so(tmp_path) -> None:
    row = run("timm/nowhere")
    assert "the process ended with 1: KeyError" in row["error"]
    good = {"name": "timm/x", "architecture": "x", "max_rel_diff": 1e-6, "layers": 4, "mb": 1.0}
    good |= {"photo_max_rel_diff": 1e-3, "convert_s": 9.0}
    write([good, row], tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "1 of 2 convert" in page
    assert "| timm/x | x | 1.0e-06 | 1.0e-03 | 4 | 1.0 | 9.0 |" in page
    assert "| timm/nowhere |  | the process ended with 1" in page


def test_every_family_has_a_member() -> None:
    names = set(all_subjects())
    assert len([name for name in names if name.startswith("timm/")]) >= 90
    assert len([name for name in names if name.startswith("torchvision/")]) >= 15
    assert len([name for name in names if name.startswith("transformers/")]) >= 12 + 6


def test_a_network_of_transformers_is_a_subject_too() -> None:
    row = outcome("transformers/resnet")
    assert "error" not in row, row
    assert row["architecture"] == "ResNetForImageClassification"
    assert row["photo_max_rel_diff"] is not None
