"""What an objective is: everything in which one class, several labels, and numbers differ.

The way from features to a head is the same for all (`finetuning.cut`, `finetuning.heads`): ridge
regression on `columns`, other methods where there are some, and of all that was tried the least
`loss` of examples that were left out. What a run says of each kind is in `finetuning.results`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from converters.interface import EMBEDDING, PREDICTIONS, PROBABILITIES
from finetuning.calibration import Labels
from finetuning.data.dataset import Example, Kind
from finetuning.folds import FOLDS, Folds
from finetuning.objectives.lesson import Lesson
from finetuning.ridge import Floats, unit

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Truth = NDArray[Any]  # (N,) or (N, K), by kind
# How good answers are, with a weight for each example or without: more is better.
Scorer = Callable[[Floats | None], float]
# Weight (K, D) and bias (K,) for rows, their truth, and a strength; from one call on to the next.
Regression = Callable[[Floats, Truth, float], tuple[Floats, Floats]]

_DRAWS = 1000  # of a bootstrap
_TOGETHER = 8  # examples of a cluster are drawn together


@dataclass(frozen=True)
class Link:
    """What makes answers of the scores of a head, and what they are called in the graph."""

    output: str
    operator: str | None  # of ONNX; None: the scores are the answers

    def __call__(self, scores: Floats) -> Floats:
        """Answers (N, K) for scores (N, K)."""
        if self.operator is None:
            return scores
        if self.operator == "LpNormalization":
            return unit(scores)
        if self.operator == "Sigmoid":
            found: Floats = np.exp(-np.logaddexp(0, -scores))
            return found
        raised: Floats = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: Floats = raised / raised.sum(axis=1, keepdims=True)
        return shares


SOFTMAX = Link(PROBABILITIES, "Softmax")
SIGMOID = Link(PROBABILITIES, "Sigmoid")
IDENTITY = Link(PREDICTIONS, None)
UNIT = Link(EMBEDDING, "LpNormalization")  # of length 1


class Trust(Protocol):
    """How far answers can be trusted, by what was said of training examples left out in turn."""


class Objective(Protocol):
    """What is learned of an example, and what is good at it."""

    @property
    def kind(self) -> Kind:
        """What the targets are."""

    @property
    def names(self) -> tuple[str, ...]:
        """What each score of a head is called."""

    @property
    def described(self) -> str:
        """What is learned, in words."""

    @property
    def link(self) -> Link:
        """What makes answers of scores."""

    @property
    def measure(self) -> str:
        """What a model is judged by in the end, of which more is better."""

    @property
    def strengths(self) -> tuple[float, ...]:
        """Of ridge regression, to choose among."""

    @property
    def constant(self) -> str:
        """The baseline that looks at no example: a key of `finetuning.evaluation.BASELINES`."""

    def truth(self, examples: Sequence[Example]) -> Truth:
        """What holds of the examples."""

    def weights(self, y: Truth) -> Floats | None:
        """How much each example counts (N,), 1 on average; None: all the same."""

    def renumbered(self, y: Truth) -> Truth:
        """The truth of some of the examples, without classes that do not occur in it."""

    def original(self, said: NDArray[Any], y: Truth) -> NDArray[Any]:
        """What was said of a renumbered truth, in the numbers of ``y`` again."""

    def strata(self, y: Truth) -> NDArray[np.int64]:
        """One number for each example (N,), by which they are spread over parts."""

    def clusters(self, y: Truth) -> Labels | None:
        """What other data would have others of, a number for each example (N,); None: examples."""

    def folds(self, y: Truth, groups: Sequence[str], *, seed: int, count: int = FOLDS) -> Folds:
        """Which are left out together; none where too few can be."""

    def columns(self, y: Truth) -> Floats:
        """What ridge regression is fitted to (N, K)."""

    def regression(self, tolerance: float) -> Regression | None:
        """Logistic regression of this kind, where it has one."""

    def losses(self, scores: Floats, y: Truth) -> Floats:
        """How wrong the scores of each left-out example are (N,), at their best calibration.

        Their mean is the loss: where examples weigh differently, that is in them.
        """

    def calibrated(self, scores: Floats, y: Truth) -> tuple[Floats, Floats, Trust | None]:
        """Factors (K,) and shifts (K,) that make the most of scores; what is left to trust."""

    def said(self, scores: Floats) -> NDArray[Any]:
        """What a scorer compares with the truth: of classes the likeliest, else the scores."""

    def scorer(self, said: NDArray[Any], y: Truth) -> Scorer:
        """How good what is said is, as `measure` names it."""

    def always(self, y: Truth, count: int) -> NDArray[Any]:
        """What is best said of ``count`` examples that nobody looks at."""

    def of_words(self, x: csr_matrix, y: Truth, asked: csr_matrix, *, seed: int) -> NDArray[Any]:
        """What a linear model of sparse features, a row for each text, says of others."""

    def lesson(self, y: Truth) -> Lesson:
        """How a network is trained on examples of this truth, and judged."""


class Plain:
    """What most kinds of targets have: examples that count the same, and are drawn one by one."""

    def weights(self, y: Truth) -> Floats | None:  # noqa: ARG002 - others have some
        """All examples count the same."""
        return None

    def renumbered(self, y: Truth) -> Truth:
        """As it is: what does not occur is still there to be said."""
        return y

    def original(self, said: NDArray[Any], y: Truth) -> NDArray[Any]:  # noqa: ARG002 - for classes
        """As it is."""
        return said

    def clusters(self, y: Truth) -> Labels | None:  # noqa: ARG002 - classes to come have some
        """Examples are drawn one by one."""
        return None

    def regression(self, tolerance: float) -> Regression | None:  # noqa: ARG002 - others have one
        """There is none."""
        return None


def drawn(objective: Objective, y: Truth, limit: int, *, seed: int) -> Labels:
    """The places of about so many examples at most; of clusters several each, as far as it goes."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(y))
    clusters = objective.clusters(y)
    if clusters is None or len(y) <= limit:
        return np.sort(order[:limit])
    names, of = np.unique(clusters, return_inverse=True)
    places = order[np.argsort(of[order], kind="stable")]
    starts = np.searchsorted(of[places], np.arange(len(names)))
    rank = np.arange(len(places)) - starts[of[places]]
    places = places[rank < max(_TOGETHER, limit // len(names))]
    chosen = random.permutation(len(names))
    most = np.cumsum(np.bincount(of[places], minlength=len(names))[chosen]) <= limit
    return np.sort(places[np.isin(of[places], chosen[most])])


def interval(
    scorers: Sequence[Scorer], count: int, *, seed: int, clusters: Labels | None = None
) -> tuple[float, float]:
    """The 95 % interval of a score, or of the first over the second, by a bootstrap.

    ``count`` examples are drawn, or their ``clusters``, each whole.
    """
    of = np.arange(count) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    count = int(of.max(initial=-1)) + 1
    random = np.random.default_rng(seed)
    found = []
    for _ in range(_DRAWS):
        drawn = random.integers(0, count, count)
        weights = np.bincount(drawn, minlength=count).astype(np.float64)[of]
        own, *other = (scorer(weights) for scorer in scorers)
        found.append(own - sum(other))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)
