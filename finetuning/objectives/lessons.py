"""The lessons of the objectives: classes, labels, numbers, and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from finetuning import retrieval
from finetuning.calibration import Labels, log_losses, temperature
from finetuning.objectives import platt
from finetuning.objectives.lesson import Judged
from finetuning.ridge import Floats

if TYPE_CHECKING:
    import torch

FEWEST = 30  # examples of each class or label, for training to be tried unasked
FEWEST_NUMBERS = 200  # examples; a quarter of them judges
FEWEST_CLASSES = 20  # of several examples, for an embedding; a quarter of them judges
_VARIES = 1e-9  # of the largest number: less is no spread


@dataclass(frozen=True)
class ClassLesson:
    """Right or wrong, and log loss; ``balanced``: examples weigh as their class is rare."""

    counts: tuple[int, ...] = ()  # of the examples of each class
    balanced: bool = False
    is_share: ClassVar[bool] = True
    loss_measure: ClassVar[str] = "log loss"
    together: ClassVar[bool] = False

    @classmethod
    def of(cls, y: Labels, classes: int, *, balanced: bool) -> ClassLesson:
        """For examples of these classes (N,)."""
        return cls(tuple(np.bincount(y, minlength=classes).tolist()), balanced)

    @property
    def measure(self) -> str:
        """As the run is judged in the end."""
        return "balanced accuracy" if self.balanced else "accuracy"

    @property
    def lacking(self) -> str | None:
        """Examples of the smallest class."""
        if min(self.counts) >= FEWEST:
            return None
        return f"from {FEWEST} examples of each class on, and the smallest has {min(self.counts)}"

    @property
    def units(self) -> tuple[Floats, Floats]:
        """Scores are what they are."""
        return np.ones(1), np.zeros(1)

    def targets(self, y: Labels) -> Labels:
        """The classes."""
        return y

    def losses(self, said: torch.Tensor, wanted: torch.Tensor, *, smoothing: float) -> torch.Tensor:
        """Cross-entropy."""
        import torch
        from torch.nn import functional

        found = functional.cross_entropy(said, wanted, label_smoothing=smoothing, reduction="none")
        if not self.balanced:
            return found
        return found * torch.tensor(_balance(self.counts)).to(found)[wanted]

    def judged(self, said: Floats, y: Labels) -> Judged:
        """Balanced, each class that occurs counts the same."""
        weights = _balance(np.bincount(y))[y] if self.balanced else np.ones(len(y))
        losses = log_losses(said / temperature(said, y, weights), y)
        return Judged((said.argmax(axis=1) == y).astype(np.float64), losses, weights)

    def compared(self, score: float, whose: str, other: float) -> str:
        """How often right."""
        where = "of held-back training examples"
        where = f"{where}, each class counting the same" if self.balanced else where
        return f"right on {score:.1%} {where}, {whose} on {other:.1%}"

    def amount(self, error: float) -> str:
        """In percent."""
        return f"{error:.1%}"


def _balance(counts: Sequence[int] | Labels) -> Floats:
    """The weight of an example of each class, 1 on average."""
    found = np.asarray(counts)
    weights: Floats = found.sum() / (np.count_nonzero(found) * np.maximum(found, 1))
    return weights


@dataclass(frozen=True)
class LabelLesson:
    """The share of an example's labels that are told right, and their log loss."""

    names: tuple[str, ...]
    counts: tuple[int, ...]  # of the examples that each label holds of
    measure: ClassVar[str] = "labels right"
    is_share: ClassVar[bool] = True
    loss_measure: ClassVar[str] = "log loss"
    together: ClassVar[bool] = False

    @classmethod
    def of(cls, y: Labels, names: tuple[str, ...]) -> LabelLesson:
        """For examples of these labels (N, K)."""
        return cls(names, tuple(y.sum(axis=0).tolist()))

    @property
    def lacking(self) -> str | None:
        """Examples of the rarest label."""
        rarest = int(np.argmin(self.counts))
        if self.counts[rarest] >= FEWEST:
            return None
        return (
            f"from {FEWEST} examples of each label on, and "
            f"{self.names[rarest]!r} has {self.counts[rarest]}"
        )

    @property
    def units(self) -> tuple[Floats, Floats]:
        """Scores are what they are."""
        return np.ones(len(self.names)), np.zeros(len(self.names))

    def targets(self, y: Labels) -> Floats:
        """1 for each label that holds."""
        return y.astype(np.float32)

    def losses(
        self,
        said: torch.Tensor,
        wanted: torch.Tensor,
        *,
        smoothing: float,  # noqa: ARG002 - towards 1/2 it would make rare labels likely
    ) -> torch.Tensor:
        """Binary cross-entropy, as a mean over the labels."""
        from torch.nn import functional

        found = functional.binary_cross_entropy_with_logits(said, wanted, reduction="none")
        return found.mean(1)

    def judged(self, said: Floats, y: Labels) -> Judged:
        """A label is said to hold from a probability of 1/2 on."""
        factors, shifts = platt.scaling(said, y)
        said = said * factors + shifts
        right = ((said > 0) == (y == 1)).mean(axis=1)
        return Judged(right, platt.log_losses(said, y).mean(axis=1), np.ones(len(y)))

    def compared(self, score: float, whose: str, other: float) -> str:
        """How often right."""
        return (
            f"right on {score:.1%} of the labels of held-back training examples, "
            f"{whose} on {other:.1%}"
        )

    def amount(self, error: float) -> str:
        """In percent."""
        return f"{error:.2%}"


@dataclass(frozen=True)
class NumberLesson:
    """How far off, and the square of it; each number is learned in units of its own spread.

    Rates and the clipping of gradients are such that outputs are to be of the order of 1.
    """

    names: tuple[str, ...]
    count: int  # of examples
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    is_share: ClassVar[bool] = False
    loss_measure: ClassVar[str] = "squared error"
    together: ClassVar[bool] = False

    @classmethod
    def of(cls, y: Floats, names: tuple[str, ...]) -> NumberLesson:
        """For examples of these numbers (N, K)."""
        spreads = y.std(axis=0)
        spreads = np.where(spreads > _VARIES * np.abs(y).max(axis=0), spreads, 1.0)
        return cls(names, len(y), tuple(y.mean(axis=0).tolist()), tuple(spreads.tolist()))

    @property
    def measure(self) -> str:
        """In the unit of one number, and of several in their spreads."""
        one = f"of {self.names[0]}" if len(self.names) == 1 else "in standard deviations"
        return f"mean absolute error {one}"

    @property
    def lacking(self) -> str | None:
        """Examples."""
        if self.count >= FEWEST_NUMBERS:
            return None
        return f"from {FEWEST_NUMBERS} training examples on, and there are {self.count}"

    @property
    def units(self) -> tuple[Floats, Floats]:
        """The spreads and the means."""
        return np.array(self.spreads), np.array(self.means)

    def targets(self, y: Floats) -> Floats:
        """Standardized."""
        factors, shifts = self.units
        return ((y - shifts) / factors).astype(np.float32)

    def losses(
        self,
        said: torch.Tensor,
        wanted: torch.Tensor,
        *,
        smoothing: float,  # noqa: ARG002 - of classes
    ) -> torch.Tensor:
        """The squared error, as a mean over the numbers."""
        return (said - wanted).square().mean(1)

    def judged(self, said: Floats, y: Floats) -> Judged:
        """How far off each is, as a mean over the numbers."""
        apart = said - self.targets(y)
        unit = self.spreads[0] if len(self.names) == 1 else 1.0
        far = unit * np.abs(apart).mean(axis=1)
        losses, weights = (apart**2).mean(axis=1), np.ones(len(y))
        return Judged(far, losses, weights, higher_is_better=False)

    def compared(self, score: float, whose: str, other: float) -> str:
        """How far off."""
        return (
            f"off by {self.amount(score)} on average of held-back training examples, "
            f"{whose} by {self.amount(other)}"
        )

    def amount(self, error: float) -> str:
        """In the unit of one number, and of several in their spreads."""
        if len(self.names) == 1:
            return f"{error:.3g}"
        return f"{error:.3g} standard deviations"


@dataclass(frozen=True)
class EmbeddingLesson:
    """Of new classes, how often the nearest is of the same; each of them counts its examples."""

    several: int  # classes that have several examples
    measure: ClassVar[str] = "recall@1 of new classes"
    is_share: ClassVar[bool] = True
    loss_measure: ClassVar[str] = "1 - mAP@R"
    together: ClassVar[bool] = True

    @classmethod
    def of(cls, y: Labels) -> EmbeddingLesson:
        """For examples of classes, and of what belongs together within them (N, 2)."""
        return cls(int((np.bincount(np.unique(y, axis=0)[:, 0]) > 1).sum()))

    @property
    def lacking(self) -> str | None:
        """Classes."""
        if self.several >= FEWEST_CLASSES:
            return None
        return f"from {FEWEST_CLASSES} classes of several examples on, and there are {self.several}"

    @property
    def units(self) -> tuple[Floats, Floats]:
        """Vectors are what they are."""
        return np.ones(1), np.zeros(1)

    def targets(self, y: Labels) -> Labels:
        """The classes, numbered among those that occur."""
        found: Labels = np.unique(y[:, 0], return_inverse=True)[1].astype(np.int64)
        return found

    def losses(
        self,
        said: torch.Tensor,
        wanted: torch.Tensor,
        *,
        smoothing: float,  # noqa: ARG002 - cosines are bounded
    ) -> torch.Tensor:
        """Cross-entropy of how like the classes to learn from it is."""
        from torch.nn import functional

        return functional.cross_entropy(said, wanted, reduction="none")

    def judged(self, said: Floats, y: Labels) -> Judged:
        """Of each class that has something to find, the mean over its examples."""
        found = retrieval.search(said, *y.T)
        asked = np.isfinite(found.first)
        of = np.unique(y[asked, 0], return_inverse=True)[1]
        counts = np.bincount(of)
        first, average = (np.bincount(of, a[asked]) / counts for a in (found.first, found.average))
        return Judged(first, 1 - average, counts.astype(np.float64))

    def compared(self, score: float, whose: str, other: float) -> str:
        """How often the nearest is of the class."""
        return (
            f"right on the nearest of {score:.1%} of the examples of held-back classes, "
            f"{whose} on {other:.1%}"
        )

    def amount(self, error: float) -> str:
        """In percent."""
        return f"{error:.1%}"
