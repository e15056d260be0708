from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file
from tiny_texts import network, record_of, save

from catalog.errors import UsageError
from converters.convert import convert
from converters.folder import ModelFolder
from converters.runtime import OnnxModel
from finetuning import card, cut
from finetuning.cut import Cut
from finetuning.finetune import finetune
from finetuning.objectives import lessons
from finetuning.objectives.lesson import Judged
from finetuning.stages import Stage
from finetuning.tuning.learner import Head, Learner
from finetuning.tuning.pooling import pool_of
from finetuning.tuning.texts import Texts
from finetuning.tuning.training import Recipe, train
from finetuning.tuning.views import Live

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


def test_the_code_of_the_card_says_what_the_model_says_its_prompt_included(
    encoder: ModelFolder, reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finetune(
        encoder, reviews, tmp_path / "run", cache=tmp_path / "cache", device="cpu", seconds=0.0
    )
    graph = onnx.load(str(folder.onnx))
    for prompt in ("", "the soup is cold "):
        for item in graph.metadata_props:
            if item.key == "tlhub.preprocess":
                item.value = json.dumps({**json.loads(item.value), "prompt": prompt})
        onnx.save(graph, str(folder.onnx))
        code = card.usage(str(folder.path), "text")["ONNX Runtime and tokenizers alone"]
        exec(code, {})
        label, score = capsys.readouterr().out.split()
        [best] = OnnxModel.open(folder.onnx, device="cpu")("a text", top=1)
        assert label == best.label
        assert float(score) == pytest.approx(best.score, abs=1e-6)


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


def test_batches_of_texts_are_padded_by_half_and_teach_the_same() -> None:
    random = torch.Generator().manual_seed(0)
    lengths = torch.tensor([3, 17, 5, 16, 4, 15, 3, 18])
    mask = (torch.arange(18) < lengths[:, None]).long()
    texts = Texts((torch.randint(1, 50, (8, 18), generator=random) * mask, mask))
    longest: list[int] = []

    class Upper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.words = torch.nn.Embedding(50, 6)

        def forward(self, ids: torch.Tensor, _mask: torch.Tensor) -> tuple[torch.Tensor]:
            longest.append(ids.shape[1])
            return (self.words(ids),)

    def learned(views: Live) -> dict[str, torch.Tensor]:
        stage = Stage("words", "words", "words")
        weight = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
        mean = torch.zeros(6)
        head = Head(pool_of(stage), weight, torch.zeros(2), mean, torch.ones(6))
        learner = Learner(Upper(), head)
        targets = torch.tensor([0, 1] * 4)
        train(learner, views, targets, Recipe(steps=6, batch=8, rate=1e-2), seed=1)
        return learner.weights()

    by_length = Live(texts, torch.device("cpu"))
    halves = learned(by_length)
    assert sorted(set(longest)) == [5, 18]
    by_length.lengths = None
    for name, whole in learned(by_length).items():
        torch.testing.assert_close(halves[name], whole, rtol=1e-4, atol=1e-5, msg=name)


def test_a_text_encoder_is_trained_to_its_end_whatever_a_head_alone_is_best_on(
    encoder: ModelFolder, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = lambda stages, *_, **__: Cut(stages[:1], 1.0, ())  # noqa: E731
    monkeypatch.setattr(cut, "choose", first)
    folder = finetune(
        encoder, reviews, tmp_path / "run", cache=tmp_path / "cache", device="cpu",
        unfreeze="all", seconds=10.0,
    )  # fmt: skip
    metrics = json.loads((folder.path / "metrics.json").read_text())
    assert metrics["stages"] == ["embedding"]
    assert metrics["share"] == 1


def test_where_neither_beats_the_other_a_text_encoder_that_was_trained_is_kept(
    encoder: ModelFolder, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "FEWEST", 1)

    def run(name: str, *, beats: bool) -> tuple[bool, str]:
        monkeypatch.setattr(Judged, "beats", lambda one, other, _=1.0: beats and one is not other)
        folder = finetune(
            encoder, reviews, tmp_path / name, cache=tmp_path / "cache", device="cpu", seconds=60.0
        )
        metrics = json.loads((folder.path / "metrics.json").read_text())
        return metrics["tuning"]["attempts"][0]["kept"], metrics["head"]

    assert run("kept", beats=False) == (True, "trained with the network")
    kept, head = run("left", beats=True)
    assert not kept
    assert head != "trained with the network"
