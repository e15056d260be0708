"""One class for each example: softmax, log loss, a temperature, accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from finetuning import calibration
from finetuning.calibration import Abstention, Calibration, Labels
from finetuning.data.dataset import Example, Kind
from finetuning.folds import FOLDS, Folds
from finetuning.objectives.lessons import ClassLesson
from finetuning.objectives.objective import SOFTMAX, Link, Plain, Regression, Scorer
from finetuning.ridge import STRENGTHS, Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

_ITERATIONS = 1000


class ClassTrust(msgspec.Struct, frozen=True):
    """How far probabilities are from the truth, and from which on an answer is to be trusted."""

    calibration: Calibration
    abstention: Abstention


@dataclass(frozen=True)
class OneClass(Plain):
    """Which of several classes an example is of; ``balanced``: rare ones count as much as others.

    Balanced probabilities are those where all classes are equally frequent.
    """

    names: tuple[str, ...] = ()
    balanced: bool = False
    kind: ClassVar[Kind] = "classification"
    link: ClassVar[Link] = SOFTMAX
    strengths: ClassVar[tuple[float, ...]] = STRENGTHS
    constant: ClassVar[str] = "majority"

    @property
    def described(self) -> str:
        """How many classes."""
        return f"{len(self.names)} classes"

    @property
    def measure(self) -> str:
        """Accuracy, or the mean of the classes' own."""
        return "balanced accuracy" if self.balanced else "accuracy"

    def truth(self, examples: Sequence[Example]) -> Labels:
        """The class of each example (N,)."""
        return np.array([example.target for example in examples], np.int64)

    def weights(self, y: Labels) -> Floats | None:
        """The inverse of each class's frequency, where balanced."""
        if not self.balanced:
            return None
        counts = np.bincount(y)
        return len(y) / (np.count_nonzero(counts) * counts[y])

    def renumbered(self, y: Labels) -> Labels:
        """Numbered among the classes that occur."""
        found: Labels = np.unique(y, return_inverse=True)[1].astype(np.int64)
        return found

    def original(self, said: Labels, y: Labels) -> Labels:
        """In the numbers of the classes that occur in ``y``."""
        found: Labels = np.unique(y)[said]
        return found

    def strata(self, y: Labels) -> Labels:
        """The class of each."""
        return y

    def folds(self, y: Labels, groups: Sequence[str], *, seed: int, count: int = FOLDS) -> Folds:
        """Folds of equal parts of each class."""
        return Folds.of(y, groups, seed=seed, count=count)

    def columns(self, y: Labels) -> Floats:
        """One for each class, 1 where it holds."""
        return np.eye(int(y.max()) + 1)[y]

    def regression(self, tolerance: float) -> Regression:
        """Multinomial logistic regression."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(tol=tolerance, max_iter=_ITERATIONS, warm_start=True)

        def fit(rows: Floats, y: Labels, strength: float) -> tuple[Floats, Floats]:
            return _linear(model.set_params(C=strength).fit(rows, y, self.weights(y)))

        return fit

    def losses(self, scores: Floats, y: Labels) -> Floats:
        """Log losses at the best temperature."""
        weights = self.weights(y)
        by = calibration.temperature(scores, y, weights)
        found = calibration.log_losses(scores / by, y)
        return found if weights is None else found * weights / weights.mean()

    def calibrated(self, scores: Floats, y: Labels) -> tuple[Floats, Floats, ClassTrust]:
        """One temperature for all classes."""
        weights = self.weights(y)
        by = calibration.temperature(scores, y, weights)
        before, after = SOFTMAX(scores), SOFTMAX(scores / by)
        found = Calibration(
            temperature=by,
            error_before=calibration.calibration_error(before, y, weights),
            error=calibration.calibration_error(after, y, weights),
        )
        return np.array([1 / by]), np.zeros(1), ClassTrust(found, calibration.abstention(after, y))

    def said(self, scores: Floats) -> Labels:
        """The likeliest class of each."""
        found: Labels = scores.argmax(axis=1)
        return found

    def scorer(self, said: NDArray[Any], y: Labels) -> Scorer:
        """Accuracy, or the mean of that of each class that occurs."""
        right = (said == y).astype(np.float64)

        def score(weights: Floats | None) -> float:
            weights = np.ones(len(y)) if weights is None else weights
            if not self.balanced:
                return float(right @ weights / weights.sum())
            total = np.bincount(y, weights)
            found = np.bincount(y, weights * right)
            return float((found[total > 0] / total[total > 0]).mean())

        return score

    def always(self, y: Labels, count: int) -> Labels:
        """The most frequent class."""
        return np.full(count, np.bincount(y).argmax(), np.int64)

    def of_words(self, x: csr_matrix, y: Labels, asked: csr_matrix, *, seed: int) -> Labels:
        """By logistic regression."""
        from sklearn.linear_model import LogisticRegression

        kind = "balanced" if self.balanced else None
        model = LogisticRegression(C=10, max_iter=1000, random_state=seed, class_weight=kind)
        said: Labels = model.fit(x, y).predict(asked)
        return said

    def lesson(self, y: Labels) -> ClassLesson:
        """Cross-entropy, weighed where balanced."""
        return ClassLesson.of(y, len(self.names), balanced=self.balanced)


CLASSES = OneClass()


def _linear(model: LogisticRegression) -> tuple[Floats, Floats]:
    """Weight (classes, features) and bias (classes,) of a fitted model."""
    if len(model.coef_) > 1:
        return model.coef_.copy(), model.intercept_.copy()
    # For two classes scikit-learn has one row, the difference of the two.
    halves = np.array([[-0.5], [0.5]])
    return halves @ model.coef_, (halves @ model.intercept_[:, None]).ravel()
