"""Several labels for each example: a sigmoid each, log loss, Platt scaling, average precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from finetuning.calibration import Labels
from finetuning.data.dataset import Example, Kind, classes_of
from finetuning.folds import FOLDS, Folds
from finetuning.objectives import logistic, platt, ranking
from finetuning.objectives.lessons import LabelLesson
from finetuning.objectives.objective import SIGMOID, Link, Plain, Regression, Scorer
from finetuning.ridge import STRENGTHS, Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class LabelTrust(msgspec.Struct, frozen=True):
    """How far probabilities are from the truth, and from which on each label is said to hold."""

    error_before: float  # expected calibration error, over all labels
    error: float
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class SeveralLabels(Plain):
    """Which labels hold of an example: any number of them."""

    names: tuple[str, ...]
    kind: ClassVar[Kind] = "multi-label"
    link: ClassVar[Link] = SIGMOID
    measure: ClassVar[str] = "mean average precision"
    strengths: ClassVar[tuple[float, ...]] = STRENGTHS
    constant: ClassVar[str] = "frequency"

    @property
    def described(self) -> str:
        """How many labels."""
        return f"{len(self.names)} labels"

    def truth(self, examples: Sequence[Example]) -> Labels:
        """1 for each label that holds (N, K)."""
        found = np.zeros((len(examples), len(self.names)), np.int64)
        for row, example in zip(found, examples, strict=True):
            row[list(classes_of(example.target))] = 1
        return found

    def strata(self, y: Labels) -> Labels:
        """The rarest label that holds of each, or that none does."""
        counts = y.sum(axis=0)
        rarity = np.where(y == 1, counts, len(y) + 1)
        found: Labels = np.where(y.any(axis=1), rarity.argmin(axis=1), y.shape[1])
        return found

    def folds(self, y: Labels, groups: Sequence[str], *, seed: int, count: int = FOLDS) -> Folds:
        """Folds over which the rare labels are spread."""
        return Folds.spread(y, self.strata(y), groups, seed=seed, count=count)

    def columns(self, y: Labels) -> Floats:
        """The labels."""
        return y.astype(np.float64)

    def regression(self, tolerance: float) -> Regression:
        """Logistic regression for each label, of all together."""
        return logistic.Joint(tolerance)

    def losses(self, scores: Floats, y: Labels) -> Floats:
        """Log losses by Platt scaling, as means over the labels."""
        factors, shifts = platt.scaling(scores, y)
        found: Floats = platt.log_losses(scores * factors + shifts, y).mean(axis=1)
        return found

    def calibrated(self, scores: Floats, y: Labels) -> tuple[Floats, Floats, LabelTrust]:
        """Platt scaling of each label, and the thresholds that give the best F1."""
        factors, shifts = platt.scaling(scores, y)
        before, after = SIGMOID(scores), SIGMOID(scores * factors + shifts)
        return (
            factors,
            shifts,
            LabelTrust(
                platt.calibration_error(before, y),
                platt.calibration_error(after, y),
                tuple(float(value) for value in ranking.thresholds(after, y)),
            ),
        )

    def said(self, scores: Floats) -> Floats:
        """The scores, by which examples are ranked for each label."""
        return scores

    def scorer(self, said: NDArray[Any], y: Labels) -> Scorer:
        """The mean over the labels that occur of their average precision."""
        ranked = ranking.Ranked.of(said, y)

        def score(weights: Floats | None) -> float:
            found = ranked.average_precision(weights)
            known = np.isfinite(found)
            return float(found[known].mean()) if known.any() else 0.0

        return score

    def always(self, y: Labels, count: int) -> Floats:
        """How often each label holds."""
        return np.tile(y.mean(axis=0), (count, 1))

    def of_words(self, x: csr_matrix, y: Labels, asked: csr_matrix, *, seed: int) -> Floats:
        """By logistic regression of each label."""
        from sklearn.linear_model import LogisticRegression

        said = self.always(y, asked.shape[0])
        for n, column in enumerate(y.T):
            if 0 < column.sum() < len(column):
                model = LogisticRegression(C=10, max_iter=1000, random_state=seed)
                said[:, n] = model.fit(x, column).predict_proba(asked)[:, 1]
        return said

    def lesson(self, y: Labels) -> LabelLesson:
        """Binary cross-entropy of each label."""
        return LabelLesson.of(y, self.names)
