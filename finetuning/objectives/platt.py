"""Probabilities of labels of their scores: Platt scaling, one factor and one shift a label.

Platt, "Probabilistic outputs for support vector machines", 1999, with his targets, which are never
quite 0 or 1. Few examples of a label tell little of its factor: it is drawn to the one that is best
for all labels together, and stays above 0, so that no order is turned round.
"""

from __future__ import annotations

import numpy as np

from finetuning.calibration import Labels
from finetuning.objectives.objective import SIGMOID
from finetuning.ridge import Floats

_STEPS = 30
_ENOUGH = 1e-8  # of a step
_PRIOR = 4.0  # how much the common factor counts, in the square of the relative difference
_LEAST = 0.05  # of the common factor
_BINS = 15


def scaling(scores: Floats, y: Labels) -> tuple[Floats, Floats]:
    """Factor and shift (K,) of each label, for scores (N, K) of which ``y`` holds."""
    spread = float(scores.std()) or 1.0
    scaled = scores / spread
    common, _ = _fitted(scaled.reshape(-1, 1), y.reshape(-1, 1), prior=0.0)
    factor = max(float(common[0]), 1e-3)
    relative, shifts = _fitted(scaled * factor, y, prior=_PRIOR)
    low = relative < _LEAST
    if low.any():
        held = np.where(low, _LEAST, relative)
        _, again = _fitted(scaled * factor * held, y, prior=np.inf)
        relative, shifts = held, np.where(low, again, shifts)
    return relative * factor / spread, shifts


def log_loss(scores: Floats, y: Labels) -> float:
    """The mean negative log likelihood of what holds and what does not, over all labels."""
    return float(np.logaddexp(0, np.where(y == 1, -scores, scores)).mean())


def calibration_error(probabilities: Floats, y: Labels) -> float:
    """Expected calibration error over all labels: how far probabilities are from frequencies."""
    given, held = probabilities.ravel(), y.ravel()
    place = np.minimum((given * _BINS).astype(int), _BINS - 1)
    return float(np.abs(np.bincount(place, given - held, _BINS)).sum() / len(held))


def _fitted(scores: Floats, y: Labels, *, prior: float) -> tuple[Floats, Floats]:
    """By Newton's method for all labels at once; an infinite prior leaves the factors at 1."""
    rows, held = len(y), y.sum(axis=0)
    wanted = np.where(y == 1, (held + 1) / (held + 2), 1 / (rows - held + 2))
    factors = np.ones(scores.shape[1])
    shifts = np.log(wanted.mean(axis=0) / (1 - wanted.mean(axis=0))) - scores.mean(axis=0)
    free, strength = (0.0, 1.0) if np.isinf(prior) else (1.0, prior)
    best = np.full(scores.shape[1], np.inf)
    kept = factors, shifts
    damping = np.full(scores.shape[1], 1e-6)
    for _ in range(_STEPS):
        logits = scores * factors + shifts
        losses = (np.logaddexp(0, logits) - wanted * logits).sum(axis=0)
        losses += 0.5 * strength * (factors - 1) ** 2
        better = losses <= best
        gain = np.where(better, best - losses, np.inf)
        best = np.where(better, losses, best)
        damping = np.where(better, damping / 10, damping * 100)
        factors, shifts = (
            np.where(better, new, old) for new, old in zip((factors, shifts), kept, strict=True)
        )
        kept = factors, shifts
        if (gain < _ENOUGH).all():
            break
        probabilities = SIGMOID(scores * factors + shifts)
        gap, bend = probabilities - wanted, probabilities * (1 - probabilities)
        slope = free * ((gap * scores).sum(axis=0) + strength * (factors - 1))
        curve = (bend * scores**2).sum(axis=0) + strength
        level, tilt, both = gap.sum(axis=0), bend.sum(axis=0), (bend * scores).sum(axis=0) * free
        curve, tilt = curve * (1 + damping) + 1e-12, tilt * (1 + damping) + 1e-12
        whole = curve * tilt - both**2
        factors = factors - (tilt * slope - both * level) / whole
        shifts = shifts - (curve * level - both * slope) / whole
    return kept
