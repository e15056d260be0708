"""`--from-scratch`: the same network from random weights, as a baseline."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny_texts
import torch

from converters.convert import convert
from converters.folder import ModelFolder
from finetuning.finetune import finetune
from finetuning.objectives.lessons import ClassLesson
from finetuning.tuning import scratch
from tests.finetuning.test_finetune import metrics_of


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_SEEN", 640)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """How far each tensor of the network came in the training."""
    moved: dict[str, torch.Tensor] = {}

    def train(learner: torch.nn.Module, *arguments: Any, **options: Any) -> list[float]:
        before = {name: value.clone() for name, value in learner.state_dict().items()}
        losses = inner(learner, *arguments, **options)
        after = learner.state_dict()
        moved.update({name: (after[name] - before[name]).abs().max() for name in before})
        assert np.mean(losses[-10:]) < np.mean(losses[:10])
        return losses

    inner = scratch.train
    monkeypatch.setattr(scratch, "train", train)
    return moved


def _run(base: ModelFolder, data: Path, place: Path) -> ModelFolder:
    return finetune(
        base, data, place / "run", cache=place / "cache", device="cpu", from_scratch=True
    )


def test_all_of_a_network_of_photos_learns_from_nothing(
    tiny: ModelFolder,
    make_data: Callable[..., Path],
    learned: dict[str, torch.Tensor],
    tmp_path: Path,
) -> None:
    data = make_data({"across": 16, "down": 16, "disc": 16})
    run = _run(tiny, data, tmp_path)
    metrics = metrics_of(run)
    assert metrics["baselines"]["from_scratch"] >= 0.75
    assert metrics["seconds"]["from scratch"] > 0
    assert metrics["tuning"]["said"] == "the head alone was asked for"
    unused = {"upper.network.model.classifier.weight", "upper.network.model.classifier.bias"}
    fixed = {name for name, most in learned.items() if not most}
    assert fixed == unused | {"head.mean", "head.scale"}  # batch statistics too
    assert "trained from random weights" in (run.path / "report.html").read_text()
    assert "trained from random weights" in (run.path / "README.md").read_text()


def test_all_of_a_network_of_texts_learns_from_nothing(
    learned: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model = tiny_texts.network("bert")
    source = tiny_texts.save(model, tmp_path / "source")
    base = convert(tiny_texts.record_of(model), source, tmp_path / "model")
    file = tmp_path / "texts.csv"
    with file.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["text", "label"])
        for n in range(60):
            table.writerow([f"the {('soup', 'rain')[n % 2]} and number {n}", "ab"[n % 2]])
    run = _run(base, file, tmp_path)
    metrics = metrics_of(run)
    assert metrics["baselines"]["from_scratch"] >= 0.75
    assert 0 <= metrics["baselines"]["random_weights"] <= 1
    assert all(most for name, most in learned.items() if "embeddings.word" in name)
    assert all(most for name, most in learned.items() if name.endswith("query.weight"))
    kept = load(base)
    assert kept == load(run)  # the weights that are written are those that it came with


def load(folder: ModelFolder) -> str:
    """The digest of its weights."""
    return folder.manifest.files["model.safetensors"].sha256


def test_why_there_is_none_is_said(
    tiny: ModelFolder, make_data: Callable[..., Path], tmp_path: Path
) -> None:
    record = msgspec.structs.replace(tiny.manifest.record, framework=None)
    plain = ModelFolder(tiny.path, msgspec.structs.replace(tiny.manifest, record=record))
    metrics = metrics_of(_run(plain, make_data({"across": 8, "down": 8}), tmp_path))
    assert metrics["baselines"]["from_scratch"] is None
    assert metrics["baselines_absent"]["from_scratch"]


def test_a_run_is_not_lost_where_the_loss_is_no_number(
    tiny: ModelFolder,
    make_data: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def losses(_self: ClassLesson, said: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return said.sum(1) * torch.nan

    monkeypatch.setattr(ClassLesson, "losses", losses)
    metrics = metrics_of(_run(tiny, make_data({"across": 8, "down": 8}), tmp_path))
    assert metrics["baselines"]["from_scratch"] is None
    assert "no number" in metrics["baselines_absent"]["from_scratch"]
