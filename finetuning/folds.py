"""Which training examples are held back together to judge a head by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    y: NDArray[Any]  # of each of the rows; classes are numbered among those that occur

    @classmethod
    def of(cls, y: Labels, groups: Sequence[str], *, seed: int, count: int = FOLDS) -> Folds:
        """Folds of equal parts of each class, a group whole in one.

        A class that has one group alone cannot be on both sides, and is left out.
        """
        homes = _homes(y, groups, seed, count)
        of_class: dict[int, set[int]] = defaultdict(set)
        for place, home in homes.items():
            of_class[int(y[place])].add(home)
        usable = {label for label, its in of_class.items() if len(its) > 1}
        rows = [place for place in sorted(homes) if int(y[place]) in usable]
        rows = rows if len(usable) > 1 else []
        numbered = np.unique(y[rows], return_inverse=True)[1].astype(np.int64)
        return cls(np.array(rows, np.int64), _folds(rows, homes), numbered)

    @classmethod
    def spread(
        cls,
        y: NDArray[Any],
        strata: Labels,
        groups: Sequence[str],
        *,
        seed: int,
        count: int = FOLDS,
    ) -> Folds:
        """Folds of equal parts of each stratum, for a truth (N, ...) of any kind."""
        homes = _homes(strata, groups, seed, count)
        rows = sorted(homes) if len({*homes.values()}) > 1 else []
        return cls(np.array(rows, np.int64), _folds(rows, homes), y[rows])

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Of each fold the places, within ``rows``, to fit on and to judge on."""
        for number in np.unique(self.fold):
            yield np.flatnonzero(self.fold != number), np.flatnonzero(self.fold == number)


def _homes(strata: Labels, groups: Sequence[str], seed: int, count: int) -> dict[int, int]:
    """The fold of each of so many examples as are enough, by their places."""
    order = np.random.default_rng(seed).permutation(len(strata))[:ROWS]
    home: dict[str, int] = {}
    taken: dict[int, int] = defaultdict(int)
    for place in order:
        stratum, group = int(strata[place]), str(groups[place])
        if group not in home:
            home[group] = taken[stratum] % count
            taken[stratum] += 1
    return {int(place): home[str(groups[place])] for place in order}


def _folds(rows: Sequence[int], homes: Mapping[int, int]) -> NDArray[np.int64]:
    return np.array([homes[place] for place in rows], np.int64)
