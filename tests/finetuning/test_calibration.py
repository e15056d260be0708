from __future__ import annotations

import numpy as np
import pytest

from finetuning.calibration import (
    abstention,
    calibration_error,
    log_losses,
    log_softmax,
    measured,
    temperature,
)


def drawn(rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and classes drawn by the probabilities that they mean."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (rows, 4))
    chances = np.exp(log_softmax(logits)).cumsum(axis=1)
    return logits, (random.random((rows, 1)) > chances).sum(axis=1)


@pytest.mark.parametrize("scale", [0.2, 1.0, 8.0])
def test_the_temperature_undoes_a_wrong_scale(scale: float) -> None:
    logits, y = drawn()
    found = temperature(logits * scale, y)
    assert found == pytest.approx(scale, rel=0.05)
    best = min(log_losses(logits * scale / by, y).mean() for by in np.geomspace(0.05, 20, 400))
    assert log_losses(logits * scale / found, y).mean() <= best + 1e-5
    calibrated = calibration_error(np.exp(log_softmax(logits * scale / found)), y)
    assert calibrated < 0.02
    if scale == 8:
        assert calibration_error(np.exp(log_softmax(logits * scale)), y) > 0.1


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_where_all_are_right_nobody_is_quite_sure(scale: float) -> None:
    random = np.random.default_rng(0)
    y = np.arange(30) % 3
    logits = scale * (4 * np.eye(3)[y] + random.uniform(0, 1, (30, 3)))
    sure = np.exp(log_softmax(logits / temperature(logits, y)))[np.arange(30), y]
    assert 0.9 < sure.min() < sure.mean() < 0.99


def test_log_softmax_bears_large_numbers() -> None:
    assert np.isfinite(log_softmax(np.array([[1e5, -1e5, 0.0]]))).all()


def test_the_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.62, 0.38]] * 10)
    y = np.array([0] * 7 + [1] * 3 + [0] * 6 + [1] * 4)
    assert calibration_error(probabilities, y) == pytest.approx(0.5 * 0.2 + 0.5 * 0.02)


def test_above_the_threshold_the_risk_is_kept_and_below_it_is_not() -> None:
    logits, y = drawn()
    probabilities = np.exp(log_softmax(logits))
    found = abstention(probabilities, y, 0.05)
    assert found.threshold is not None
    kept = probabilities.max(axis=1) >= found.threshold
    wrong = probabilities.argmax(axis=1) != y
    assert wrong[kept].mean() <= 0.05
    assert found.coverage == pytest.approx(kept.mean())
    order = np.sort(np.unique(probabilities.max(axis=1)))
    for lower in order[order < found.threshold][-50:]:
        assert wrong[probabilities.max(axis=1) >= lower].mean() > 0.05
    said = measured(found, probabilities, y)
    assert said.held_out_risk == pytest.approx(wrong[kept].mean())


def test_where_no_threshold_will_do_none_is_given() -> None:
    probabilities, y = np.array([[0.9, 0.1]] * 4), np.array([1, 0, 0, 0])
    found = abstention(probabilities, y, 0.05)
    assert (found.threshold, found.coverage) == (None, 0)
    assert measured(found, probabilities, y) == found
