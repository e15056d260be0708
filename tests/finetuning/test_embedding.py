"""Embeddings: classes are held out whole, and told by nearest neighbors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file
from tiny_texts import network, record_of, save

from catalog.errors import ConversionError, DataError, UsageError
from converters.convert import convert
from converters.folder import ModelFolder
from converters.runtime import OnnxModel
from finetuning import cut, heads, projections, retrieval
from finetuning.cut import Cut
from finetuning.data.options import Options
from finetuning.data.reading import read
from finetuning.data.splits import split
from finetuning.evaluate import evaluate
from finetuning.finetune import finetune
from finetuning.gallery import Gallery
from finetuning.objectives.embedding import Embedding
from finetuning.objectives.objective import drawn, interval
from finetuning.results.embedding import few_shot
from finetuning.tuning import scratch
from terminal import Run

AS_EMBEDDING = Options(kind="embedding")


def stripes(angle: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """A noisy picture of stripes at an angle, of a size, width and color of its own."""
    height, width = random.integers(60, 90, 2)
    y, x = np.mgrid[:height, :width]
    along = x * np.cos(angle) + y * np.sin(angle)
    shape = np.sin(along / random.uniform(2.5, 4) + random.uniform(0, 6)) > 0
    color = random.uniform(0.3, 1, 3) * 200
    noise = random.normal(0, 8, (height, width, 3))
    return np.clip(shape[..., None] * color + 30 + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def striped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("striped") / "data"
    random = np.random.default_rng(0)
    for n in range(8):
        folder = root / f"at {n}"
        folder.mkdir(parents=True)
        for k in range(8):
            Image.fromarray(stripes(n * np.pi / 8, random)).save(folder / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def made(striped: Path, tiny: ModelFolder) -> ModelFolder:
    place = striped.parent
    return finetune(
        tiny,
        striped,
        place / "runs" / "stripes",
        options=AS_EMBEDDING,
        cut=False,  # what whitening makes of the first stage of so small a network is rounding
        seconds=None,
        cache=place / "cache",
        device="cpu",
    )


def metrics_of(run: ModelFolder) -> dict:
    return json.loads((run.path / "metrics.json").read_text())


def test_every_measure_is_what_a_search_one_by_one_finds():
    random = np.random.default_rng(3)
    y = random.integers(0, 6, 120)
    y[:2] = 90, 91  # alone in their classes
    member = random.integers(0, 80, 120)
    x = random.normal(size=(120, 4)) + np.eye(4)[y % 4]
    found = retrieval.search(x, y, member, within=(5,))
    np.testing.assert_array_equal(found.first, retrieval.first(x, y, member))
    rows = x / np.linalg.norm(x, axis=1, keepdims=True)
    for n in range(len(x)):
        order = np.argsort(-(rows @ rows[n]))
        others = [k for k in order if (member[k], y[k]) != (member[n], y[n])]
        right = np.array([y[k] == y[n] for k in others])
        r = int(right.sum())
        if not r:
            assert np.isnan([found.first[n], found.average[n], found.within[5][n]]).all()
            continue
        precisions = [right[:k].mean() for k in range(1, r + 1) if right[k - 1]]
        assert found.first[n] == right[0]
        assert found.within[5][n] == right[:5].any()
        assert found.precision[n] == pytest.approx(right[:r].mean())
        assert found.average[n] == pytest.approx(sum(precisions) / r)


def test_what_a_group_has_of_another_class_is_a_mistake():
    """Vectors that tell the session alone find the session, whatever is in it."""
    y, session = np.tile(np.arange(4), 10), np.repeat([0, 1], 20)
    x = np.eye(2)[session] + 0.01 * np.random.default_rng(0).normal(size=(40, 2))
    assert retrieval.first(x, y, session).max() == 0


def test_of_very_many_a_sample_asks_and_all_can_be_found(monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(0)
    y = np.arange(300) % 30
    x, member = random.normal(size=(300, 8)) + 2 * np.eye(30)[y][:, :8], np.arange(300)
    whole = retrieval.search(x, y, member)
    monkeypatch.setattr(retrieval, "ASKED", 100)
    some = retrieval.search(x, y, member)
    asked = np.isfinite(some.first)
    assert asked.sum() == 100
    np.testing.assert_array_equal(some.average[asked], whole.average[asked])
    assert retrieval.nearest(x, y, member).keys() == set(np.flatnonzero(asked).tolist())


def test_what_looks_alike_to_a_model_is_found_by_chance():
    y = np.repeat([0, 1], [4, 12])
    score = Embedding(("a", "b")).scorer(np.zeros((16, 1)), np.stack([y, np.arange(16)], 1))
    assert score(None) == pytest.approx((4 * 3 / 15 + 12 * 11 / 15) / 16)


def test_whitening_within_classes_finds_what_tells_new_ones_apart():
    """Of 20 features 4 tell the class, and the others vary ten times as much."""
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(40), 6)
    x = np.hstack([random.normal(size=(40, 4))[y], 10 * random.normal(size=(240, 16))])
    x = (x + 0.2 * random.normal(size=x.shape)) @ np.linalg.qr(random.normal(size=(20, 20)))[0]
    truth = np.stack([y, np.arange(240)], 1)
    train, new = y < 30, y >= 30
    objective = Embedding(tuple(map(str, range(40))))
    found = heads.evidence(x[train], truth[train], [], seed=0, objective=objective)
    assert found.best is not None
    assert (found.best.method, found.best.strength) == (projections.WITHIN, 1e-4)
    head = heads.fit(
        x[train],
        truth[train],
        method=found.best.method,
        strength=found.best.strength,
        objective=objective,
    )

    def score(vectors: NDArray[np.float64]) -> float:
        return objective.scorer(vectors, truth[new])(None)

    plain, projected = score(x[new]), score(objective.said(head.logits(x[new])))
    assert plain < 0.5 < 0.8 < projected
    assert abs(projected - found.best.score) < 0.2


def test_as_good_as_the_best_the_least_is_changed_and_nothing_without_evidence():
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(6), 4)
    x = 100 * np.eye(6)[y] + random.normal(size=(24, 6))
    truth, objective = np.stack([y, np.arange(24)], 1), Embedding(tuple("abcdef"))
    found = heads.evidence(x, truth, [], seed=0, objective=objective)
    assert found.best is not None
    assert (found.best.loss, found.best.strength) == (0, 1)  # every strength tells them apart
    groups = np.stack([y, y], 1)  # nothing of a class but one group
    assert heads.evidence(x, groups, [], seed=0, objective=objective).best is None


def test_whole_classes_are_drawn_where_there_are_many():
    objective = Embedding(tuple(map(str, range(1000))))
    many = np.stack([np.repeat(np.arange(1000), 5), np.arange(5000)], 1)
    places = drawn(objective, many, 600, seed=0)
    assert len(places) == 600
    assert set(np.bincount(many[places, 0])) == {0, 5}
    few = np.stack([np.repeat(np.arange(10), 500), np.arange(5000)], 1)
    assert set(np.bincount(few[drawn(objective, few, 600, seed=0), 0])) == {60}


def test_few_shots_are_told_by_what_was_shown_alone():
    y, member = np.repeat([0, 1, 2], 8), np.arange(24)
    x = np.eye(3)[y]
    one, five = few_shot(x, y, member, seed=0)
    assert (one.shots, one.accuracy, five.accuracy, five.classes) == (1, 1, 1, 3)
    groups = np.tile([0, 1], 12)  # two sessions: of one that is shown, the other is asked
    [alone] = few_shot(x, y, groups, seed=0)
    assert (alone.shots, alone.accuracy) == (1, 1)
    assert few_shot(x, y, np.zeros(24, int), seed=0) == ()


def test_an_interval_is_wider_where_other_classes_could_have_been_drawn():
    clusters = np.repeat(np.arange(10), 50)
    right = (clusters % 2).astype(float)  # classes differ, examples of one do not

    def score(weights: NDArray[np.float64] | None) -> float:
        return float(np.average(right, weights=weights))

    low, high = interval([score], 500, seed=0)
    wide = interval([score], 500, seed=0, clusters=clusters)
    assert wide[0] < low - 0.1
    assert wide[1] > high + 0.1


def test_classes_are_held_out_whole_by_their_names_and_the_seed(striped: Path):
    data = read(striped, AS_EMBEDDING)
    sides = [split(data, seed=seed, test_fraction=0.25) for seed in range(4)]
    for side in sides:
        train, test = ({data.examples[n].target for n in part} for part in (side.train, side.test))
        assert len(test) == 2
        assert not train & test
    assert len({side.test for side in sides}) > 1
    assert split(data, seed=0, test_fraction=0.9).train  # two classes stay to learn from


def test_few_classes_are_an_error_and_new_ones_in_a_test_part_are_none(make_data):
    few = make_data({"a": 4, "b": 4, "c": 4})
    with pytest.raises(DataError, match="3 classes of several examples"):
        split(read(few, AS_EMBEDDING), seed=0, test_fraction=0.25)
    parted = few.parent / "parted"
    make_data({"a": 3, "b": 3}, parted / "train")
    make_data({"c": 3, "d": 3}, parted / "test", seed=1)
    data = read(parted, AS_EMBEDDING)
    assert data.classes == ("a", "b", "c", "d")
    sides = split(data, seed=0, test_fraction=0.25)
    assert {data.classes[data.examples[n].target] for n in sides.test} == {"c", "d"}
    make_data({"c": 3, "d": 1}, few.parent / "one" / "test", seed=1)
    make_data({"a": 3, "b": 3}, few.parent / "one" / "train")
    with pytest.raises(DataError, match="nothing can be searched for"):
        split(read(few.parent / "one", AS_EMBEDDING), seed=0, test_fraction=0.25)
    with pytest.raises(DataError, match="nothing can be learned of"):
        read(parted)


def test_a_run_is_measured_by_classes_it_never_saw(made: ModelFolder, striped: Path):
    metrics = metrics_of(made)
    assert metrics["kind"] == "embedding"
    assert metrics["new_classes"] == len(metrics["classes"]) == 2
    assert metrics["score"]["measure"] == "recall@1"
    assert metrics["baselines"].keys() == {"chance", "pixels", "random_weights"}
    assert metrics["baselines"]["chance"] == pytest.approx(7 / 15)
    assert metrics["score"]["value"] > metrics["baselines"]["chance"]
    assert metrics["measures"]["recall@5"]["value"] >= metrics["measures"]["recall@1"]["value"]
    assert [item["shots"] for item in metrics["shots"]] == [1, 5]
    assert made.manifest.record.task == "image-feature-extraction"
    assert made.manifest.record.evals[0].metric_type == "recall@1"
    report = (made.path / "report.html").read_text()
    assert "Nothing was learned of any of the 2 classes" in report
    assert "1 - mAP@R" in report
    assert "by within-class whitening" in report
    assert "names" in (made.path / "README.md").read_text()


def test_the_graph_gives_unit_vectors_and_cosines_with_known_classes(
    made: ModelFolder, striped: Path
):
    session = onnxruntime.InferenceSession(str(made.onnx), providers=["CPUExecutionProvider"])
    assert {item.name for item in session.get_outputs()} == {"embedding", "similarities"}
    facts = session.get_modelmeta().custom_metadata_map
    labels = json.loads(facts["tlhub.labels"])
    assert labels == [f"at {n}" for n in range(8)]
    least = json.loads(facts["tlhub.same_class_from"])
    assert OnnxModel.open(made.path).same_class_from == least
    model = OnnxModel.open(made.path)
    rows, means = [], {}
    for label in labels:
        vectors = model.features(sorted((striped / label).iterdir()))
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        mean = vectors.mean(axis=0)
        means[label] = mean / np.linalg.norm(mean)
        rows.append(vectors)
    [said] = model.predict([striped / "at 3" / "0.png"], top=8)
    for label, cosine in said:
        assert cosine == pytest.approx(float(rows[3][0] @ means[label]), abs=1e-4)


def test_evaluate_says_what_the_report_says_and_measures_any_encoder(
    made: ModelFolder, tiny: ModelFolder, striped: Path
):
    metrics = metrics_of(made)
    found = evaluate(made, striped, split="test")
    for name, item in metrics["measures"].items():
        assert found.scores.measures[name].value == pytest.approx(item["value"])
    assert found.scores.measures["recall@1"].interval == tuple(metrics["score"]["interval"])
    before = evaluate(tiny, striped, options=AS_EMBEDDING, split=str(made.path))
    assert before.scores.measures["recall@1"].value == pytest.approx(metrics["untouched"])


def test_the_run_is_proved_against_torch_and_a_wrong_prototype_is_found(made: ModelFolder):
    from converters import parity
    from finetuning.reference import reference

    backbone = reference(made)
    proof = parity.check(made.onnx, backbone, made.path.parent)
    assert {"embedding", "similarities"} <= proof.outputs.keys()
    backbone.module.prototypes[0] *= -1
    with pytest.raises(Exception, match="similarities differs"):
        parity.check(made.onnx, backbone, made.path.parent)


def test_new_classes_are_told_by_a_gallery(made: ModelFolder, striped: Path, tmp_path: Path):
    new = [item["label"] for item in metrics_of(made)["classes"]]
    for label in new:
        (tmp_path / "gallery" / label).mkdir(parents=True)
        for n in range(3):
            picture = (striped / label / f"{n}.png").read_bytes()
            (tmp_path / "gallery" / label / f"{n}.png").write_bytes(picture)
    model = OnnxModel.open(made.path)
    gallery = Gallery.of(model, tmp_path / "gallery")
    asked = [striped / label / "0.png" for label in new]
    said = gallery.predict(asked)
    assert [one[0].label for one in said] == new
    assert [one[0].score for one in said] == pytest.approx([1, 1])  # they are in it
    assert [len(one) for one in gallery.predict(asked, top=1)] == [1, 1]


def test_a_run_learns_on_from_an_embedding(made: ModelFolder, striped: Path, tmp_path: Path):
    again = finetune(made, striped, tmp_path / "again", cache=tmp_path / "cache", device="cpu")
    assert metrics_of(again)["kind"] == "classification"
    names = {item.name for item in onnxruntime.InferenceSession(str(again.onnx)).get_outputs()}
    assert names == {"embedding", "logits", "probabilities"}


def test_what_cannot_be_had_is_said_early(tiny: ModelFolder, striped: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="no classes to balance"):
        finetune(
            tiny,
            striped,
            tmp_path / "run",
            options=AS_EMBEDDING,
            balanced=True,
            cache=tmp_path / "cache",
        )
    assert not (tmp_path / "run").exists()


@pytest.fixture
def trained(
    tiny: ModelFolder, striped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ModelFolder]:
    """A run with its network, as much of it as is said, and the head on several stages."""

    def most(found: Any) -> Any:
        return max(found, key=lambda stages: (len(stages), stages[-1].share))

    monkeypatch.setattr(cut, "_widest", most)

    def run(base: ModelFolder = tiny, unfreeze: str = "all", name: str = "run") -> ModelFolder:
        return finetune(
            base,
            striped,
            tmp_path / name,
            options=AS_EMBEDDING,
            unfreeze=unfreeze,
            seconds=20,
            cache=tmp_path / "cache",
            device="cpu",
        )

    return run


def test_a_network_is_trained_for_new_classes(
    tiny: ModelFolder, striped: Path, trained: Callable[..., ModelFolder]
):
    run = trained()
    metrics = metrics_of(run)
    [attempt] = metrics["tuning"]["attempts"]
    assert len(metrics["stages"]) > 1
    assert "of the examples of held-back classes" in metrics["tuning"]["said"]
    assert attempt["steps"] > 1
    assert metrics["new_classes"] == 2
    assert metrics["onnx_agreement"] == 1
    before, after = (load_file(folder.path / "model.safetensors") for folder in (tiny, run))
    assert sum(not np.array_equal(before[name], after[name]) for name in before) > 20
    # What is similar to what is by the vectors of the trained network, all classes known.
    model = OnnxModel.open(run.path, device="cpu")
    files = sorted(striped.glob("*/*.png"))
    vectors = model.features(files)
    means = vectors.reshape(8, 8, -1).sum(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    for file, vector in zip(files, vectors, strict=True):
        [[best]] = model.predict([file], top=1)
        assert best.score == pytest.approx(float((means @ vector).max()), abs=1e-3)
    again = evaluate(run, striped, split="test")
    assert again.scores.measures["recall@1"].value == metrics["measures"]["recall@1"]["value"]


def test_above_a_layer_that_is_named_the_head_is_on_what_lies_above(
    trained: Callable[..., ModelFolder],
):
    metrics = metrics_of(trained(unfreeze="1"))
    [attempt] = metrics["tuning"]["attempts"]
    assert len(metrics["stages"]) == 1
    assert attempt["boundary"]


def test_of_one_class_that_could_judge_nothing_is_trained(
    tiny: ModelFolder, striped: Path, tmp_path: Path
):
    for n in range(4):
        shutil.copytree(striped / f"at {n}", tmp_path / "data" / f"at {n}")
    asked: dict[str, Any] = {"options": AS_EMBEDDING, "seconds": 20, "device": "cpu"}
    asked |= {"cache": tmp_path / "cache"}
    with pytest.raises(ConversionError, match="too few classes of several examples"):
        finetune(tiny, tmp_path / "data", tmp_path / "run", unfreeze="all", **asked)
    run = finetune(tiny, tmp_path / "data", tmp_path / "unasked", **asked)
    assert "too few classes of several examples" in metrics_of(run)["tuning"]["said"]


def test_what_a_network_from_nothing_embeds_is_measured_beside(
    tiny: ModelFolder, striped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scratch, "_SEEN", 320)
    run = finetune(
        tiny,
        striped,
        tmp_path / "run",
        options=AS_EMBEDDING,
        from_scratch=True,
        cache=tmp_path / "cache",
        device="cpu",
    )
    metrics = metrics_of(run)
    assert not {"from_scratch"} & metrics["baselines_absent"].keys()
    assert metrics["baselines"]["chance"] < metrics["baselines"]["from_scratch"] <= 1


def test_of_few_classes_training_is_not_tried_unasked(made: ModelFolder):
    said = metrics_of(made)["tuning"]["said"]
    assert "unasked it is from 20 classes of several examples on, and there are 6" in said


def test_by_the_commands(tlhub: Run, tiny: ModelFolder, striped: Path, tmp_path: Path):
    asked = ("--data", striped, "--device", "cpu", "--json")
    out = ("--kind", "embedding", "--out", tmp_path / "run")
    done = tlhub("finetune", tiny.path, *asked, *out)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    done = tlhub("evaluate", tmp_path / "run", *asked)
    measures = json.loads(done.stdout)["measures"]
    assert measures["mAP@R"]["value"] == pytest.approx(metrics["mAP@R"])
    picture = striped / "at 2" / "0.png"
    known = tlhub("predict", tmp_path / "run", picture, "--top", "8", "--json")
    [answer] = json.loads(known.stdout)
    assert {item["label"] for item in answer["predictions"]} == {f"at {n}" for n in range(8)}
    told = tlhub("predict", tiny.path, picture, "--gallery", striped)
    assert told.stdout.splitlines()[1].split() == ["1.000", "at", "2"]
    before = tlhub("evaluate", tiny.path, *asked, "--kind", "embedding", "--split", "all")
    assert json.loads(before.stdout)["examples"] == 64
    without = tlhub("evaluate", tiny.path, *asked)
    assert without.returncode != 0
    assert "none of test/tiny's" in without.stderr


def test_texts_are_embedded_too_and_classes_learned_from_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = network("bert")
    encoder = convert(record_of(model), save(model, tmp_path / "source"), tmp_path / "model")
    words = ["rain", "soup", "snow", "restaurant", "wind", "cold"]
    rows = [f"the {word} {'and ' * n}{word} {n},{word}" for word in words for n in range(6)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]))
    run = finetune(
        encoder,
        tmp_path / "texts.csv",
        tmp_path / "run",
        options=AS_EMBEDDING,
        cache=tmp_path / "cache",
        device="cpu",
    )
    metrics = metrics_of(run)
    assert metrics["new_classes"] == 2
    assert "words" in metrics["baselines"]
    assert run.manifest.record.task == "sentence-similarity"
    # Its embedding is no point of its network: classes are learned from where their head is best.
    monkeypatch.setattr(cut, "choose", lambda stages, *_, **__: Cut(stages[:1], 1.0, ()))
    again = finetune(
        run,
        tmp_path / "texts.csv",
        tmp_path / "again",
        cache=tmp_path / "cache",
        device="cpu",
        unfreeze="all",
        seconds=5.0,
    )
    assert metrics_of(again)["head"] == "trained with the network"
    assert metrics_of(again)["stages"] != ["embedding"]
