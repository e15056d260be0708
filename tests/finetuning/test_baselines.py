from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from finetuning import baselines, evaluation


def test_on_digits_pixels_alone_are_hard_to_beat() -> None:
    """scikit-learn's digits, 20 of each to learn from: neighbors on pixels are right on 95 %."""
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    order = np.random.default_rng(0).permutation(len(y))
    train = np.concatenate([order[y[order] == label][:20] for label in range(10)])
    rest = np.setdiff1d(order, train)
    groups = [str(n) for n in range(len(train))]
    said = baselines.closed_form(x[train], y[train], x[rest], groups, 0)
    assert (said == y[rest]).mean() > 0.93


def test_majority_and_words() -> None:
    y = np.array([0, 1, 1, 2])
    assert baselines.majority(y, 3).tolist() == [1, 1, 1]
    texts = ["cold rain", "hot soup", "soup of fish", "rain and wind"]
    said = baselines.bag_of_words(texts, np.array([0, 1, 1, 0]), ["soup", "wind"], 0)
    assert said.tolist() == [1, 0]
    assert baselines.bag_of_words(["", "!"], np.array([0, 1]), ["?"], 0).tolist() == [0]


def test_the_gain_is_over_the_best_baseline_on_the_same_examples() -> None:
    right = np.array([True] * 90 + [False] * 10)
    weak, strong = np.zeros(100, bool), np.arange(100) % 2 == 0
    found = evaluation.gain(right, {"majority": weak, "pixels": strong}, seed=0)
    assert found.over == "pixels"
    assert found.value == pytest.approx(0.4)
    # Of a paired difference with this spread, 1.96 standard errors.
    error = 1.96 * (right.astype(float) - strong).std() / 10
    assert found.interval == pytest.approx((0.4 - error, 0.4 + error), abs=0.03)
    assert evaluation.gain(right, {"pixels": right}, seed=0).interval == (0, 0)
    few = evaluation.gain(right, {"random_weights": np.ones(20, bool)}, seed=0)
    assert few.value == 0
