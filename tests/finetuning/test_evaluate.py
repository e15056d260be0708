from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from catalog.errors import DataError, NotFoundError, UsageError
from converters.folder import ModelFolder
from finetuning import runs, scores
from finetuning.evaluate import evaluate
from finetuning.finetune import finetune


@pytest.fixture(scope="module")
def other(data: Path, run: ModelFolder, tiny: ModelFolder) -> ModelFolder:
    """The same data and split, cut nowhere, made after the other."""
    out, cache = run.path.with_name("second"), run.path.parents[1] / "cache"
    return finetune(tiny, data, out, cut=False, cache=cache, device="cpu")


def metrics_of(folder: ModelFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder.path / "metrics.json").read_text())
    return found


@pytest.mark.parametrize("split", ["auto", "test", "run"])
def test_a_run_on_its_own_test_split_is_what_its_report_says(
    run: ModelFolder, data: Path, split: str
) -> None:
    split = str(run.path) if split == "run" else split
    found = evaluate(run, data, split=split, device="cpu")
    said = metrics_of(run)
    measured = msgspec.to_builtins(found.scores)
    for key in ("measures", "confusion", "mistakes", "sure", "reliability"):
        assert json.loads(json.dumps(measured[key])) == said[key], key
    assert found.examples == said["n_test"]
    assert found.learned_from == 0


def test_what_it_learned_from_is_measured_only_when_asked_for(
    run: ModelFolder, data: Path, tmp_path: Path
) -> None:
    everything = evaluate(run, data, split="all", device="cpu")
    assert (everything.examples, everything.learned_from) == (36, 27)
    names = metrics_of(run)["split"]["train"]
    for name in names:
        (tmp_path / "seen" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / name, tmp_path / "seen" / name)
    with pytest.raises(DataError, match="learned from everything"):
        evaluate(run, tmp_path / "seen", device="cpu")
    with pytest.raises(UsageError, match="held none of it out"):
        evaluate(run, tmp_path / "seen", split="test", device="cpu")


def test_fewer_classes_in_another_order_go_to_the_right_columns(
    run: ModelFolder, make_photos: Any, tmp_path: Path
) -> None:
    # draw() makes another kind of picture of each class, by its place.
    some = make_photos({"across": 6, "down": 6}, tmp_path / "some", seed=5)
    found = evaluate(run, some, device="cpu")
    rows = {item.label: item for item in found.scores.classes}
    assert list(rows) == ["across", "disc", "down"]
    assert (rows["disc"].n_test, rows["disc"].recall) == (0, None)
    assert found.scores.confusion[1] == (0, 0, 0)
    assert [rows[name].n_test for name in ("across", "down")] == [6, 6]
    assert found.scores.measures["accuracy"].value > 0.6


def test_photos_of_one_class_are_enough_to_measure(
    run: ModelFolder, make_photos: Any, tmp_path: Path
) -> None:
    some = make_photos({"across": 6}, tmp_path / "some", seed=5)
    found = evaluate(run, some, device="cpu")
    assert found.examples == 6
    assert found.scores.measures["accuracy"].value > 0.6
    (tmp_path / "split.csv").write_text("name,part\nacross/0.png,train\ngone.png,test\n")
    with pytest.raises(DataError, match="nothing of what"):
        evaluate(run, some, split=str(tmp_path / "split.csv"), device="cpu")


def test_labels_that_the_model_does_not_know_are_named_with_the_next_step(
    run: ModelFolder, tiny: ModelFolder, make_photos: Any, tmp_path: Path
) -> None:
    typo = make_photos({"Across": 3, "down": 3}, tmp_path / "typo")
    with pytest.raises(UsageError, match="Across") as caught:
        evaluate(run, typo, device="cpu")
    assert "rename 'Across' to 'across'" in (caught.value.hint or "")
    strange = make_photos({"zebra": 3, "down": 3}, tmp_path / "strange")
    with pytest.raises(UsageError, match="1 of the 2 classes") as caught:
        evaluate(run, strange, device="cpu")
    assert "tlhub finetune" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="there is no split"):
        evaluate(run, typo, split=str(tmp_path / "nothing"), device="cpu")


def test_measures_are_those_of_scikit_learn() -> None:
    from sklearn import metrics

    random = np.random.default_rng(3)
    true = random.integers(0, 4, 300)
    logits = random.normal(0, 1, (300, 5)) + 1.5 * np.eye(5)[true]
    given = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = scores.measures(given, true, seed=0)
    said = given.argmax(axis=1)
    assert found["accuracy"].value == metrics.accuracy_score(true, said)
    recalls = metrics.recall_score(true, said, average=None, labels=[0, 1, 2, 3])
    assert found["balanced_accuracy"].value == pytest.approx(recalls.mean())
    assert found["macro_f1"].value == pytest.approx(metrics.f1_score(true, said, average="macro"))
    loss = metrics.log_loss(true, given, labels=range(5))
    assert found["log_loss"].value == pytest.approx(loss)
    for measure in found.values():
        low, high = measure.interval or (measure.value, measure.value)
        assert low <= measure.value <= high
    low, high = found["log_loss"].interval or (0, 0)
    spread = -np.log(given[np.arange(300), true])
    assert high - low == pytest.approx(2 * 1.96 * spread.std() / np.sqrt(300), rel=0.15)


def test_a_temperature_can_be_taken_back() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (20, 3))
    cooled, plain = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (logits / 1.7, logits))
    np.testing.assert_allclose(scores.uncalibrated(cooled, 1.7), plain, rtol=1e-9)


def test_runs_are_listed_and_what_is_broken_is_named(
    run: ModelFolder, other: ModelFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    shutil.copytree(run.path.parent, folder)
    shutil.copytree(run.path, folder / "cut short")
    (folder / "cut short" / "model.onnx").write_bytes(b"x")
    shutil.copytree(run.path, folder / "no manifest")
    (folder / "no manifest" / "tlhub.json").unlink()
    (folder / "garbled").mkdir()
    (folder / "garbled" / "tlhub.json").write_text("{")
    (folder / ".third.tlhub-new").mkdir()
    (folder / "notes").mkdir()
    found, broken = runs.listed(folder)
    assert {item.path.name for item in found} == {"first", "second"}
    assert found[0].created >= found[1].created
    assert {item.path.name for item in broken} == {
        *("cut short", "no manifest", "garbled", ".third.tlhub-new")
    }
    assert all(item.reason for item in broken)
    with pytest.raises(NotFoundError, match="no folder"):
        runs.listed(tmp_path / "nowhere")


def test_a_folder_of_somebody_else_is_named_and_costs_no_run(
    run: ModelFolder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can look into it; of root this is only said."""
    folder = tmp_path / "runs"
    shutil.copytree(run.path, folder / "mine")
    (folder / "private").mkdir()
    read = runs.read

    def looked(path: Path) -> runs.Run:
        if path.name == "private":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(runs, "read", looked)
    found, broken = runs.listed(folder)
    assert [item.path.name for item in found] == ["mine"]
    assert [(item.path.name, item.reason) for item in broken] == [
        ("private", "cannot be read: Permission denied")
    ]
    made = finetune(run, data, folder / "next", cache=tmp_path / "cache", device="cpu")
    assert metrics_of(made)["previous"]["name"] == "mine"


def test_runs_of_one_split_are_compared_example_by_example(
    run: ModelFolder, other: ModelFolder, tmp_path: Path
) -> None:
    one, two = runs.read(run.path), runs.read(other.path)
    same = runs.difference(one, one)
    assert same is not None
    assert (same.value, same.interval, same.examples) == (0, (0, 0), 9)
    found = runs.difference(one, two)
    assert found is not None
    assert found.value == pytest.approx(one.metrics["accuracy"] - two.metrics["accuracy"])
    assert found.interval is not None
    shutil.copytree(other.path, tmp_path / "changed")
    split = tmp_path / "changed" / "split.csv"
    sha = next(iter(two.held_out.values())).encode()
    split.write_bytes(split.read_bytes().replace(sha, b"0" * len(sha)))
    changed = runs.difference(one, runs.read(tmp_path / "changed"))
    assert changed is not None
    assert (changed.interval, changed.examples) == (None, 8)


def test_a_run_is_compared_with_the_one_before_on_the_same_data(
    run: ModelFolder, other: ModelFolder, make_photos: Any, tmp_path: Path
) -> None:
    assert metrics_of(run)["previous"] is None
    found = metrics_of(other)["previous"]
    assert (found["name"], found["over"]["examples"]) == ("first", 9)
    assert found["over"]["value"] == pytest.approx(
        metrics_of(other)["accuracy"] - metrics_of(run)["accuracy"]
    )
    report = (other.path / "report.html").read_text()
    assert "Before this:" in report
    assert "which is the better one cannot be told" in report
    elsewhere = {f"{n}.png": ("test", str(n)) for n in range(9)}
    score = runs.read(run.path).score
    assert score is not None
    assert runs.previous(run.path.with_name("third"), elsewhere, score, set()) is None
