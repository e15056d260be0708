from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from sklearn.datasets import load_digits

from finetuning import baselines, evaluation
from finetuning.data.dataset import Dataset, Example
from finetuning.data.splits import Split
from finetuning.evaluation import Baseline
from finetuning.objectives.classes import CLASSES, OneClass
from finetuning.probe import Work

if TYPE_CHECKING:
    from converters.folder import ModelFolder
    from finetuning.probe import Probe


def test_on_digits_pixels_alone_are_hard_to_beat() -> None:
    """scikit-learn's digits, 20 of each to learn from: neighbors on pixels are right on 95 %."""
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    order = np.random.default_rng(0).permutation(len(y))
    train = np.concatenate([order[y[order] == label][:20] for label in range(10)])
    rest = np.setdiff1d(order, train)
    groups = [str(n) for n in range(len(train))]
    said = baselines.closed_form(x[train], y[train], x[rest], groups, CLASSES, 0)
    assert (said == y[rest]).mean() > 0.93


def test_majority_and_words() -> None:
    y = np.array([0, 1, 1, 2])
    assert CLASSES.always(y, 3).tolist() == [1, 1, 1]
    texts = ["cold rain", "hot soup", "soup of fish", "rain and wind"]
    said = baselines.bag_of_words(texts, np.array([0, 1, 1, 0]), ["soup", "wind"], CLASSES, 0)
    assert said.tolist() == [1, 0]
    said = baselines.bag_of_words(["", "!"], np.array([0, 1]), ["?"], CLASSES, 0)
    assert said.tolist() == [0]


def test_the_gain_is_over_the_best_baseline_on_the_same_examples() -> None:
    truth = np.zeros(100, np.int64)
    right = np.array([0] * 90 + [1] * 10)
    weak, strong = np.ones(100, np.int64), np.arange(100) % 2
    beside = {"majority": Baseline(weak), "pixels": Baseline(strong)}
    found = evaluation.gain(right, beside, truth, CLASSES, seed=0)
    assert found.over == "pixels"
    assert found.value == pytest.approx(0.4)
    # Of a paired difference with this spread, 1.96 standard errors.
    error = 1.96 * (right - strong).std() / 10
    assert found.interval == pytest.approx((0.4 - error, 0.4 + error), abs=0.03)
    same = {"pixels": Baseline(right)}
    assert evaluation.gain(right, same, truth, CLASSES, seed=0).interval == (0, 0)
    few = {"random_weights": Baseline(truth[:20], np.arange(80, 100))}
    assert evaluation.gain(right, few, truth, CLASSES, seed=0).value == -0.5


def test_random_weights_are_measured_on_examples_of_all_classes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of data in the order of their classes the first of them are of one."""
    names = ("a", "b", "c")
    examples = tuple(
        Example(f"{n}", f"{n}", f"{n:04}", n % 900 // 300, "train" if n < 900 else "test")
        for n in range(1800)
    )
    data = Dataset(tmp_path, "classification", "text", names, examples, ())
    sides = Split(tuple(range(900)), tuple(range(900, 1800)), given=True)
    work = Work(cast("ModelFolder", None), data, OneClass(names), sides, 0, tmp_path, "cpu", print)
    features = lambda _work, _found, parts: [  # noqa: E731
        np.random.default_rng(0).random((len(part.examples), 4), np.float32) for part in parts
    ]
    monkeypatch.setattr(baselines, "_random_features", features)
    found = baselines._random_weights(work, cast("Probe", None))
    assert len(found.said) == baselines.ENOUGH
    counts = np.bincount(work.truth(work.test)[found.places])
    assert counts.min() > 40
