"""Several labels, numbers, and unequal classes, from the data to what the exported file says."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw
from sklearn import metrics as reference
from sklearn.datasets import load_sample_images
from tiny_texts import network, record_of, save

from catalog.errors import ConversionError, DataError, UsageError
from converters.convert import convert
from converters.folder import ModelFolder
from converters.runtime import Estimate, OnnxModel, Prediction
from finetuning import graph
from finetuning.data.options import Options
from finetuning.evaluate import evaluate
from finetuning.finetune import finetune
from finetuning.tuning import planning
from terminal import Run

SHAPES = ("disc", "square", "bars")
COUNT = 90


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of real photos with shapes drawn on them: which there are, and how bright all is."""
    place = tmp_path_factory.mktemp("shapes")
    random = np.random.default_rng(0)
    real = [skimage.data.chelsea(), skimage.data.coffee(), *load_sample_images().images]
    rows = []
    for n in range(COUNT):
        photo = real[n % len(real)]
        top, left = (int(random.integers(0, side - 96)) for side in photo.shape[:2])
        image = Image.fromarray(photo[top : top + 96, left : left + 96] // 3 + 60)
        draw = ImageDraw.Draw(image)
        held = random.random(3) < (0.5, 0.4, 0.25)
        corners = [(4, 4), (52, 4), (4, 52), (52, 52)]
        places = [corners[k] for k in random.permutation(4)]
        if held[0]:
            draw.ellipse((*places[0], *(side + 40 for side in places[0])), fill=(250, 30, 30))
        if held[1]:
            draw.rectangle((*places[1], *(side + 40 for side in places[1])), fill=(20, 240, 40))
        if held[2]:
            x, y = places[2]
            for step in range(0, 40, 8):
                draw.line((x, y + step, x + 40, y + step), fill=(255, 255, 255), width=4)
        image.save(place / f"{n}.png")
        pixels = np.asarray(image, float)
        rows.append(
            [f"{n}.png", *held.astype(int), pixels.mean() / 255, pixels[..., 0].mean() + 1e3]
        )
    header = ["file", *SHAPES, "brightness", "red"]
    for name, columns in {"labels": range(4), "bright": (0, 4), "both": (0, 4, 5)}.items():
        with (place / f"{name}.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow([header[column] for column in columns])
            table.writerows([[row[column] for column in columns] for row in rows])
    return place


@pytest.fixture(scope="module")
def runs(tiny: ModelFolder, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("runs")
    made: dict[str, ModelFolder] = {}

    def run(name: str, *, through: bool = False, **changes: Any) -> ModelFolder:
        """A run on a table, ``through`` the last layer of the network or of a head alone."""
        key = f"{name} through" if through else name
        if key not in made:
            given: dict[str, Any] = {"model": tiny, "data": photos / f"{name}.csv", **changes}
            given |= {"unfreeze": "1", "seconds": 30.0} if through else {}
            made[key] = finetune(out=place / key, cache=place / "cache", device="cpu", **given)
        return made[key]

    return run


def metrics_of(folder: ModelFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder.path / "metrics.json").read_text())
    return found


def rows_of(file: Path) -> dict[str, dict[str, str]]:
    with file.open(newline="") as stream:
        return {row["file"]: row for row in csv.DictReader(stream)}


def pages(folder: ModelFolder) -> str:
    return (folder.path / "report.html").read_text() + (folder.path / "README.md").read_text()


def check_tuning(found: dict[str, Any], *, through: bool, measure: str, few: str) -> None:
    """What is told of training through the network."""
    tuning = found["tuning"]
    assert (found["head"] == "trained with the network") == through
    if not through:
        assert few in tuning["said"]
        return
    [attempt] = tuning["attempts"]
    assert attempt["kept"]
    assert tuning["measure"] == measure
    assert tuning["said"].startswith(f"the network was trained from {attempt['boundary']} on: ")
    assert tuning["losses"][-1] < 3
    better = 1 if tuning["is_share"] else -1
    gain = better * (attempt["score"] - tuning["head_score"])
    assert attempt["gain"] == pytest.approx(gain, abs=1e-9)


@pytest.mark.parametrize("through", [False, True])
def test_of_several_labels_the_file_says_what_the_report_says(
    runs: Any, photos: Path, through: bool
) -> None:
    folder = runs("labels", through=through, seconds=None)
    folder.verify()
    found = metrics_of(folder)
    names, known = found["split"]["test"], rows_of(photos / "labels.csv")
    truth = np.array([[int(known[name][shape]) for shape in SHAPES] for name in names])
    model: OnnxModel[Any, Any] = OnnxModel.open(folder.path, device="cpu")
    assert model.labels == SHAPES
    files = [photos / name for name in names]
    given = np.stack(model.rows(files, "probabilities"))
    assert found["score"]["measure"] == "mean average precision"
    assert found["score"]["value"] == pytest.approx(
        reference.average_precision_score(truth, given, average="macro")
    )
    assert found["score"]["value"] > found["baselines"]["frequency"] + 0.2
    assert found["baselines"]["frequency"] == pytest.approx(truth.mean())
    assert set(found["baselines"]) == {"frequency", "pixels", "random_weights"}
    assert found["score"]["interval"][0] <= found["score"]["value"] <= found["score"]["interval"][1]

    # What `predict` names are the labels above their thresholds, and those are what is measured.
    said = np.zeros_like(truth)
    for row, answer in zip(said, model.predict(files), strict=True):
        assert all(isinstance(item, Prediction) for item in answer)
        row[[SHAPES.index(item.label) for item in answer]] = 1
    assert found["macro_f1"] == pytest.approx(reference.f1_score(truth, said, average="macro"))
    assert found["micro_f1"] == pytest.approx(reference.f1_score(truth, said, average="micro"))
    assert found["all_right"] == pytest.approx((said == truth).all(axis=1).mean())
    assert found["macro_f1"] > 0.6
    for n, item in enumerate(found["labels"]):
        assert (item["label"], item["n_test"]) == (SHAPES[n], truth[:, n].sum())
        assert item["recall"] == pytest.approx(said[truth[:, n] == 1, n].mean())
        assert item["threshold"] == model.thresholds[n]
    assert len(found["mistakes"]) == (said != truth).sum()
    assert len(model(files[0], top=2)) == 2
    assert [len(answer) for answer in model.predict(files, top=3)] == [3] * len(files)

    assert folder.manifest.record.task == "image-classification"
    assert folder.manifest.record.evals[0].metric_type == "mean_average_precision"
    assert folder.manifest.run["metrics"]["thresholds"] == dict(
        zip(SHAPES, model.thresholds, strict=True)
    )
    assert "ccuracy" not in pages(folder)
    for item in found["labels"]:
        assert f"{100 * item['average_precision']:.1f} %" in pages(folder)
    few = "was not tried: unasked it is from 30 examples of each label on, and 'bars' has"
    check_tuning(found, through=through, measure="labels right", few=few)
    assert ("Labels right</th>" in pages(folder)) == through


@pytest.mark.parametrize("through", [False, True])
def test_of_numbers_the_file_says_what_the_report_says(
    runs: Any, photos: Path, through: bool
) -> None:
    columns = Options(labels=("brightness", "red"))
    folder = runs("both", through=through, options=columns, seconds=None)
    folder.verify()
    found = metrics_of(folder)
    names, known = found["split"]["test"], rows_of(photos / "both.csv")
    truth = np.array([[float(known[name][c]) for c in ("brightness", "red")] for name in names])
    model: OnnxModel[Any, Any] = OnnxModel.open(folder.path, device="cpu")
    assert set(model.outputs) == {"predictions", "embedding"}
    answers = model.predict([photos / name for name in names])
    assert [item.name for item in answers[0]] == ["brightness", "red"]
    assert isinstance(answers[0][0], Estimate)
    said = np.array([[item.value for item in answer] for answer in answers])
    assert found["score"]["measure"] == "R2"
    assert found["score"]["value"] == pytest.approx(reference.r2_score(truth, said))
    assert found["score"]["value"] > 0.5
    for n, item in enumerate(found["numbers"]):
        assert item["mae"] == pytest.approx(np.abs(said - truth)[:, n].mean())
        assert item["rmse"] == pytest.approx(np.sqrt(((said - truth)[:, n] ** 2).mean()))
        assert item["r2"] == pytest.approx(reference.r2_score(truth[:, n], said[:, n]))
        assert item["mae_interval"][0] < item["mae"] < item["mae_interval"][1]
        inside = np.abs(said - truth)[:, n] <= item["margin"]["margin"]
        assert item["margin"]["held_out_share"] == inside.mean()
    assert said[:, 1].min() > 900  # in the unit that it was given in
    assert set(found["baselines"]) == {"mean", "pixels", "random_weights"}
    assert -0.3 < found["baselines"]["mean"] <= 0
    assert found["baselines"]["pixels"] > 0.9  # brightness is in the pixels themselves
    helps = found["gain"]["value"] > 0
    assert helps != ("Transfer does not help here" in pages(folder))
    assert not (folder.path / "labels.txt").exists()
    assert folder.manifest.record.task is None
    assert folder.manifest.record.evals[0].metric_type == "r_squared"
    assert "ccuracy" not in pages(folder)
    few = "was not tried: unasked it is from 200 training examples on, and there are 67"
    measure = "mean absolute error in standard deviations"
    check_tuning(found, through=through, measure=measure, few=few)
    assert ("off by" in found["tuning"]["said"]) == through
    assert ("Mean absolute error in standard deviations</th>" in pages(folder)) == through


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("name", ["labels", "both"])
def test_evaluate_says_what_the_report_says(
    runs: Any, photos: Path, name: str, through: bool
) -> None:
    numbers = Options(labels=("brightness", "red"))
    columns = {"labels": Options(), "both": numbers}
    folder = runs(name, through=through, options=columns[name])
    found = metrics_of(folder)
    data = photos / f"{name}.csv"
    measured = evaluate(folder, data, options=columns.pop(name), device="cpu")
    score, *others = measured.scores.measures.items()
    assert measured.examples == found["n_test"]
    assert score[1].value == pytest.approx(found["score"]["value"], rel=1e-12)
    assert score[1].interval == pytest.approx(found["score"]["interval"], rel=1e-12)
    if name == "labels":
        keys = ("macro_f1", "micro_f1", "all_right", "held_out_calibration_error")
        said = [found[key] for key in keys]
    else:
        said = [item[key] for item in found["numbers"] for key in ("mae", "rmse")]
    assert [measure.value for _, measure in others] == pytest.approx(said, rel=1e-12)
    [(other, options)] = columns.items()
    with pytest.raises(UsageError, match="are none of"):
        evaluate(folder, photos / f"{other}.csv", options=options, device="cpu")


def test_the_command_names_labels_above_thresholds_and_numbers(
    runs: Any, photos: Path, tlhub: Run
) -> None:
    labels, numbers = runs("labels").path, runs("bright").path
    model: OnnxModel[Any, Any] = OnnxModel.open(labels, device="cpu")
    file = next(path for path in sorted(photos.glob("*.png")) if len(model(path)) == 2)
    expected = [item.label for item in model(file)]
    said = tlhub("predict", str(labels), str(file)).stdout.splitlines()
    assert [line.split("%")[1].strip() for line in said[1:]] == expected
    assert tlhub("predict", str(labels), str(file), "--quiet").stdout.split() == expected
    none = next(path for path in sorted(photos.glob("*.png")) if not model(path))
    assert "none of the labels reaches" in tlhub("predict", str(labels), str(none)).stdout
    [value] = OnnxModel.open(numbers, device="cpu")(file)
    said = tlhub("predict", str(numbers), str(file)).stdout
    assert said.splitlines()[1].strip() == f"brightness = {value.value:.5g}"
    [answer] = json.loads(tlhub("predict", str(numbers), str(file), "--json").stdout)
    assert answer["predictions"] == [{"name": "brightness", "value": pytest.approx(value.value)}]


def test_a_model_of_numbers_or_labels_is_learned_from_again(
    runs: Any, photos: Path, make_data: Callable[..., Path], tmp_path: Path
) -> None:
    classes = make_data({"a": 8, "b": 8, "c": 8})  # as many as there were labels
    for base in ("labels", "bright"):
        out = tmp_path / f"after {base}"
        again = finetune(runs(base), classes, out, cache=tmp_path / "cache", device="cpu")
        model: OnnxModel[Any, Any] = OnnxModel.open(again.path, device="cpu")
        assert (model.labels, model.thresholds) == (("a", "b", "c"), ())
        assert "predictions" not in model.outputs
        assert len(model(photos / "0.png")) == 3
    numbers = finetune(
        again, photos / "bright.csv", tmp_path / "numbers", cache=tmp_path / "cache", device="cpu"
    )
    assert [item.name for item in OnnxModel.open(numbers.path)(photos / "0.png")] == ["brightness"]


def test_in_the_time_of_one_step_the_head_stays_nearly_as_it_was(
    tiny: ModelFolder, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_forward_seconds", lambda *_: 1.0)

    def run(name: str, **asked: Any) -> dict[str, Any]:
        data, cache = photos / "bright.csv", tmp_path / "cache"
        return metrics_of(finetune(tiny, data, tmp_path / name, cache=cache, device="cpu", **asked))

    head, one = run("head"), run("one", unfreeze="all", seconds=0.1)
    assert one["tuning"]["attempts"][0]["steps"] == 1
    assert one["score"]["value"] > head["score"]["value"] - 0.02


def test_a_file_that_gives_other_numbers_is_not_kept(
    tiny: ModelFolder, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = graph.with_head

    def shifted(model: Any, stages: Any, head: Any, metadata: Any) -> Any:
        factors = np.ones(len(head.bias))
        return honest(model, stages, head.adjusted(factors, factors * 0.1), metadata)

    monkeypatch.setattr(graph, "with_head", shifted)
    for data in ("bright", "labels"):
        with pytest.raises(ConversionError, match="does not compute what was fitted"):
            finetune(tiny, photos / f"{data}.csv", tmp_path / data, cache=tmp_path / "c")
    assert not list(tmp_path.glob("bright*"))


def test_what_cannot_be_learned_is_said(tiny: ModelFolder, photos: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "run", tmp_path / "cache"
    with pytest.raises(UsageError, match="no classes to balance"):
        finetune(tiny, photos / "bright.csv", out, cache=cache, balanced=True)
    table = tmp_path / "same.csv"
    table.write_text("file,size\n" + "".join(f"{photos}/{n}.png,7.5\n" for n in range(12)))
    with pytest.raises(DataError, match=r"'size' is 7.5 everywhere"):
        finetune(tiny, table, out, cache=cache)
    assert not out.exists()


def test_balanced_classes_count_the_same(
    tiny: ModelFolder, make_data: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_data({"across": 70, "down": 10})
    found = {}
    for balanced in (False, True):
        out = tmp_path / f"balanced {balanced}"
        folder = finetune(
            tiny,
            data,
            out,
            cache=tmp_path / "cache",
            device="cpu",
            balanced=balanced,
            seconds=20,
            unfreeze="1" if balanced else "none",
        )
        said = found[balanced] = metrics_of(folder)
        assert said["score"]["measure"] == ("balanced accuracy" if balanced else "accuracy")
        recalls = [item["recall"] for item in said["classes"]]
        assert said["measures"]["balanced_accuracy"]["value"] == pytest.approx(np.mean(recalls))
        report = pages(folder)
        assert "classes are of unequal size" in report
        assert f"{100 * said['measures']['macro_f1']['value']:.1f} %" in report
    assert found[True]["baselines"]["majority"] == 0.5
    assert found[False]["baselines"]["majority"] > 0.8
    tuning = found[True]["tuning"]
    assert tuning["measure"] == "balanced accuracy"
    assert "each class counting the same" in tuning["said"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    place = tmp_path_factory.mktemp("encoder")
    model = network("bert")
    return convert(record_of(model), save(model, place / "source"), place / "model")


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("kind", ["multi-label", "regression"])
def test_texts_have_labels_and_numbers_too(
    encoder: ModelFolder, tmp_path: Path, kind: str, through: bool
) -> None:
    random = np.random.default_rng(0)
    words = ["rain", "snow", "wind", "soup", "restaurant", "cold"]
    rows = []
    for n in range(80):
        used = random.choice(words, 6)
        held = [int(word in used) for word in ("soup", "snow")]
        amount = float(np.isin(used, ["soup", "restaurant"]).mean()) + 0.5
        target = held if kind == "multi-label" else [amount]
        rows.append([f"{' and '.join(used)} {n}", *target])
    file = tmp_path / "texts.csv"
    with file.open("w", newline="") as stream:
        header = ["soup", "snow"] if kind == "multi-label" else ["warmth"]
        csv.writer(stream).writerows([["text", *header], *rows])
    asked: dict[str, Any] = {"unfreeze": "all", "seconds": 20.0} if through else {}
    folder = finetune(
        encoder, file, tmp_path / "run", cache=tmp_path / "cache", device="cpu", **asked
    )
    found = metrics_of(folder)
    measure = "labels right" if kind == "multi-label" else "mean absolute error of warmth"
    assert found["tuning"]["measure"] == (measure if through else None)
    assert ("trained as a whole" in found["tuning"]["said"]) == through
    constant = "frequency" if kind == "multi-label" else "mean"
    assert set(found["baselines"]) == {constant, "words", "random_weights"}
    assert found["baselines"]["words"] > found["baselines"][constant] + 0.2
    assert found["score"]["value"] > found["baselines"][constant] + 0.1
    model: OnnxModel[Any, Any] = OnnxModel.open(folder.path, device="cpu")
    assert evaluate(folder, file, device="cpu").scores.measures[
        "r2" if kind == "regression" else "mean_average_precision"
    ].value == pytest.approx(found["score"]["value"])
    if kind == "regression":
        known = {row[0]: row[1] for row in rows}
        texts = [rows[int(name.rpartition(":")[2]) - 1][0] for name in found["split"]["test"]]
        said = [answer[0].value for answer in model.predict(texts)]
        true = [known[text] for text in texts]
        assert found["numbers"][0]["mae"] == pytest.approx(np.abs(np.subtract(said, true)).mean())
    else:
        assert model.thresholds
    assert "ccuracy" not in pages(folder)
    assert "image" not in (folder.path / "README.md").read_text()
