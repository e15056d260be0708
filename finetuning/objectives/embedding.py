"""Vectors that are near where the class is the same: metric learning, judged by new classes.

The truth of an example is two numbers: its class, and what within it it belongs to (a group, the
same bytes, near copies), for to find that is no merit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from finetuning import retrieval
from finetuning.calibration import Labels
from finetuning.data.dataset import Example, Kind
from finetuning.folds import FOLDS, Folds
from finetuning.objectives.lesson import Lesson
from finetuning.objectives.lessons import EmbeddingLesson
from finetuning.objectives.objective import UNIT, Link, Plain, Scorer
from finetuning.ridge import Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_WORDS = 256  # directions that texts are compared in, without a network
FALSE = 0.01  # of pairs of two classes, that a threshold takes for one
_PAIRS = 5  # so many at least, for a threshold to be known


class PairTrust(msgspec.Struct, frozen=True):
    """From which cosine on two examples are taken for one class."""

    threshold: float
    false: float  # of pairs of two classes, the share that reaches it
    found: float  # of pairs of one class


@dataclass(frozen=True)
class Embedding(Plain):
    """A vector of each example, near those of its class."""

    names: tuple[str, ...]
    kind: ClassVar[Kind] = "embedding"
    link: ClassVar[Link] = UNIT
    measure: ClassVar[str] = "recall@1"
    strengths: ClassVar[tuple[float, ...]] = ()
    constant: ClassVar[str] = "chance"

    @property
    def described(self) -> str:
        """What is learned."""
        return f"an embedding by {len(self.names)} classes"

    def truth(self, examples: Sequence[Example]) -> Labels:
        """The class of each, and what it belongs to (N, 2)."""
        member = np.unique([example.unit for example in examples], return_inverse=True)[1]
        classes = [example.target for example in examples]
        return np.stack([np.array(classes, np.int64), member], axis=1)

    def strata(self, y: Labels) -> Labels:
        """The class of each."""
        return y[:, 0]

    def clusters(self, y: Labels) -> Labels:
        """The class of each: another draw of data would have other classes."""
        return y[:, 0]

    def folds(self, y: Labels, groups: Sequence[str], *, seed: int, count: int = FOLDS) -> Folds:
        """None: whole classes are left out, by `finetuning.projections`."""
        raise NotImplementedError

    def columns(self, y: Labels) -> Floats:
        """One for each class, 1 where it holds."""
        return np.eye(int(y[:, 0].max()) + 1)[y[:, 0]]

    def losses(self, scores: Floats, y: Labels) -> Floats:
        """1 less the average precision at R, of the examples that are not alone in their class."""
        average = retrieval.search(scores, *y.T).average
        found: Floats = 1 - average[~np.isnan(average)]
        return found

    def calibrated(self, scores: Floats, y: Labels) -> tuple[Floats, Floats, PairTrust | None]:
        """Cosines as they are, and the threshold that few pairs of two classes reach."""
        alike, other = retrieval.pairs(scores, *y.T)
        trust = None
        if len(other) >= _PAIRS / FALSE:
            trust = judged_pairs(float(np.quantile(other, 1 - FALSE)), alike, other)
        return np.ones(1), np.zeros(1), trust

    def said(self, scores: Floats) -> Floats:
        """Vectors of length 1."""
        return self.link(scores)

    def scorer(self, said: NDArray[Any], y: Labels) -> Scorer:
        """How often the nearest is of the same class."""
        right = retrieval.first(said, *y.T)
        known = np.isfinite(right)

        def score(weights: Floats | None) -> float:
            weights = known * (1.0 if weights is None else weights)
            total = weights.sum()
            return float(np.where(known, right, 0) @ weights / total) if total else 0.0

        return score

    def always(self, y: Labels, count: int) -> Floats:  # noqa: ARG002 - others look at it
        """The same vector."""
        return np.zeros((count, 1))

    def of_words(self, x: csr_matrix, y: Labels, asked: csr_matrix, *, seed: int) -> Floats:
        """The main directions of the words (latent semantic analysis)."""
        from sklearn.decomposition import TruncatedSVD

        width = min(_WORDS, min(x.shape) - 1)
        if width < 1:
            return self.always(y, asked.shape[0])
        found: Floats = TruncatedSVD(width, random_state=seed).fit(x).transform(asked)
        return found

    def lesson(self, y: Labels) -> Lesson:
        """To be near its class, and far from others."""
        return EmbeddingLesson.of(y)


def judged_pairs(threshold: float, alike: Floats, other: Floats) -> PairTrust:
    """How many pairs reach a threshold, by the cosines of those of one class and of others."""
    false, found = (
        float((part >= threshold).mean()) if len(part) else 0.0 for part in (other, alike)
    )
    return PairTrust(threshold, false, found)
