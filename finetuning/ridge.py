"""Ridge regression, exactly and for many strengths at once.

One eigendecomposition gives everything, of rows x rows where there are fewer rows than features
(the dual form).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Real = TypeVar("Real", bound=np.floating)

# For features of which an average row has length 1, so that they mean the same everywhere.
STRENGTHS = tuple(float(10.0**power) for power in np.arange(-3, 1.01, 0.5))
_NOTHING = 1e-10  # of the largest eigenvalue: below, a direction is rounding


@dataclass(frozen=True)
class Scale:
    """Standardization after which an average row has length 1; what is constant becomes 0."""

    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, x: NDArray[np.floating]) -> Scale:
        """As rows (N, D) have it."""
        mean = x.mean(axis=0, dtype=np.float64)
        scale = x.std(axis=0, dtype=np.float64)
        scale[scale <= 1e-6 * scale.max()] = np.inf
        return cls(mean, scale * np.sqrt(max(1, np.isfinite(scale).sum())))

    def __call__(self, x: NDArray[np.floating]) -> Floats:
        """Rows (N, D), standardized."""
        rows: Floats = (x - self.mean) / self.scale
        return rows

    def folded(self, weight: Floats, bias: Floats) -> tuple[Floats, Floats]:
        """Weight (outputs, features) and bias for features as they are."""
        weight = weight / self.scale
        return weight, bias - weight @ self.mean


@dataclass(frozen=True)
class Ridge:
    """Rows (N, D) and targets (N, K) decomposed; an intercept is fitted and not penalized."""

    rows: Floats  # centered, and multiplied by the roots of their weights
    center: Floats  # (D,)
    targets: Floats  # likewise
    offset: Floats  # (K,)
    vectors: Floats  # (N, R): left singular vectors of the rows
    values: Floats  # (R,): squared singular values

    @classmethod
    def of(cls, rows: Floats, targets: Floats, weights: Floats | None = None) -> Ridge:
        """The decomposition of rows (N, D), for targets (N, K); all weigh the same, or as said."""
        roots = np.ones(len(rows)) if weights is None else np.sqrt(weights)
        center = np.average(rows, axis=0, weights=weights)
        offset = np.average(targets, axis=0, weights=weights)
        rows, targets = (rows - center) * roots[:, None], (targets - offset) * roots[:, None]
        if len(rows) <= rows.shape[1]:
            values, vectors = np.linalg.eigh(rows @ rows.T)
            kept = values > _NOTHING * max(values.max(initial=0.0), np.finfo(float).tiny)
            values, vectors = values[kept], vectors[:, kept]
        else:
            values, right = np.linalg.eigh(rows.T @ rows)
            kept = values > _NOTHING * max(values.max(initial=0.0), np.finfo(float).tiny)
            values = values[kept]
            vectors = rows @ (right[:, kept] / np.sqrt(values))
        return cls(rows, center, targets, offset, vectors, values)

    def linear(self, strength: float) -> tuple[Floats, Floats]:
        """Weight (K, D) and bias (K,) of the fit of all rows."""
        factors = self.vectors.T @ self.targets / (self.values + strength)[:, None]
        # By the singular value decomposition: rows.T @ vectors is right.T * sqrt(values).
        weight = (self.rows.T @ (self.vectors @ factors)).T
        return weight, self.offset - weight @ self.center

    def said(self, rows: Floats, strengths: Sequence[float]) -> list[Floats]:
        """What the fit of each strength says of further rows (M, D): (M, K) each."""
        onto = np.linalg.multi_dot([rows - self.center, self.rows.T, self.vectors])
        targets = self.vectors.T @ self.targets
        return [
            onto @ (targets / (self.values + strength)[:, None]) + self.offset
            for strength in strengths
        ]


def unit(rows: NDArray[Real]) -> NDArray[Real]:
    """Rows (N, D) of length 1, so that their products are cosines."""
    found: NDArray[Real] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return found
