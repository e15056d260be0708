"""Which training examples judge a trained network while the others learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetuning.data.drawing import drawn
from finetuning.heads import FittedHead
from finetuning.ridge import Floats
from finetuning.tuning.planning import Task

_HELD = 0.25  # of the training examples judge at once


def parts(task: Task, seed: int) -> Iterator[NDArray[np.int64]]:
    """The places of examples that judge while the others learn: one part of all after another.

    There is none where all examples belong together, or each is the only one of its kind; and none
    of less than half the first.
    """
    least = task.ranks.world
    groups = np.unique(np.asarray(task.groups), return_inverse=True)[1]
    order = np.random.default_rng([seed, 7]).permutation(groups.max() + 1)
    units = [np.flatnonzero(groups == group).tolist() for group in order]
    while units:
        share = _HELD * len(task.truth) / sum(map(len, units))
        held = set(drawn(units, task.strata, min(1.0, share)))
        if len(held) < least:
            return
        least = max(len(held) // 2, least)
        yield np.sort(np.array(list(held), np.int64))
        units = [unit for unit in units if held.isdisjoint(unit)]


@dataclass(frozen=True)
class Judge:
    """Which training examples learn and which judge, and what heads say of the latter."""

    learn: NDArray[np.int64]
    held: NDArray[np.int64]
    head: FittedHead  # that training starts from
    rival: Floats  # scores of the head that was chosen

    @classmethod
    def of(cls, task: Task, held: NDArray[np.int64]) -> Judge:
        """Those who learn are all others."""
        learn = np.setdiff1d(np.arange(len(task.truth)), held)
        head = task.fit(task.features[learn], task.truth[learn])
        if task.chosen is None:
            return cls(learn, held, head, head.logits(task.features[held]))
        return cls(learn, held, head, task.chosen(learn, held))
