"""Numbers for each example: squared error, ridge regression, a margin, R2.

Ridge regression with an intercept gives the same for standardized numbers, put back to their units
afterwards, as for the numbers themselves; so only the loss, which is a mean over several, is of
standardized ones. The head in the graph gives each in its own unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from finetuning.calibration import Labels
from finetuning.data.dataset import Example, Kind
from finetuning.data.splits import binned
from finetuning.folds import FOLDS, Folds
from finetuning.objectives.lessons import NumberLesson
from finetuning.objectives.objective import IDENTITY, Link, Plain, Scorer
from finetuning.ridge import Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_STRATA = 10
_WITHIN = 0.9  # of the examples, for a margin


class NumberTrust(msgspec.Struct, frozen=True):
    """How far off what is said may be: of ``share`` of examples no more than the margins."""

    share: float
    margins: tuple[float, ...]  # of each number, in its unit


@dataclass(frozen=True)
class Numbers(Plain):
    """One or several measured numbers of an example."""

    names: tuple[str, ...]
    kind: ClassVar[Kind] = "regression"
    link: ClassVar[Link] = IDENTITY
    measure: ClassVar[str] = "R2"
    # Numbers without noise are had with little regularization.
    strengths: ClassVar[tuple[float, ...]] = tuple(
        float(10.0**power) for power in np.arange(-6, 1.01, 0.5)
    )
    constant: ClassVar[str] = "mean"

    @property
    def described(self) -> str:
        """What the numbers are called."""
        return ("number " if len(self.names) == 1 else "numbers ") + ", ".join(self.names)

    def truth(self, examples: Sequence[Example]) -> Floats:
        """The numbers of each example (N, K)."""
        return np.array([example.target for example in examples], np.float64)

    def strata(self, y: Floats) -> Labels:
        """The tenth of the mean of its numbers, each standardized."""
        spread = np.where(y.std(axis=0) > 0, y.std(axis=0), 1)
        return binned(((y - y.mean(axis=0)) / spread).mean(axis=1), _STRATA)

    def folds(self, y: Floats, groups: Sequence[str], *, seed: int, count: int = FOLDS) -> Folds:
        """Folds over the whole range."""
        return Folds.spread(y, self.strata(y), groups, seed=seed, count=count)

    def columns(self, y: Floats) -> Floats:
        """The numbers."""
        return y

    def losses(self, scores: Floats, y: Floats) -> Floats:
        """Squared errors over the variance, as means over the numbers: on average 1 minus R2."""
        variances = _variances(y)
        known = np.isfinite(variances)
        if not known.any():
            return np.ones(len(y))
        found: Floats = ((scores - y)[:, known] ** 2 / variances[known]).mean(axis=1)
        return found

    def calibrated(self, scores: Floats, y: Floats) -> tuple[Floats, Floats, NumberTrust]:
        """The numbers as they are; margins are quantiles of how far off they were (conformal)."""
        gaps = np.sort(np.abs(scores - y), axis=0)
        place = min(math.ceil(_WITHIN * (len(y) + 1)), len(y)) - 1
        margins = tuple(float(value) for value in gaps[place])
        width = y.shape[1]
        return np.ones(width), np.zeros(width), NumberTrust(_WITHIN, margins)

    def said(self, scores: Floats) -> Floats:
        """The numbers."""
        return scores

    def scorer(self, said: NDArray[Any], y: Floats) -> Scorer:
        """The mean of each number's R2; one that does not vary is left out."""

        def score(weights: Floats | None) -> float:
            found = r2(said, y, weights)
            known = np.isfinite(found)
            return float(found[known].mean()) if known.any() else 0.0

        return score

    def always(self, y: Floats, count: int) -> Floats:
        """The mean."""
        return np.tile(y.mean(axis=0), (count, 1))

    def of_words(self, x: csr_matrix, y: Floats, asked: csr_matrix, *, seed: int) -> Floats:
        """By ridge regression."""
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=1.0, solver="sparse_cg", random_state=seed)
        said: Floats = model.fit(x, y).predict(asked).reshape(asked.shape[0], y.shape[1])
        return said

    def lesson(self, y: Floats) -> NumberLesson:
        """Squared error, of standardized numbers."""
        return NumberLesson.of(y, self.names)


def mean_error(apart: Floats) -> Scorer:
    """The mean absolute error, of how far off each (N,) is."""
    return lambda weights: float(np.average(apart, weights=weights))


def root_error(apart: Floats) -> Scorer:
    """The root of the mean squared error, of how far off each (N,) is."""
    return lambda weights: float(np.sqrt(np.average(apart**2, weights=weights)))


def r2(said: Floats, y: Floats, weights: Floats | None = None) -> Floats:
    """The share of each number's variance (K,) that is told; NaN where it has none."""
    rest = np.average((said - y) ** 2, axis=0, weights=weights)
    found: Floats = 1 - rest / _variances(y, weights)
    return found


def _variances(y: Floats, weights: Floats | None = None) -> Floats:
    """Of each number (K,); NaN where it is none but rounding."""
    mean = np.average(y, axis=0, weights=weights)
    found = np.average((y - mean) ** 2, axis=0, weights=weights)
    least = 1e-12 * np.average(y**2, axis=0, weights=weights)
    return np.where(found > least, found, np.nan)
