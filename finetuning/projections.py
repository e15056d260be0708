"""Linear maps of features after which cosines tell classes apart, those that nobody has seen too.

Two are tried: whitening, so that what varies most does not count most; and whitening by how much
features vary *within* classes, so that what tells nothing of a class counts least (Hatch, Kajarekar
and Stolcke, "Within-class covariance normalization", 2006). The covariance is drawn towards the
identity by as much as does best: all the way are the standardized features as they are. All are
judged by classes that were left out whole, since the use of an embedding is to tell new ones apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from finetuning.calibration import Labels
from finetuning.ridge import Floats, Scale

WITHIN, WHITE = "within-class whitening", "whitening"
METHODS = (WITHIN, WHITE)
SHRINKAGES = (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
DEFAULT = 0.3  # where there are too few classes to choose by
WIDTH = 512  # of a vector, at most
ROWS = 2000  # so many are enough to choose by

_FOLDS, _DRAWS = 3, 2
_LEAST = 1e-6  # of the largest variance: a direction with less is rounding


@dataclass(frozen=True)
class Spread:
    """Rows in their principal directions, and how they vary there; every class from 0 on occurs."""

    scale: Scale
    basis: Floats  # (R, D): the directions, of scaled rows
    rows: Floats  # (N, R)
    y: Labels

    @classmethod
    def of(cls, x: NDArray[np.floating], y: Labels) -> Spread:
        """Of rows (N, D) and their classes (N,); what was constant is gone."""
        scale = Scale.of(x)
        rows = scale(x)
        if len(rows) <= rows.shape[1]:
            values, vectors = np.linalg.eigh(rows @ rows.T)
            kept = _largest(values)
            basis = (vectors[:, kept] / np.sqrt(values[kept])).T @ rows
        else:
            values, vectors = np.linalg.eigh(rows.T @ rows)
            basis = vectors[:, _largest(values)].T
        return cls(scale, basis, rows @ basis.T, y)

    def projected(self, method: str, shrinkage: float) -> tuple[Floats, Floats]:
        """Weight (R, D) and bias (R,) for features as they are."""
        values, vectors = self._varied if method == WHITE else self._varied_within
        shrunk = (1 - shrinkage) * values + max(shrinkage, _LEAST) * values.mean()
        return self.scale.folded((vectors / np.sqrt(shrunk)).T @ self.basis, np.zeros(1))

    @cached_property
    def _varied(self) -> tuple[Floats, Floats]:
        return _decomposed(self.rows)

    @cached_property
    def _varied_within(self) -> tuple[Floats, Floats]:
        sums = np.stack([np.bincount(self.y, column) for column in self.rows.T], axis=1)
        within = self.rows - (sums / np.bincount(self.y)[:, None])[self.y]
        # Of one example a class nothing is known of how they vary within.
        return _decomposed(within) if within.any() else self._varied


def folds(truth: Labels, *, seed: int = 0, draws: int = _DRAWS) -> Iterator[tuple[Labels, Labels]]:
    """Places to fit on and to judge on, that have no class in common; none of too few classes.

    ``truth`` (N, 2) are classes, and what belongs together within them.
    """
    y = truth[:, 0]
    several = np.flatnonzero(np.bincount(np.unique(truth, axis=0)[:, 0]) > 1)
    parts = min(_FOLDS, len(several) // 2)
    if parts < 2:
        return
    for draw in range(draws):
        order = np.random.default_rng([seed, draw]).permutation(several)
        for part in np.array_split(order, parts):
            judged = np.isin(y, part)
            yield np.flatnonzero(~judged), np.flatnonzero(judged)


def tried(
    x: NDArray[np.floating],
    truth: Labels,
    methods: Sequence[str] = METHODS,
    *,
    seed: int = 0,
    draws: int = _DRAWS,
) -> Iterator[tuple[Labels, dict[tuple[str, float], Floats]]]:
    """Of each fold the places that were left out, and their vectors by method and shrinkage."""
    for fitted, judged in folds(truth, seed=seed, draws=draws):
        spread = Spread.of(x[fitted], np.unique(truth[fitted, 0], return_inverse=True)[1])
        found = {}
        for method in methods:
            for shrinkage in SHRINKAGES:
                weight, bias = spread.projected(method, shrinkage)
                found[method, shrinkage] = x[judged] @ weight.T + bias
        yield judged, found


def _decomposed(rows: Floats) -> tuple[Floats, Floats]:
    """The variances of rows (N, R) in their principal directions (R, R), a column each."""
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    return np.maximum(values, 0), vectors


def _largest(values: Floats) -> NDArray[np.int64]:
    """The places of the largest of ascending values, those that are rounding left out."""
    kept = np.flatnonzero(values > _LEAST * max(values.max(initial=0.0), np.finfo(float).tiny))
    return kept[::-1][:WIDTH]
