from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file

from catalog.errors import DataError, UsageError
from converters.folder import ModelFolder
from converters.runtime import OnnxModel
from finetuning.budget import seconds_of
from finetuning.finetune import finetune
from finetuning.tuning.training import TrainingError
from tests.finetuning.test_finetune import metrics_of

Make = Callable[..., Path]
CLASSES = {"across": 14, "down": 14, "disc": 14}


@pytest.fixture
def run(tiny: ModelFolder, make_data: Make, tmp_path: Path) -> Any:
    def call(**changes: Any) -> ModelFolder:
        request: dict[str, Any] = {"cache": tmp_path / "cache", "device": "cpu", **changes}
        return finetune(tiny, make_data(CLASSES), tmp_path / "runs" / "run", **request)

    return call


def test_a_network_trained_through_is_exported_as_what_it_became(
    run: Any, tiny: ModelFolder, tmp_path: Path
) -> None:
    folder = run(unfreeze="all", seconds=20.0, cut=False)
    metrics = metrics_of(folder)
    [attempt] = metrics["tuning"]["attempts"]
    assert attempt["kept"]
    assert attempt["boundary"] == ""
    assert attempt["params"] > 10_000
    assert metrics["head"] == "trained with the network"
    assert "trained as a whole" in folder.manifest.run["metrics"]["tuning"]
    assert metrics["onnx_agreement"] == 1
    # The weights beside the graph are those in it, under the names that they came with.
    before = load_file(tiny.path / "model.safetensors")
    after = load_file(folder.path / "model.safetensors")
    assert after.keys() == before.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert len(changed) > 20
    assert not any("running" in name for name in changed), "statistics are frozen too"
    graph = onnx.load(str(folder.onnx)).graph
    inside = {i.name.removeprefix("network.model."): i for i in graph.initializer}
    plain = [name for name in changed if ".se." in name and name.endswith("weight")]
    assert len(plain) >= 4, "others have batch norm folded into them"
    for name in plain:
        assert np.array_equal(onnx.numpy_helper.to_array(inside[name]), after[name])
    model = OnnxModel.open(folder.path, device="cpu")
    files = [tmp_path / "data" / name for name in metrics["split"]["test"]]
    said = [prediction.label for [prediction] in model.predict(files, top=1)]
    right = [label == file.parent.name for label, file in zip(said, files, strict=True)]
    assert metrics["accuracy"] == np.mean(right)
    report = (folder.path / "report.html").read_text()
    assert "Trained through the network" in report
    assert "weights were trained" in report
    assert "frozen features" not in (folder.path / "README.md").read_text()


def test_with_few_examples_training_is_not_tried_unasked_and_that_is_said(run: Any) -> None:
    tuning = metrics_of(run(seconds=None))["tuning"]
    assert tuning["attempts"] == []
    assert "was not tried" in tuning["said"]
    assert "--budget 10m tries it" in tuning["said"]


def test_who_gives_it_time_has_it_tried_with_few_examples_too(run: Any) -> None:
    tuning = metrics_of(run(seconds=30.0))["tuning"]
    assert tuning["attempts"]


def test_what_cannot_be_trained_keeps_its_head_unless_training_was_asked_for(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", no_memory)
    tuning = metrics_of(run(seconds=30.0))["tuning"]
    assert "cannot be trained: memory does not hold" in tuning["said"]
    with pytest.raises(TrainingError, match="memory does not hold"):
        run(seconds=30.0, unfreeze="all", replace=True)


def test_no_layer_at_all_is_the_head_alone(run: Any) -> None:
    assert metrics_of(run(seconds=30.0, unfreeze="0"))["tuning"]["attempts"] == []


def test_a_layer_that_is_none_is_refused_with_those_there_are(run: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'nowhere'") as caught:
        run(unfreeze="nowhere", seconds=5.0, cut=False)
    assert "blocks" in caught.value.hint
    assert not (tmp_path / "runs" / "run").exists()


def test_the_last_layers_are_trained_and_those_below_stay(run: Any, tiny: ModelFolder) -> None:
    folder = run(unfreeze="1", seconds=10.0, cut=False)
    [attempt] = metrics_of(folder)["tuning"]["attempts"]
    assert attempt["boundary"]
    before = load_file(tiny.path / "model.safetensors")
    after = load_file(folder.path / "model.safetensors")
    assert np.array_equal(before["conv_stem.weight"], after["conv_stem.weight"])
    assert any(not np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("said", "seconds"), [("fast", 0.0), ("auto", None), ("90s", 90.0), ("1.5 h", 5400.0)]
)
def test_a_budget_is_what_people_write(said: str, seconds: float | None) -> None:
    assert seconds_of(said) == seconds


@pytest.mark.parametrize("said", ["", "0s", "10", "soon", "-5m"])
def test_a_budget_that_makes_no_sense_is_refused(said: str) -> None:
    with pytest.raises(UsageError, match="makes no sense"):
        seconds_of(said)


def test_the_course_of_a_training_is_logged_or_the_extra_is_named(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = tmp_path / "logs"
    if importlib.util.find_spec("tensorboard") is not None:
        run(unfreeze="1", seconds=30.0, tensorboard=logs)
        [file] = logs.glob("events.out.tfevents.*")
        assert b"final/loss" in file.read_bytes()
        assert b"held-back accuracy" in file.read_bytes()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="TensorBoard is not installed") as caught:
        run(unfreeze="1", seconds=5.0, tensorboard=logs, replace=True)
    assert "tlhub[tensorboard]" in str(caught.value.hint)


def test_a_photo_that_changes_while_a_network_is_trained_on_it_is_named(
    run: Any, tmp_path: Path
) -> None:
    def spoil(text: str) -> None:
        if text.startswith("training from"):
            for photo in (tmp_path / "data" / "disc").glob("*.png"):
                photo.write_bytes(photo.read_bytes()[:80])

    with pytest.raises(DataError, match=r"disc.*png"):
        run(unfreeze="all", seconds=20.0, progress=spoil)
    assert not (tmp_path / "runs" / "run").exists()
