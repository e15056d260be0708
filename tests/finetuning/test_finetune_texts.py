from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_texts import network, record_of, save

from catalog.errors import UsageError
from converters.convert import convert
from converters.folder import ModelFolder
from converters.runtime import OnnxModel
from finetuning.finetune import finetune
from finetuning.objectives import lessons
from finetuning.objectives.lesson import Judged

WORDS = {"weather": ["rain", "snow", "wind"], "food": ["soup", "restaurant", "cold soup"]}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    place = tmp_path_factory.mktemp("encoder")
    model = network("bert")
    return convert(record_of(model), save(model, place / "source"), place / "model")


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    file = tmp_path / "texts.csv"
    with file.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["text", "label"])
        for n in range(48):
            label = ["weather", "food"][n % 2]
            words = random.choice(WORDS[label], 4).tolist()
            table.writerow([f"The {' and '.join(words)} {'not ' * (n % 5)}{n}", label])
    return file


def test_texts_are_learned_from_and_predict_says_what_the_report_says(
    encoder: ModelFolder, reviews: Path, tmp_path: Path
) -> None:
    def run(name: str) -> ModelFolder:
        return finetune(encoder, reviews, tmp_path / name, cache=tmp_path / "cache", device="cpu")

    folder = run("run")
    metrics = json.loads((folder.path / "metrics.json").read_text())
    assert metrics["modality"] == "text"
    assert set(metrics["baselines"]) == {"majority", "words", "random_weights"}
    assert metrics["baselines"]["majority"] == 0.5
    assert metrics["baselines"]["words"] >= 0.9  # the words say it all
    assert 0.25 <= metrics["baselines"]["random_weights"] <= 1
    assert metrics["accuracy"] >= 0.75
    assert metrics["features_extracted"] == {"as trained": 48}
    assert folder.manifest.record.task == "text-classification"
    assert "tokenizer.json" in folder.manifest.files

    rows = list(csv.DictReader(reviews.read_text().splitlines()))
    model = OnnxModel.open(folder.path, device="cpu")
    said = {row["text"]: model(row["text"], top=1)[0].label for row in rows}
    right = sum(said[row["text"]] == row["label"] for row in rows)
    wrong = len(metrics["mistakes"])
    assert right <= len(rows) - wrong
    report = (folder.path / "report.html").read_text()
    assert "data:image" not in report
    assert "RGB" not in report
    assert "images" not in report

    again = run("again")
    metrics = json.loads((again.path / "metrics.json").read_text())
    assert metrics["features_extracted"] == {"as trained": 0}
    heads = [(run.path / "head.safetensors").read_bytes() for run in (folder, again)]
    assert heads[0] == heads[1]
    text = reviews.read_text().replace("The", "A", 1)
    reviews.write_text(text)
    changed = json.loads((run("changed").path / "metrics.json").read_text())
    assert changed["features_extracted"] == {"as trained": 1}


def test_a_model_of_texts_refuses_images(encoder: ModelFolder, make_data, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a model of texts"):
        finetune(encoder, make_data({"a": 3, "b": 3}), tmp_path / "run", cache=tmp_path / "cache")


def test_a_text_encoder_is_trained_through_and_says_what_it_was_measured_to(
    encoder: ModelFolder, reviews: Path, tmp_path: Path
) -> None:
    folder = finetune(
        encoder, reviews, tmp_path / "run", cache=tmp_path / "cache", device="cpu",
        unfreeze="all", seconds=30.0,
    )  # fmt: skip
    metrics = json.loads((folder.path / "metrics.json").read_text())
    [attempt] = metrics["tuning"]["attempts"]
    assert attempt["kept"]
    assert metrics["head"] == "trained with the network"
    assert metrics["onnx_agreement"] == 1
    losses = metrics["tuning"]["losses"]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    before = load_file(encoder.path / "model.safetensors")
    after = load_file(folder.path / "model.safetensors")
    assert after.keys() == before.keys()
    assert sum(not np.array_equal(before[name], after[name]) for name in before) > 5
    rows = list(csv.DictReader(reviews.read_text().splitlines()))
    model = OnnxModel.open(folder.path, device="cpu")
    held = [int(name.rpartition(":")[2]) - 2 for name in metrics["split"]["test"]]
    right = [model(rows[n]["text"], top=1)[0].label == rows[n]["label"] for n in held]
    assert metrics["accuracy"] == np.mean(right)


def test_where_neither_beats_the_other_a_text_encoder_that_was_trained_is_kept(
    encoder: ModelFolder, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "FEWEST", 1)

    def run(name: str, *, beats: bool) -> tuple[bool, str]:
        monkeypatch.setattr(Judged, "beats", lambda one, other: beats and one is not other)
        folder = finetune(
            encoder, reviews, tmp_path / name, cache=tmp_path / "cache", device="cpu", seconds=60.0
        )
        metrics = json.loads((folder.path / "metrics.json").read_text())
        return metrics["tuning"]["attempts"][0]["kept"], metrics["head"]

    assert run("kept", beats=False) == (True, "trained with the network")
    kept, head = run("left", beats=True)
    assert not kept
    assert head != "trained with the network"
