from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from catalog.errors import ConversionError, DataError, StorageError, UsageError
from converters import parity
from converters.folder import ModelFolder
from converters.runtime import OnnxModel
from finetuning import graph, heads, perceptron
from finetuning.finetune import finetune
from finetuning.reference import reference

Make = Callable[..., Path]
CLASSES = {"across": 14, "down": 14, "disc": 14}


@pytest.fixture
def run(tiny: ModelFolder, make_data: Make, tmp_path: Path) -> Any:
    """``finetune`` on made-up data, with whatever is to be different."""

    def call(out: str = "run", **changes: Any) -> ModelFolder:
        request: dict[str, Any] = {"model": tiny, "cache": tmp_path / "cache", "device": "cpu"}
        if "data" not in changes:
            request["data"] = make_data(CLASSES)
        return finetune(out=tmp_path / "runs" / out, **{**request, **changes})

    return call


def metrics_of(folder: ModelFolder) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder.path / "metrics.json").read_text())
    return metrics


def test_a_run_folder_is_whole_and_predict_says_what_the_report_says(
    run: Any, tmp_path: Path
) -> None:
    folder = run(command=["tlhub", "finetune", "test/tiny", "--data", "my data"])
    ModelFolder.open(folder.path).verify()
    assert set(folder.manifest.files) == {
        *("model.onnx", "labels.txt", "model.safetensors", "head.safetensors"),
        *("metrics.json", "report.html", "README.md", "split.csv"),
    }
    onnx.checker.check_model(onnx.load(str(folder.onnx)), full_check=True)
    metrics = metrics_of(folder)
    assert metrics["command"] == "tlhub finetune test/tiny --data 'my data'"
    assert (metrics["n_train"], metrics["n_test"]) == (30, 12)
    assert not set(metrics["split"]["train"]) & set(metrics["split"]["test"])

    model = OnnxModel.open(folder.path, device="cpu")
    assert model.labels == ("across", "disc", "down")
    files = [tmp_path / "data" / name for name in metrics["split"]["test"]]
    said = [prediction.label for [prediction] in model.predict(files, top=1)]
    right = [label == file.parent.name for label, file in zip(said, files, strict=True)]
    assert metrics["accuracy"] == np.mean(right)
    assert metrics["accuracy"] >= 0.75  # a random network tells stripes from discs
    assert metrics["interval"][0] < metrics["accuracy"] <= metrics["interval"][1]
    assert [item["file"] for item in metrics["mistakes"]] == [
        item["file"] for item in metrics["mistakes"] if item["label"] != item["predicted"]
    ]
    assert len(metrics["mistakes"]) == right.count(False)
    assert np.trace(metrics["confusion"]) == right.count(True)
    assert metrics["baselines"]["majority"] == pytest.approx(1 / 3)
    assert 0 <= metrics["baselines"]["pixels"] <= 1
    assert 0 <= metrics["baselines"]["random_weights"] <= 1
    assert (
        metrics["learning_curve"][-1]["score"] == metrics["accuracy"] == metrics["score"]["value"]
    )
    assert metrics["share"] < 1
    assert [layer.name for layer in folder.manifest.layers]
    assert metrics["calibration"]["error"] <= 1

    manifest = folder.manifest
    assert (manifest.kind, manifest.uid) == ("run", "run/run")
    assert (manifest.record.base_model, manifest.record.relation) == ("test/tiny", "finetune")
    assert manifest.record.labels == model.labels
    assert manifest.record.evals[0].value == 100 * metrics["accuracy"]
    assert manifest.parity is not None
    assert manifest.parity.top1_agreement == 1
    assert manifest.run is not None
    assert manifest.run["metrics"]["accuracy"] == metrics["accuracy"]
    card = (folder.path / "README.md").read_text()
    assert card.startswith("---\n")
    assert "base_model: test/tiny" in card
    assert "license: apache-2.0" in card
    report = (folder.path / "report.html").read_text()
    assert "tlhub finetune test/tiny" in report
    assert 'src="http' not in report
    assert 'href="' not in report.replace('href="#', "")


def test_the_same_seed_gives_the_same_weights_and_extracts_nothing_again(run: Any) -> None:
    first, second, other = run("a"), run("b"), run("c", seed=1)
    extracted = metrics_of(first)["features_extracted"]
    chosen, other_way = metrics_of(first)["framing"], {"as trained": "whole photo"}
    other_way |= {"whole photo": "as trained"}
    assert extracted == {"pixels": 42, chosen: 42, other_way[chosen]: 30}
    assert set(metrics_of(second)["features_extracted"].values()) == {0}
    heads = [(folder.path / "head.safetensors").read_bytes() for folder in (first, second, other)]
    assert heads[0] == heads[1] != heads[2]
    assert metrics_of(first)["split"] == metrics_of(second)["split"] != metrics_of(other)["split"]


def test_a_run_can_be_fine_tuned_again(run: Any, make_data: Make, tmp_path: Path) -> None:
    first = run("first")
    data = make_data({"x": 8, "y": 8}, tmp_path / "other", seed=5)
    second = run("second", model=first, data=data)
    assert second.manifest.record.base_model == "run/first"
    assert OnnxModel.open(second.path).labels == ("x", "y")
    assert second.onnx.stat().st_size < first.onnx.stat().st_size + 8192
    assert "head.safetensors" in second.manifest.files


def test_without_a_torch_architecture_the_random_baseline_is_absent_with_its_reason(
    run: Any, tiny: ModelFolder
) -> None:
    record = msgspec.structs.replace(tiny.manifest.record, framework=None, preprocess=None)
    plain = ModelFolder(tiny.path, msgspec.structs.replace(tiny.manifest, record=record))
    metrics = metrics_of(folder := run(model=plain))
    assert metrics["baselines"]["random_weights"] is None
    assert metrics["baselines_absent"]["random_weights"]
    assert (metrics["framing"], metrics["framings"]) == ("as trained", {})
    assert "not measured" in (folder.path / "report.html").read_text()


def test_hostile_names_and_odd_images_come_through(run: Any, make_data: Make) -> None:
    names = [
        '<script>alert("x")</script>',
        'it\'s "so" {{ 7*7 }} & \U0001f600',
        "a\\b: #c, [d] | `e`",
    ]
    data = make_data(dict.fromkeys((name.replace("/", "\u2215") for name in names), 8))
    names = sorted(path.name for path in data.iterdir())
    odd = data / names[0]
    picture = Image.open(odd / "0.png")
    picture.convert("CMYK").save(odd / "cmyk.jpg")
    picture.convert("LA").save(odd / "alpha.png")
    picture.quantize(16).save(odd / "palette.gif")
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(odd / "16.png")
    Image.new("RGB", (1, 1)).save(odd / "one pixel.png")
    (odd / "<img src=x onerror=alert(1)>.png").write_bytes((odd / "1.png").read_bytes()[:200])
    folder = run(data=data)

    assert OnnxModel.open(folder.path).labels == tuple(names)
    metrics = metrics_of(folder)
    assert [item["name"] for item in metrics["skipped"]] == [
        f"{odd.name}/<img src=x onerror=alert(1)>.png"
    ]
    html = (folder.path / "report.html").read_text()
    card = (folder.path / "README.md").read_text()
    assert "<script" not in html
    assert r"\<script\>alert" in card
    assert "<img src=x" not in html
    assert "&lt;script&gt;" in html
    assert "{{ 7*7 }}" in html


def test_labels_that_mean_nothing_make_a_report_that_says_so(run: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "noise" / name).mkdir(parents=True)
        for n in range(20):
            noise = random.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "noise" / name / f"{n}.png")
    folder = run(data=tmp_path / "noise")
    report = (folder.path / "report.html").read_text()
    assert "Transfer does not help here" in report or "not certain that transfer" in report


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda data: (data / "empty").mkdir(), "holds no images"),
        (lambda data: [p.write_text("") for p in (data / "disc").iterdir()], "only 1 image|cannot"),
    ],
)
def test_unusable_data_leave_nothing_behind(
    run: Any, make_data: Make, tmp_path: Path, break_it: Any, message: str
) -> None:
    data = make_data(CLASSES)
    break_it(data)
    with pytest.raises(DataError, match=message):
        run(data=data)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_taken_place_is_kept_unless_it_is_a_run_to_be_replaced(run: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    run()
    with pytest.raises(UsageError, match="exists already"):
        run(data=data)
    assert run(data=data, replace=True, seed=2).manifest.run["seed"] == 2
    precious = tmp_path / "runs" / "photos"
    precious.mkdir()
    (precious / "only copy.jpg").write_text("x")
    with pytest.raises(UsageError, match="no folder of tlhub's"):
        run("photos", data=data, replace=True)
    assert (precious / "only copy.jpg").exists()
    with pytest.raises(UsageError, match="inside one another"):
        run("../data/run", data=data)


def test_a_place_that_cannot_be_written_is_said(
    run: Any, tiny: ModelFolder, make_data: Make, tmp_path: Path
) -> None:
    # /sys takes no folders, not even root's.
    with pytest.raises(StorageError, match="cannot be written"):
        finetune(tiny, make_data(CLASSES), Path("/sys/runs"), cache=tmp_path / "cache")
    with pytest.raises(StorageError, match="cannot be written"):
        run(cache=Path("/sys/features"))
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_file_that_computes_something_else_is_not_kept(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = graph.with_head

    def with_another_head(model: Any, stages: Any, head: Any, metadata: Any) -> Any:
        return honest(model, stages, replace(head, weight=head.weight * 1.1), metadata)

    monkeypatch.setattr(graph, "with_head", with_another_head)
    with pytest.raises(ConversionError, match="does not compute what was fitted"):
        run()
    assert list((tmp_path / "runs").iterdir()) == []


SCRIPT = """
import sys
from pathlib import Path
from converters.folder import ModelFolder
from finetuning import graph
from finetuning.finetune import finetune
model, data, out, cache = map(Path, sys.argv[1:])
finetune(ModelFolder.open(model), data, out, cache=cache, device="cpu",
         progress=lambda text: print(text, flush=True))
"""


@pytest.mark.parametrize("moment", ["fitting", "writing the report"])
def test_kill_9_leaves_nothing_and_the_next_run_goes_through(
    run: Any, tiny: ModelFolder, make_data: Make, tmp_path: Path, moment: str
) -> None:
    data, out = make_data(CLASSES), tmp_path / "runs" / "killed"
    arguments = [str(path) for path in (tiny.path, data, out, tmp_path / "cache")]
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(moment):
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    assert all(path.name.startswith(".killed.") for path in out.parent.iterdir())
    again = run("killed", data=data)
    held_out = {"fitting": 12, "writing the report": 0}[moment]
    assert max(metrics_of(again)["features_extracted"].values()) == held_out
    assert [path.name for path in out.parent.iterdir()] == ["killed"]


@pytest.mark.parametrize("form", ["zip", "gztar", "parquet"])
def test_data_in_archives_and_tables_give_the_same_weights(
    run: Any, make_data: Make, tmp_path: Path, form: str
) -> None:
    data = make_data({"a": 8, "b": 8})
    first = run("first", data=data)
    if form == "parquet":
        files = sorted(data.rglob("*.png"))
        images = [path.read_bytes() for path in files]
        place = tmp_path / "t.parquet"
        parquet.write_table(
            pa.table({"image": images, "label": [path.parent.name for path in files]}), place
        )
    else:
        place = Path(shutil.make_archive(str(tmp_path / "packed"), form, data))
    again = run("again", data=place)
    assert (again.path / "head.safetensors").read_bytes() == (
        first.path / "head.safetensors"
    ).read_bytes()
    assert set(metrics_of(again)["features_extracted"].values()) == {0}
    assert metrics_of(again)["accuracy"] == metrics_of(first)["accuracy"]


def test_a_head_with_a_hidden_layer_is_in_the_graph_and_the_proof(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "_FLATTERED", 1e9)
    monkeypatch.setattr(heads, "_MANY", 10)
    monkeypatch.setattr(perceptron, "FEWEST", 10)
    folder = run()
    metrics = metrics_of(folder)
    assert metrics["head"] == heads.PERCEPTRON
    assert metrics["onnx_agreement"] == 1  # on what was held out, as `finetune` compares
    layers = [node.op_type for node in onnx.load(str(folder.onnx)).graph.node[-4:]]
    assert layers == ["Gemm", "Relu", "Gemm", "Softmax"]
    backbone = reference(folder)
    proof = parity.check(folder.onnx, backbone, folder.path.parent)
    assert proof.max_rel_diff <= parity.TOLERANCE
    backbone.module.hidden *= -1
    with pytest.raises(ConversionError, match="logits differs"):
        parity.check(folder.onnx, backbone, folder.path.parent)
    again = run(out="again", model=folder)
    assert metrics_of(again)["n_train"] == metrics["n_train"]
