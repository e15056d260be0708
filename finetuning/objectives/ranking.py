"""How well examples are ranked for each label, and where a label is best said to hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetuning.calibration import Labels
from finetuning.ridge import Floats

_FEW = 5  # examples of a label that say too little of its own threshold


@dataclass(frozen=True)
class Ranked:
    """Examples in the order of their scores, for each label."""

    order: Labels  # (N, K), the highest first
    held: Floats  # (N, K), in that order
    last: NDArray[np.int64]  # (N, K): the place of the last that has the same score

    @classmethod
    def of(cls, scores: Floats, y: Labels) -> Ranked:
        """For scores (N, K) and labels (N, K)."""
        order = np.argsort(-scores, axis=0, kind="stable")
        sorted_ = np.take_along_axis(scores, order, axis=0)
        ends = np.vstack([np.diff(sorted_, axis=0) != 0, np.ones((1, scores.shape[1]), bool)])
        places = np.where(ends, np.arange(len(scores))[:, None], len(scores))
        last = np.minimum.accumulate(places[::-1], axis=0)[::-1]
        return cls(order, np.take_along_axis(y, order, axis=0).astype(np.float64), last)

    def average_precision(self, weights: Floats | None = None) -> Floats:
        """Of each label (K,): the mean precision at those that hold; NaN where none does."""
        weights = np.ones(len(self.order)) if weights is None else weights
        counted = weights[self.order]
        right = counted * self.held
        shares = np.cumsum(right, axis=0) / np.maximum(np.cumsum(counted, axis=0), 1e-12)
        precision = np.take_along_axis(shares, self.last, axis=0)
        total = right.sum(axis=0)
        found: Floats = np.where(
            total > 0, (right * precision).sum(axis=0) / np.where(total > 0, total, 1), np.nan
        )
        return found


def thresholds(probabilities: Floats, y: Labels) -> Floats:
    """Of each label the probability from which on it is said to hold, for the best F1.

    A label that few examples have takes the one that is best for all labels together.
    """
    common = _threshold(probabilities.ravel(), y.ravel())
    return np.array(
        [
            _threshold(probabilities[:, n], column) if column.sum() >= _FEW else common
            for n, column in enumerate(y.T)
        ]
    )


def _threshold(probabilities: Floats, held: Labels) -> float:
    """Between two neighboring probabilities, such that the F1 is the best."""
    order = np.argsort(-probabilities, kind="stable")
    sorted_, found = probabilities[order], np.cumsum(held[order])
    f1 = 2 * found / (np.arange(1, len(held) + 1) + held.sum())
    f1[:-1][np.diff(sorted_) == 0] = -1  # equal ones are taken together
    best = int(f1.argmax())
    if not held.any():
        return 0.5
    below = sorted_[best + 1] if best + 1 < len(sorted_) else 0.0
    return float((sorted_[best] + below) / 2)


def f1(said: NDArray[np.bool_], y: Labels) -> Floats:
    """Of each label (K,); 0 where nothing is found, NaN where there is nothing to find or said."""
    right = (said & (y == 1)).sum(axis=0)
    total = said.sum(axis=0) + y.sum(axis=0)
    found: Floats = np.where(total > 0, 2 * right / np.where(total > 0, total, 1), np.nan)
    return found
