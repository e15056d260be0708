from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import IntegrityError, NotFoundError
from catalog.harvesters.onnx_zoo import MANIFEST, harvest
from catalog.record import ModelRecord

FOLDER = "validated/vision/classification/foonet"
README = """\
# FooNet

## Description
FooNet is a [net](https://arxiv.org/abs/2101.00001).

|Model |Download |ONNX version |Opset version|Top-1 accuracy (%)|Top-5 error|
|------|---------|-------------|-------------|------------------|-----------|
|FooNet|[1 MB](model/foonet-7.onnx)|1.2|7|75.5|7.5%|
|FooNet|[1 MB](model/foonet-3.onnx)|1.1|3| | |

## Dataset
[ImageNet (ILSVRC2012)](https://example.org)

## License
[BSD-3](LICENSE)
"""


def entry(name: str, folder: str = FOLDER, **more: Any) -> dict[str, Any]:
    metadata = {"model_sha": "AB" * 32, "model_bytes": 1000, "tags": ["vision", "classification"]}
    return {
        "model": "FooNet",
        "model_path": f"{folder}/model/{name}.onnx",
        "opset_version": 7,
        "metadata": metadata | more,
    }


PORTS = {
    "inputs": [{"name": "data", "shape": ["N", 3, 224, 320], "type": "tensor(float)"}],
    "outputs": [{"name": "out", "shape": ["N", 1000], "type": "tensor(float)"}],
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    entries = [
        entry("foonet-7", io_ports=PORTS),
        entry("foonet-3"),
        entry("cats-9", "validated/vision/object_detection_segmentation/cats"),
        entry("prepare", tags=["preprocessing"]),
        {"model": "no path"},
        entry("outside", "../.."),
        "no entry",
    ]
    (tmp_path / MANIFEST).write_text(json.dumps(entries))
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / "README.md").write_text(README)
    cats = tmp_path / "validated/vision/object_detection_segmentation/cats"
    cats.mkdir(parents=True)
    (cats / "README.md").write_bytes(b"caf\xe9")
    return tmp_path


def harvested(path: Path) -> dict[str, ModelRecord]:
    return {record.uid: record for record in harvest(path)}


def test_a_file_is_a_record_with_the_figures_of_its_row(checkout: Path) -> None:
    record = harvested(checkout)["onnx/foonet-7"]
    assert (record.task, record.architecture) == ("image-classification", "foonet")
    (tensor,) = record.inputs
    assert (tensor.dtype, tensor.shape) == ("float32", ("N", 3, 224, 320))
    assert record.input_size == (3, 224, 320)
    assert [(e.metric_type, e.value) for e in record.evals] == [("top1", 75.5), ("top5", 92.5)]
    assert (record.num_classes, record.label_set) == (1000, "imagenet-1k")
    assert [d.id for d in record.source_datasets] == ["imagenet-1k"]
    assert record.license is not None
    assert (record.license.spdx, record.license.scope) == ("BSD-3-Clause", "weights")
    (artifact,) = record.artifacts
    assert (artifact.opset, artifact.size_bytes) == (7, 1000)
    assert artifact.digest is not None
    assert artifact.digest.value == "ab" * 32


def test_an_export_without_ports_has_the_size_of_its_network(checkout: Path) -> None:
    record = harvested(checkout)["onnx/foonet-3"]
    assert record.input_size == (3, 224, 320)
    assert any(item.derived and "input_size" in item.fields for item in record.provenance)
    assert not record.evals  # its cells are empty


def test_broken_entries_are_named(checkout: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = harvested(checkout)
    assert sorted(records) == ["onnx/cats-9", "onnx/foonet-3", "onnx/foonet-7"]
    assert "outside.onnx is left out" in caplog.text
    assert caplog.text.count("is left out") == 3
    assert "cats/README.md cannot be read" in caplog.text
    assert records["onnx/cats-9"].license is None


def test_the_manifest_alone_gives_no_figures(checkout: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / MANIFEST).write_bytes((checkout / MANIFEST).read_bytes())
    record = harvested(alone / MANIFEST)["onnx/foonet-7"]
    assert record.evals == ()
    assert record.license is None
    assert record.artifacts


@pytest.mark.parametrize("text", ["{", "{}", "[" * 100_000, b"\xff"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / MANIFEST
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(IntegrityError, match="no manifest"):
        next(harvest(path))
    with pytest.raises(NotFoundError):
        next(harvest(tmp_path / "nowhere.json"))
