"""What a network is trained for and judged by, of classes, labels and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import sem
from sklearn import metrics as reference

from finetuning.objectives import platt
from finetuning.objectives.classes import OneClass
from finetuning.objectives.embedding import Embedding
from finetuning.objectives.labels import SeveralLabels
from finetuning.objectives.lesson import Judged, Lesson
from finetuning.objectives.numbers import Numbers

RANDOM = np.random.default_rng(0)
CLASSES = RANDOM.permutation([0] * 60 + [1] * 30 + [2] * 10)
LABELS = (RANDOM.random((100, 4)) < (0.5, 0.3, 0.7, 0.1)).astype(np.int64)
NUMBERS = RANDOM.normal(1000, (50, 0.01), (100, 2))

GIVEN = {
    "classes": (OneClass(("a", "b", "c")), CLASSES, 3),
    "balanced": (OneClass(("a", "b", "c"), balanced=True), CLASSES, 3),
    "labels": (SeveralLabels(("a", "b", "c", "d")), LABELS, 4),
    "numbers": (Numbers(("weight", "length")), NUMBERS, 2),
    "number": (Numbers(("weight",)), NUMBERS[:, :1], 1),
}


@pytest.fixture(params=GIVEN)
def given(request: pytest.FixtureRequest) -> tuple[str, Lesson, Any, Any]:
    """The name, a lesson, the truth, and scores of it that are partly right."""
    objective, y, width = GIVEN[request.param]
    scores = np.random.default_rng(1).normal(0, 1, (100, width))
    lesson = objective.lesson(y)
    if objective.kind == "classification":
        scores += np.eye(width)[y]
    else:
        scores += lesson.targets(y)
    return request.param, lesson, y, scores


def test_the_loss_of_a_training_is_that_of_its_kind(given: Any) -> None:
    name, lesson, y, scores = given
    said = torch.from_numpy(scores).float()
    losses = lesson.losses(said, torch.from_numpy(lesson.targets(y)), smoothing=0.0)
    assert losses.shape == (100,)
    if name == "labels":
        given_ = 1 / (1 + np.exp(-scores))
        expected = np.mean([reference.log_loss(y[:, n], given_[:, n]) for n in range(4)])
    elif name in ("number", "numbers"):
        standard = (y - y.mean(axis=0)) / y.std(axis=0)
        expected = reference.mean_squared_error(standard, scores)
    else:
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        each = 100 / 3 / np.bincount(y)[y] if name == "balanced" else None
        expected = reference.log_loss(y, shares, sample_weight=each)
    assert float(losses.mean()) == pytest.approx(expected, rel=1e-5)
    if "number" in name:
        assert lesson.judged(scores, y).loss == pytest.approx(expected, rel=1e-5)


def test_who_is_too_sure_is_judged_by_what_calibration_leaves(given: Any) -> None:
    name, lesson, y, scores = given
    found, sure = (lesson.judged(factor * scores, y) for factor in (1, 5))
    if "number" in name:
        assert sure.loss > 2 * found.loss
        return
    assert sure.loss == pytest.approx(found.loss, rel=1e-3)
    assert sure.score == found.score
    said = torch.from_numpy(5 * scores)
    plain = lesson.losses(said, torch.from_numpy(lesson.targets(y)), smoothing=0.0)
    assert sure.loss < float(plain.mean()) - 0.1


def test_the_score_is_what_it_is_called(given: Any) -> None:
    name, lesson, y, scores = given
    found = lesson.judged(scores, y)
    if name == "labels":
        factors, shifts = platt.scaling(scores, y)
        said = scores * factors + shifts > 0
        assert found.score == pytest.approx(1 - reference.hamming_loss(y, said))
        assert found.score > 1 - reference.hamming_loss(y, scores > 0)
    elif name == "balanced":
        said = scores.argmax(axis=1)
        assert found.score == pytest.approx(reference.balanced_accuracy_score(y, said))
        assert found.score != pytest.approx((said == y).mean(), abs=1e-3)
    elif name == "classes":
        assert found.score == (scores.argmax(axis=1) == y).mean()
    else:
        factors, shifts = lesson.units
        unit = 1 if name == "number" else y.std(axis=0)
        apart = np.abs(scores * factors + shifts - y) / unit
        assert found.score == pytest.approx(apart.mean(), rel=1e-4)
    worse = lesson.judged(np.zeros_like(scores), y)
    assert worse.over(found)[0] < 0 < found.over(worse)[0]


def test_a_gain_and_its_error_are_of_pairs() -> None:
    one, other = np.random.default_rng(0).normal(0, 1, (2, 50)) + np.arange(50)
    same = np.ones(50)
    gain, error = Judged(one, one, same).over(Judged(other, other, same))
    assert gain == pytest.approx((one - other).mean())
    assert error == pytest.approx(sem(one - other, ddof=0))
    less = Judged(one, one, same, higher_is_better=False)
    assert less.over(Judged(other, other, same, higher_is_better=False))[0] == -gain
    # An example that counts twice counts as much as two that count once, with less to go by.
    twice = np.where(np.arange(50) < 10, 2.0, 1.0)
    gain, error = Judged(one, one, twice).over(Judged(other, other, twice))
    apart = np.concatenate([one - other, (one - other)[:10]])
    assert gain == pytest.approx(apart.mean())
    assert error > sem(apart, ddof=0)


def test_a_network_beats_a_head_by_one_measure_and_is_no_worse_by_the_other() -> None:
    random = np.random.default_rng(0)
    scores, losses, ones = random.integers(0, 2, 40) * 1.0, random.random(40), np.ones(40)
    head = Judged(scores, losses, ones)
    luck = random.normal(0, 0.5, 40) - 0.01  # less loss by chance
    luck -= luck.mean() + 0.01
    sure = random.normal(-0.2, 0.1, 40)
    assert Judged(scores, losses + sure, ones).beats(head), "as often right, with less loss"
    assert not Judged(scores, losses + luck, ones).beats(head)
    barely = Judged(scores, losses + luck - 1.5 * luck.std() / np.sqrt(40), ones)
    assert barely.beats(head)
    assert not barely.beats(head, 2.0)
    assert Judged(np.maximum(scores, ones * (random.random(40) < 0.5)), losses, ones).beats(head)
    worse = scores.copy()
    worse[int(scores.argmax())] = 0
    assert not Judged(worse, losses + sure, ones).beats(head), "once less often right"
    assert not Judged(np.ones(40), losses + 0.01, ones).beats(head)
    assert not head.beats(head)


def test_words_and_units_are_those_of_the_kind() -> None:
    said = {
        name: objective.lesson(y).compared(0.9, "the head", 0.8)
        for name, (objective, y, _) in GIVEN.items()
    }
    assert said["classes"] == "right on 90.0% of held-back training examples, the head on 80.0%"
    assert "each class counting the same" in said["balanced"]
    assert "of the labels of" in said["labels"]
    assert said["number"].startswith("off by 0.9 on average of held-back")
    assert said["numbers"].endswith("the head by 0.8 standard deviations")
    assert not any("right" in said[name] for name in ("number", "numbers"))
    assert GIVEN["number"][0].lesson(NUMBERS[:, :1]).measure == "mean absolute error of weight"


def test_it_is_said_of_what_there_is_too_little() -> None:
    said = {name: objective.lesson(y).lacking for name, (objective, y, _) in GIVEN.items()}
    assert "the smallest has 10" in str(said["classes"])
    assert f"'d' has {LABELS[:, 3].sum()}" in str(said["labels"])
    assert "there are 100" in str(said["number"])
    for objective, y, _ in GIVEN.values():
        assert objective.lesson(np.tile(y, (5, 1) if y.ndim > 1 else 5)).lacking is None


def test_an_embedding_is_judged_class_by_class_by_what_is_nearest() -> None:
    random = np.random.default_rng(0)
    classes, member = np.repeat([3, 5, 8, 9], [4, 9, 6, 1]), np.arange(20)
    y = np.stack([classes, member], axis=1)
    vectors = random.normal(0, 1, (20, 3)) + 2 * np.eye(3)[[0] * 4 + [1] * 9 + [2] * 6 + [0]]
    lesson = Embedding(tuple("abcdefghij")).lesson(y)
    assert "there are 3" in str(lesson.lacking)
    assert set(lesson.targets(y).tolist()) == {0, 1, 2, 3}
    found = lesson.judged(vectors, y)
    assert len(found.scores) == 3, "one class has nothing to find"
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = rows @ rows.T - 9 * np.eye(20)
    right = (classes[alike.argmax(axis=1)] == classes)[:19]
    assert found.score == pytest.approx(right.mean())
    assert found.scores[1] == pytest.approx(right[4:13].mean())
    assert 0 < found.loss < 1
    assert lesson.judged(np.eye(3)[[0] * 4 + [1] * 9 + [2] * 6 + [0]], y).beats(found)


def test_numbers_that_do_not_vary_among_those_learned_from_stay_numbers() -> None:
    lesson = Numbers(("size",)).lesson(np.full((5, 1), 7.5))
    assert lesson.units == (np.ones(1), np.full(1, 7.5))
    assert (lesson.targets(np.full((2, 1), 7.5)) == 0).all()
