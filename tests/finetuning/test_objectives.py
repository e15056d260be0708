from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as Reference

from finetuning import heads
from finetuning.objectives import logistic, platt, ranking
from finetuning.objectives.classes import OneClass
from finetuning.objectives.labels import SeveralLabels
from finetuning.objectives.numbers import Numbers, NumberTrust, r2
from finetuning.objectives.objective import IDENTITY, SIGMOID, SOFTMAX
from finetuning.ridge import Ridge, Scale

LABELS = SeveralLabels(("a", "b", "c"))
NUMBERS = Numbers(("x", "y"))


def alone(rows: int) -> list[str]:
    return [str(n) for n in range(rows)]


def labelled(rows: int, width: int, seed: int = 0) -> tuple[heads.Rows, heads.Labels]:
    """Features, and three labels that follow from some of them; the last is rare."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, width))
    noisy = x[:, :3] + random.normal(0, 0.7, (rows, 3))
    return x.astype(np.float32), (noisy > [0, 0.5, 1.8]).astype(np.int64)


def measured(rows: int, width: int, seed: int = 0) -> tuple[heads.Rows, heads.Floats]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, width))
    y = x[:, :2] * [1, 50] + random.normal(0, [0.1, 5], (rows, 2)) + [3, 2000]
    return x.astype(np.float32), y


def test_links() -> None:
    scores = np.array([[0.0, 2.0], [-800.0, 800.0]])
    np.testing.assert_allclose(SOFTMAX(scores)[0], [1 / (1 + np.e**2), 1 / (1 + np.e**-2)])
    np.testing.assert_allclose(SIGMOID(scores), [[0.5, 1 / (1 + np.e**-2)], [0, 1]])
    assert IDENTITY(scores) is scores


@pytest.mark.parametrize(("rows", "width"), [(60, 200), (300, 12)])
def test_labels_fitted_together_are_scikit_learns_one_by_one(rows: int, width: int) -> None:
    x, y = labelled(rows, width)
    scaled = Scale.of(x)(x)
    weight, bias = logistic.Joint(1e-7)(scaled, y, 10.0)
    for n in range(3):
        reference = LogisticRegression(C=10.0, tol=1e-8, max_iter=5000).fit(scaled, y[:, n])
        np.testing.assert_allclose(weight[n], reference.coef_[0], atol=2e-3)
        np.testing.assert_allclose(bias[n], reference.intercept_[0], atol=2e-3)
    y[:, 2] = 0
    weight, bias = logistic.Joint(1e-7)(scaled, y, 10.0)
    assert not weight[2].any()
    assert SIGMOID(bias)[2] < 0.01


def test_platt_scaling_makes_frequencies_of_scores() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 2))
    y = (random.random((4000, 2)) < SIGMOID(logits)).astype(np.int64)
    scores = logits / [3, 1.5] + [1, -3]
    factors, shifts = platt.scaling(scores, y)
    np.testing.assert_allclose(factors, [3, 1.5], rtol=0.1)
    np.testing.assert_allclose(shifts, [-3, 4.5], atol=0.4)
    assert platt.calibration_error(SIGMOID(scores * factors + shifts), y) < 0.015
    assert platt.calibration_error(SIGMOID(scores), y) > 0.1


def test_a_rare_label_keeps_its_order_whatever_its_few_examples_say() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(200, 3))
    y = (random.random((200, 3)) < SIGMOID(3 * scores)).astype(np.int64)
    y[:, 2] = 0
    y[scores[:, 2].argmin(), 2] = 1  # one example, where it is the least likely
    factors, shifts = platt.scaling(scores, y)
    assert factors[2] > 0
    assert np.isfinite(shifts).all()
    np.testing.assert_allclose(factors[:2], 3, rtol=0.35)
    y[:, 2] = 0  # and none
    assert (
        SIGMOID(scores * platt.scaling(scores, y)[0] + platt.scaling(scores, y)[1])[:, 2].max()
        < 0.2
    )


def test_average_precision_is_scikit_learns_with_ties_and_weights() -> None:
    random = np.random.default_rng(0)
    scores, y = random.integers(0, 6, (80, 4)) / 5, random.integers(0, 2, (80, 4))
    y[:, 3] = 0
    weights = random.integers(0, 3, 80).astype(float)
    ranked = ranking.Ranked.of(scores, y)
    for given in (None, weights):
        found = ranked.average_precision(given)
        for n in range(3):
            expected = metrics.average_precision_score(y[:, n], scores[:, n], sample_weight=given)
            assert found[n] == pytest.approx(expected)
        assert np.isnan(found[3])
    constant = LABELS.scorer(LABELS.always(y[:, :3], 80), y[:, :3])(None)
    assert constant == pytest.approx(y[:, :3].mean())  # what a coin gives


def test_thresholds_give_the_best_f1() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(-1, 2, (300, 2))
    y = (random.random((300, 2)) < SIGMOID(logits)).astype(np.int64)
    y[:, 1] = 0
    y[np.argsort(-logits[:, 1])[:3], 1] = 1
    given = SIGMOID(logits)
    above = ranking.thresholds(given, y)
    best = max(metrics.f1_score(y[:, 0], given[:, 0] >= t) for t in given[:, 0])
    assert metrics.f1_score(y[:, 0], given[:, 0] >= above[0]) == best
    # Three examples do not choose a threshold: it is the one of both labels together.
    best = max(metrics.f1_score(y.ravel(), given.ravel() >= t) for t in given.ravel())
    assert metrics.f1_score(y.ravel(), given.ravel() >= above[1]) == best
    assert ranking.thresholds(given, y * 0).tolist() == [0.5, 0.5]


def test_the_best_head_for_labels_beats_a_guess_and_does_not_fool_itself() -> None:
    x, y = labelled(300, 20)
    found = heads.evidence(x, y, alone(300), seed=0, objective=LABELS)
    assert [item.method for item in found.tried] == [
        *(heads.RIDGE, heads.LOGISTIC, heads.PERCEPTRON, heads.NEIGHBORS)
    ]
    assert found.best is not None
    assert found.best.loss == pytest.approx(LABELS.losses(found.logits, found.y).mean())
    assert found.best.score > 2 * y.mean()
    noise = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    nothing = heads.evidence(noise, y, alone(300), seed=0, objective=LABELS)
    rates = y.mean(axis=0)
    entropy = -(rates * np.log(rates) + (1 - rates) * np.log(1 - rates)).mean()
    assert nothing.best is not None
    assert nothing.best.loss is not None
    assert nothing.best.loss > 0.95 * entropy
    head = heads.fit(x, y, method=found.best.method, strength=found.best.strength, objective=LABELS)
    factors, shifts, trust = LABELS.calibrated(found.logits, found.y)
    new, truth = labelled(2000, 20, seed=9)
    given = SIGMOID(head.adjusted(factors, shifts).logits(new))
    assert platt.calibration_error(given, truth) < 0.04
    said = given >= np.array(trust.thresholds)  # type: ignore[attr-defined]
    assert np.nanmean(ranking.f1(said, truth)) > np.nanmean(ranking.f1(given >= 0.5, truth))


def test_r2_is_scikit_learns() -> None:
    _, y = measured(50, 5)
    said = y + np.random.default_rng(0).normal(0, [0.5, 20], y.shape)
    weights = np.random.default_rng(1).random(50)
    for given in (None, weights):
        expected = metrics.r2_score(y, said, sample_weight=given, multioutput="raw_values")
        np.testing.assert_allclose(r2(said, y, given), expected)
    constant = np.column_stack([y[:, 0], np.full(50, 7.0)])
    assert NUMBERS.scorer(said, constant)(None) == r2(said, constant)[0]


def test_a_number_that_varies_by_rounding_alone_has_no_say_in_the_loss() -> None:
    y = np.stack([np.arange(30.0), np.full(30, 0.1)], axis=1)
    said = y + 1.0
    assert 0 < y[:, 1].var() < 1e-30
    assert NUMBERS.losses(said, y).mean() == pytest.approx(1 - NUMBERS.scorer(said, y)(None))


def test_numbers_are_told_the_same_in_any_unit() -> None:
    x, y = measured(120, 30)
    first = heads.evidence(x, y, alone(120), seed=0, objective=NUMBERS)
    other = heads.evidence(x, y * [1e6, 1e-3] + [0, 40], alone(120), seed=0, objective=NUMBERS)
    assert first.best is not None
    assert other.best is not None
    assert first.best.strength == other.best.strength
    assert first.best.loss == pytest.approx(other.best.loss)
    assert first.best.score > 0.97
    head = heads.fit(x, y, method=heads.RIDGE, strength=first.best.strength, objective=NUMBERS)
    new, truth = measured(2000, 30, seed=5)
    assert NUMBERS.scorer(head.logits(new), truth)(None) > 0.97
    _, _, trust = NUMBERS.calibrated(first.logits, first.y)
    assert isinstance(trust, NumberTrust)
    within = (np.abs(head.logits(new) - truth) <= trust.margins).mean(axis=0)
    assert (np.abs(within - 0.9) < 0.07).all()


@pytest.mark.parametrize(("rows", "width"), [(24, 60), (60, 9)])
def test_weighted_ridge_regression_is_scikit_learns(rows: int, width: int) -> None:
    x, y = measured(rows, width)
    weights = np.random.default_rng(3).uniform(0.2, 3, rows)
    x = Scale.of(x)(x)
    weight, bias = Ridge.of(x, y, weights).linear(0.3)
    reference = Reference(alpha=0.3).fit(x, y, weights)
    np.testing.assert_allclose(x @ weight.T + bias, reference.predict(x), rtol=1e-7)


@pytest.mark.parametrize("method", [heads.LDA, heads.RIDGE, heads.LOGISTIC])
def test_balanced_heads_find_the_rare_class(method: str) -> None:
    random = np.random.default_rng(0)
    y = (np.arange(600) % 15 == 0).astype(np.int64)
    x = (random.normal(size=(600, 10)) + y[:, None] * 0.7).astype(np.float32)
    found = {}
    for balanced in (False, True):
        objective = OneClass(("often", "rare"), balanced)
        best = heads.evidence(x, y, alone(600), seed=0, methods=[method], objective=objective).best
        assert best is not None
        head = heads.fit(x, y, method=method, strength=best.strength, objective=objective)
        found[balanced] = metrics.recall_score(y, objective.said(head.logits(x)), average=None)
        if balanced:
            assert best.score == pytest.approx(found[True].mean(), abs=0.08)
    assert found[True][1] > 0.75 > found[False][1]
    assert found[True].mean() > found[False].mean() + 0.1
