"""What training through a network has to know of an objective: a loss, and a judge's measure.

A loss alone cannot judge: a network that is merely less sure of itself has a lower one. So each
lesson has a score of each example as well, in what people ask for. A network has to be no worse by
either, and better by more than a standard error by one of them: of few examples losses tell more.
Losses are of answers at their best calibration, as those of heads are, and so is which labels hold:
a network that is right more often, and too sure of itself, is not worse for what calibration mends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from finetuning.ridge import Floats

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Judged:
    """How well answers do on each of some examples (N,)."""

    scores: Floats
    losses: Floats  # less is better
    weights: Floats  # how much each counts
    higher_is_better: bool = True  # of the scores

    @property
    def score(self) -> float:
        """The mean of the scores."""
        return float(np.average(self.scores, weights=self.weights))

    @property
    def loss(self) -> float:
        """The mean of the losses."""
        return float(np.average(self.losses, weights=self.weights))

    def over(self, other: Judged) -> tuple[float, float]:
        """How much better the score is than another of the same examples; its standard error.

        The examples are paired: what is hard for both makes no difference.
        """
        return self._mean((self.scores - other.scores) * (1 if self.higher_is_better else -1))

    def beats(self, other: Judged, errors: float = 1.0) -> bool:
        """Whether neither score nor loss is worse, and one is better by standard errors."""
        pairs = self.over(other), self._mean(other.losses - self.losses)
        is_worse = any(gain < 0 for gain, _ in pairs)
        return not is_worse and any(gain > errors * error for gain, error in pairs)

    def _mean(self, of: Floats) -> tuple[float, float]:
        """With its standard error."""
        mean = float(np.average(of, weights=self.weights))
        error = np.sqrt(((self.weights * (of - mean)) ** 2).sum()) / self.weights.sum()
        return mean, float(error)


class Lesson(Protocol):
    """What training through a network is told of an objective and of what it learns from."""

    @property
    def measure(self) -> str:
        """What the scores are called."""

    @property
    def is_share(self) -> bool:
        """Whether they are shares of what is right; else less is better."""

    @property
    def loss_measure(self) -> str:
        """What the losses are called."""

    @property
    def lacking(self) -> str | None:
        """From what on it is trained unasked, and what there is, if that is less."""

    @property
    def together(self) -> bool:
        """Whether examples are judged by how they compare with one another."""

    @property
    def units(self) -> tuple[Floats, Floats]:
        """Factors and shifts (K,) by which what is learned becomes what is asked for."""

    def targets(self, y: NDArray[Any]) -> NDArray[Any]:
        """The truth as it is learned: int64 (N,) of classes, else float32 (N, K)."""

    def losses(self, said: torch.Tensor, wanted: torch.Tensor, *, smoothing: float) -> torch.Tensor:
        """The loss of each example (N,), of scores (N, K) and targets, to be made small."""

    def judged(self, said: Floats, y: NDArray[Any]) -> Judged:
        """How well what was learned is said (N, K) of examples that were held back."""

    def compared(self, score: float, whose: str, other: float) -> str:
        """What follows "it is": how good it is, and how good another is, in words."""

    def amount(self, error: float) -> str:
        """A difference between scores, in words."""
