"""Counts made in the publishers' modules, and what of them enters a record."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog import counted, snapshot
from catalog.errors import DataError
from catalog.record import ModelRecord


def test_a_count_is_taken_only_where_the_publisher_says_none() -> None:
    uid, (params, built_with) = next(iter(counted.read(counted.COUNTS).items()))
    found = counted.with_count(ModelRecord(uid="x/other", also=(uid,)))
    assert found.params == params
    (said,) = found.provenance
    assert (said.fields, said.source, said.derived) == (("params",), built_with, True)
    stated = ModelRecord(uid=uid, params=1)
    assert counted.with_count(stated) is stated
    unknown = ModelRecord(uid="x/unknown")
    assert counted.with_count(unknown) is unknown


@pytest.mark.parametrize(
    "text", ["x/a\t0\tp 1", "x/a\tmany\tp 1", "x/a\t1", "x/a\t1\tp\nx/a\t2\tp"]
)
def test_a_table_that_cannot_be_understood_names_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "counts.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"line [12]"):
        counted.read(path)


# What papers and other publishers say of the same architectures, in millions.
PUBLISHED = {
    "detectron2/COCO-Detection/faster_rcnn_R_50_FPN_1x": 41.75,
    "detectron2/COCO-Detection/retinanet_R_50_FPN_1x": 37.97,
    "keras/EfficientNetB0": 5.29,
    "keras/Xception": 22.9,
    "mmyolo/yolov5_s-v61_syncbn_fast_8xb16-300e_coco": 7.23,
    "open_clip/ViT-B-16-SigLIP2/webli": 375.19,
}


def test_the_counts_are_those_that_are_published_elsewhere() -> None:
    homes = {uid: r for r in snapshot.read() for uid in (r.uid, *r.also)}
    for uid, millions in PUBLISHED.items():
        assert homes[uid].params == pytest.approx(millions * 1e6, rel=0.003), uid
    assert counted.read(counted.COUNTS).keys() <= homes.keys()
