"""Figures that everybody knows, as the shipped records have them, whoever publishes them."""

from __future__ import annotations

import re
from collections import defaultdict
from statistics import median

import pytest

from catalog import snapshot
from catalog.build import read_sources
from catalog.record import ModelRecord
from catalog.slips import SLIPS, without_slips

# Architecture, input side, parameters and multiply-accumulates as their papers or torchvision say,
# and two or more records by different publishers with their top-1 in percent.
KNOWN: list[tuple[str, float, float, list[str]]] = [
    (
        "resnet50",
        25.56e6,
        4.1,
        [
            "torchvision/resnet50.IMAGENET1K_V1:76.1",
            "timm/resnet50.a1_in1k:80.2",
            "mmpretrain/resnet50_8xb32_in1k:76.6",
        ],
    ),
    (
        "mobilenet_v2",
        3.50e6,
        0.30,
        ["torchvision/mobilenet_v2.IMAGENET1K_V1:71.9", "mmpretrain/mobilenet-v2_8xb32_in1k:71.9"],
    ),
    (
        "vit_b_16",
        86.6e6,
        17.5,
        ["torchvision/vit_b_16.IMAGENET1K_V1:81.1", "timm/vit_base_patch16_224.augreg_in1k:79.2"],
    ),
    (
        "densenet121",
        7.98e6,
        2.87,
        [
            "torchvision/densenet121.IMAGENET1K_V1:74.4",
            "timm/densenet121.ra_in1k:75.6",
            "mmpretrain/densenet121_3rdparty_in1k:75.0",
        ],
    ),
    (
        "efficientnet_b0",
        5.29e6,
        0.39,
        [
            "torchvision/efficientnet_b0.IMAGENET1K_V1:77.7",
            "timm/efficientnet_b0.ra_in1k:77.7",
            "mmpretrain/efficientnet-b0_3rdparty_8xb32_in1k:76.7",
        ],
    ),
    (
        "inception_v3",
        23.8e6,
        5.7,
        ["timm/inception_v3.tf_in1k:77.9", "mmpretrain/inception-v3_3rdparty_8xb32_in1k:77.6"],
    ),
    (
        "vgg16",
        138.4e6,
        15.5,
        ["torchvision/vgg16.IMAGENET1K_V1:71.6", "mmpretrain/vgg16_8xb32_in1k:71.6"],
    ),
    (
        "alexnet",
        61.1e6,
        0.71,
        ["torchvision/alexnet.IMAGENET1K_V1:56.5", "paddleclas/AlexNet:56.7"],
    ),
]


@pytest.fixture(scope="module")
def records() -> dict[str, ModelRecord]:
    return {uid: record for record in snapshot.read() for uid in (record.uid, *record.also)}


@pytest.mark.parametrize(("name", "params", "gmacs", "homes"), KNOWN, ids=[k[0] for k in KNOWN])
def test_a_known_model_has_its_published_figures_in_the_same_units_everywhere(
    name: str, params: float, gmacs: float, homes: list[str], records: dict[str, ModelRecord]
) -> None:
    assert len({home.partition("/")[0] for home in homes}) >= 2
    for home in homes:
        uid, _, top1 = home.rpartition(":")
        record = records[uid]
        assert record.params == pytest.approx(params, rel=0.02), uid  # a count, not millions
        assert record.gmacs == pytest.approx(gmacs, rel=0.1), uid  # FLOPs would be twice that
        assert record.top1 == pytest.approx(float(top1), abs=1.5), uid  # percent, not an error


def test_one_architecture_has_one_size_whoever_publishes_it(
    records: dict[str, ModelRecord],
) -> None:
    groups = defaultdict(list)
    for record in set(records.values()):
        if record.params and record.gmacs and record.num_classes == 1000 and record.architecture:
            name = re.sub(r"[^a-z0-9]+", "-", record.architecture.lower().removeprefix("tf_"))
            groups[name].append(record)
    several = {n: g for n, g in groups.items() if len({r.source for r in g}) > 1 and len(g) > 2}
    assert len(several) > 100
    for name, group in several.items():
        middle = median(record.params or 0 for record in group)
        for record in group:
            assert middle / 3 < (record.params or 0) < middle * 3, (name, record.uid, middle)


def test_a_slip_of_a_publisher_is_left_out_with_its_provenance(
    records: dict[str, ModelRecord],
) -> None:
    assert SLIPS.keys() <= records.keys()
    for uid, (fields, reason) in SLIPS.items():
        record = records[uid]
        assert reason
        assert all(getattr(record, field) is None for field in fields)
        assert not {f for item in record.provenance for f in item.fields} & set(fields)
    plain = records["timm/resnet50.a1_in1k"]
    assert without_slips(plain) is plain


def test_every_source_states_the_license_of_its_project(records: dict[str, ModelRecord]) -> None:
    listed = {record.source for record in records.values()}
    assert len(listed) >= len({source.harvester for source in read_sources()})
    mteb = records["mteb/intfloat/e5-base"]
    assert mteb.project_license is not None
    assert mteb.project_license.scope == "project"
    both = records["timm/resnet50.a1_in1k"]
    assert both.license is not None
    assert both.license.scope == "weights"
    assert both.project_license is not None
