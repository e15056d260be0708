"""Which training examples are held back together to judge a head by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetuning.calibration import Labels

FOLDS = 5
ROWS = 2000  # so many are enough to choose by


@dataclass(frozen=True)
class Folds:
    """Examples to judge by, and the fold of each; empty where too few classes have several."""

    rows: NDArray[np.int64]  # places of the examples
    fold: NDArray[np.int64]  # of each of the rows
    y: Labels  # of each of the rows, numbered among the classes that occur
    classes: NDArray[np.int64]  # what the numbers in ``y`` stand for

    @classmethod
    def of(cls, y: Labels, groups: Sequence[str], *, seed: int) -> Folds:
        """Folds of equal parts of each class, a group whole in one.

        A class that has one group alone cannot be on both sides, and is left out.
        """
        order = np.random.default_rng(seed).permutation(len(y))[:ROWS]
        names = np.asarray(groups)
        of_class: dict[int, dict[str, int]] = defaultdict(dict)
        home: dict[str, int] = {}
        taken: dict[int, int] = defaultdict(int)
        for place in order:
            label, group = int(y[place]), str(names[place])
            if group not in home:
                home[group] = taken[label] % FOLDS
                taken[label] += 1
            of_class[label][group] = home[group]
        usable = {label for label, homes in of_class.items() if len({*homes.values()}) > 1}
        rows = np.sort([place for place in order if int(y[place]) in usable]).astype(np.int64)
        if len(usable) < 2:
            rows = rows[:0]
        classes, numbered = np.unique(y[rows], return_inverse=True)
        fold = np.array([home[str(names[place])] for place in rows], np.int64)
        return cls(rows, fold, numbered.astype(np.int64), classes)

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Of each fold the places, within ``rows``, to fit on and to judge on."""
        for number in np.unique(self.fold):
            yield np.flatnonzero(self.fold != number), np.flatnonzero(self.fold == number)
