"""Logistic regression of several labels at once, by L-BFGS on all of their weights together.

The loss is scikit-learn's for each label: half the squared weights, plus the strength (its C) times
the sum of the log losses; the bias is not penalized. All labels take one pass over the rows.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize

from finetuning.calibration import Labels
from finetuning.objectives.objective import SIGMOID
from finetuning.ridge import Floats

_ITERATIONS = 1000


class Joint:
    """Fits that start where the one before ended."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._start: Floats | None = None

    def __call__(self, rows: Floats, y: Labels, strength: float) -> tuple[Floats, Floats]:
        """Weight (K, D) and bias (K,) for rows (N, D) and labels (N, K).

        A label that holds of none or of all gets no weight, and a bias that says so.
        """
        width, labels = rows.shape[1], y.shape[1]
        held = y.astype(np.float64)
        rate = (held.sum(axis=0) + 0.5) / (len(y) + 1)
        varies = (held.min(axis=0) != held.max(axis=0)).astype(np.float64)

        def loss(flat: Floats) -> tuple[float, Floats]:
            matrix = flat.reshape(labels, width + 1)
            weight, bias = matrix[:, :-1], matrix[:, -1]
            logits = rows @ weight.T + bias
            value = np.logaddexp(0, logits) - held * logits
            total = strength * float((value * varies).sum()) + 0.5 * float((weight**2).sum())
            gap = strength * varies * (SIGMOID(logits) - held)
            slope = np.hstack([gap.T @ rows + weight, gap.sum(axis=0)[:, None]])
            return total, slope.ravel()

        if self._start is None or self._start.size != labels * (width + 1):
            self._start = np.hstack([np.zeros((labels, width)), np.log(rate / (1 - rate))[:, None]])
        found = scipy.optimize.minimize(
            loss,
            self._start.ravel(),
            jac=True,
            method="L-BFGS-B",
            options={
                "maxiter": _ITERATIONS,
                "gtol": self._tolerance * strength * len(y),
                "ftol": 1e-12,
            },
        )
        matrix = found.x.reshape(labels, width + 1)
        self._start = matrix
        fixed = np.log(rate / (1 - rate))
        return matrix[:, :-1] * varies[:, None], np.where(varies > 0, matrix[:, -1], fixed)
