"""GluonCV's model stores and tables, on a checkout of our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from catalog.harvesters import gluoncv
from catalog.record import ModelRecord

SHA = "0123456789abcdef0123456789abcdef01234567"
OLD = "89abcdef0123456789abcdef0123456701234567"
STORE = f"""\
_model_sha1 = {{name: checksum for checksum, name in [
    ('{SHA}', 'toynet50_v1'),
    ('{SHA[::-1]}', 'yolo3_toy_coco'),
    ('{OLD}', 'i3d_toy_kinetics400'),
    ('short', 'broken'),
]}}
"""
TABLES = {
    "Classifications/Toy.csv": f"""\
Model,Top-1,Top-5,Hashtag,Training Command
ToyNet50_v1 [1]_,77.36,93.57,{SHA[:8]},`x <y>`_
ToyNet50_v1 [1]_,70.00,90.00,ffffffff,
ToyNet50_v1_int8 [1]_,76.86,93.46,{SHA[:8]},,
""",
    "Detections/MSCOCO_YOLO-v3.csv": """\
Model,Box AP,Training Command
yolo3_toy_coco [3]_ :gray:`(320x320)`,33.6/54.1/35.8,x
yolo3_toy_coco [3]_ :gray:`(608x608)`,37.0/58.2/40.1,x
""",
    "Action_Recognitions/Kinetics400_torch.csv": f"""\
Name,Pretrained,Top-1,Hashtag
i3d_toy_kinetics400 [3]_,ImageNet,66.73,{OLD[:8]}
""",
}


@pytest.fixture
def found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> dict[str, ModelRecord]:
    for folder in ("gluoncv", "gluoncv/torch"):
        store = tmp_path / folder / "model_zoo/model_store.py"
        store.parent.mkdir(parents=True)
        store.write_text(STORE if folder == "gluoncv" else f"('{OLD}', 'i3d_toy_kinetics400')")
    for name, text in TABLES.items():
        table = tmp_path / gluoncv.TABLES / name
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(text)
    (tmp_path / gluoncv.TABLES / "Poses").mkdir()
    (tmp_path / gluoncv.TABLES / "Poses/latin.csv").write_bytes(b"\xe9")
    with caplog.at_level(logging.WARNING):
        records = list(gluoncv.harvest(tmp_path))
    assert "latin.csv" in caplog.text
    assert "broken is left out" in caplog.text
    assert len(records) == 4  # one that both stores have under the same digest
    return {record.uid: record for record in records}


def test_a_row_is_joined_by_its_digest(found: dict[str, ModelRecord]) -> None:
    record = found[f"gluoncv/toynet50_v1-{SHA[:8]}"]
    assert record.top1 == 77.36
    assert record.artifacts[0].digest is not None
    assert record.artifacts[0].digest.value == SHA
    assert record.artifacts[0].urls[0].endswith(f"{SHA[:8]}.zip!toynet50_v1-{SHA[:8]}.params")


def test_a_detector_has_an_evaluation_for_each_size(found: dict[str, ModelRecord]) -> None:
    record = found[f"gluoncv/yolo3_toy_coco-{SHA[::-1][:8]}"]
    assert [(e.metric_type, e.value, e.eval_input_size) for e in record.evals] == [
        ("box_map", 33.6, (3, 320, 320)),
        ("box_map", 37.0, (3, 608, 608)),
    ]


def test_the_tables_of_pytorch_are_of_its_store_alone(found: dict[str, ModelRecord]) -> None:
    record = found[f"gluoncv/i3d_toy_kinetics400-{OLD[:8]}"]
    assert record.artifacts[0].format == "pytorch"
    assert (record.task, record.modality, record.family) == ("video-classification", "video", "i3d")
    assert [e.value for e in record.evals] == [66.73]
