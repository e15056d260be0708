"""Probabilities of labels of their scores: Platt scaling, one factor and one shift a label.

Platt, "Probabilistic outputs for support vector machines", 1999, with his targets, which are never
quite 0 or 1. Few examples of a label tell little of its factor: it is drawn to the one that is best
for all labels together, and stays above 0, so that no order is turned round.
"""

from __future__ import annotations

import numpy as np

from finetuning.calibration import Labels, over_bins
from finetuning.objectives.objective import SIGMOID
from finetuning.ridge import Floats

_STEPS = 30
_ENOUGH = 1e-7  # of the loss
_TINY = 1e-12
_PRIOR = 4.0  # how much the common factor counts, in the square of the relative difference
_LEAST = 0.05  # of the common factor


def scaling(scores: Floats, y: Labels) -> tuple[Floats, Floats]:
    """Factor and shift (K,) of each label, for scores (N, K) of which ``y`` holds."""
    spread = float(scores.std()) or 1.0
    common = max(float(_fitted(scores / spread, y, tied=True)[0][0]), 1e-3)
    scaled = scores / spread * common
    relative, shifts = _fitted(scaled, y, prior=_PRIOR)
    low = relative < _LEAST
    if low.any():
        relative = np.where(low, _LEAST, relative)
        _, again = _fitted(scaled * relative, y, fixed=True)
        shifts = np.where(low, again, shifts)
    return relative * common / spread, shifts


def log_losses(scores: Floats, y: Labels) -> Floats:
    """The negative log likelihood of what holds and what does not, of each example (N, K)."""
    found: Floats = np.logaddexp(0, np.where(y == 1, -scores, scores))
    return found


def calibration_error(probabilities: Floats, y: Labels) -> float:
    """Expected calibration error over all labels: how far probabilities are from frequencies."""
    given, held = probabilities.ravel(), y.ravel()
    return over_bins(given, given - held)


def _fitted(
    scores: Floats, y: Labels, *, prior: float = 0.0, tied: bool = False, fixed: bool = False
) -> tuple[Floats, Floats]:
    """Factors and shifts by Newton's method, for all labels at once.

    The factors are one for all where ``tied``, and stay 1 where ``fixed``.
    """
    rows, held = len(y), y.sum(axis=0)
    wanted = np.where(y == 1, (held + 1) / (held + 2), 1 / (rows - held + 2))
    rate = wanted.mean(axis=0)
    factors = np.ones(scores.shape[1])
    shifts = np.log(rate / (1 - rate)) - scores.mean(axis=0)
    kept, best = (factors, shifts), np.full(len(factors), np.finfo(float).max)
    damping = np.full(len(factors), 1e-6)
    for _ in range(_STEPS):
        logits = scores * factors + shifts
        losses = (np.logaddexp(0, logits) - wanted * logits).sum(axis=0)
        losses += 0.5 * prior * (factors - 1) ** 2
        losses = np.full(len(losses), losses.sum()) if tied else losses
        better = losses <= best
        if (np.abs(best - losses) <= _ENOUGH * best).all():
            break
        factors, shifts = np.where(better, factors, kept[0]), np.where(better, shifts, kept[1])
        kept, best = (factors, shifts), np.where(better, losses, best)
        damping = np.where(better, damping / 10, damping * 100)
        probabilities = SIGMOID(scores * factors + shifts)
        gap, bend = probabilities - wanted, probabilities * (1 - probabilities)
        level, tilt = gap.sum(axis=0), bend.sum(axis=0) * (1 + damping) + _TINY
        both = (bend * scores).sum(axis=0)
        slope = (gap * scores).sum(axis=0) + prior * (factors - 1)
        curve = ((bend * scores**2).sum(axis=0) + prior) * (1 + damping) + _TINY
        # The shifts are eliminated, so that factors can be tied.
        down, bent = slope - both * level / tilt, curve - both**2 / tilt
        if tied:
            down, bent = np.full(len(down), down.sum()), np.full(len(bent), bent.sum())
        step = np.zeros(len(down)) if fixed else down / bent
        factors, shifts = factors - step, shifts - (level - both * step) / tilt
    return kept
