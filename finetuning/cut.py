"""Where to cut a network: the stages whose features serve these data best.

Each stage, and neighboring ones side by side, is judged by ridge regression on features that are
standardized as a head's are, by what it says of examples that were left out: two draws of three
folds. Each is as well calibrated as it can be; accuracy alone is too coarse to choose by where
examples are few. Of those that are no worse than the best by more than a standard error the widest
is taken, since the best of many that differ by chance is lucky; but not for more than twice the
computation. What lies above leaves the model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from finetuning import heads, projections
from finetuning.features import Rows
from finetuning.folds import Folds
from finetuning.objectives.classes import CLASSES
from finetuning.objectives.objective import Objective, Truth, drawn
from finetuning.ridge import Floats
from finetuning.stages import Stage

_TOGETHER = 4  # stages side by side, at most
_TIED = 0.01  # of the least loss: the cheapest of these says what may be computed
_DEARER = 2  # times as much, at most, for more stages
_ROWS = 500  # so many are enough to choose by
_DRAWS, _FOLDS = 2, 3


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One choice of stages, and what training examples that were left out say of it."""

    stages: tuple[str, ...]
    share: float  # of the backbone's multiply-accumulates that it takes
    loss: float  # as the objective has it
    score: float  # as the objective measures it


@dataclass(frozen=True)
class Cut:
    """The stages that were chosen, and everything that was tried."""

    stages: tuple[Stage, ...]
    loss: float
    tried: tuple[Tried, ...]  # single stages from the input on, then those side by side


@dataclass(frozen=True)
class _Judged:
    """Of one choice, at its best strength."""

    losses: Floats  # of each example in each draw
    score: float
    share: float

    @property
    def loss(self) -> float:
        return float(self.losses.mean())

    def is_near(self, best: _Judged) -> bool:
        """Whether it is within a standard error, example by example."""
        apart = self.losses - best.losses
        return bool(apart.mean() <= apart.std() / np.sqrt(len(apart) / _DRAWS))


def choose(
    stages: Sequence[Stage],
    vectors: Mapping[str, Rows],
    y: Truth,
    groups: Sequence[str],
    *,
    seed: int,
    objective: Objective = CLASSES,
) -> Cut:
    """The best of ``stages``, whose ``vectors`` go by their outputs, for a truth (N, ...).

    Examples of one of the ``groups`` are left out together. Of too few to judge by it is the last.
    """
    is_embedding = objective.kind == "embedding"
    rows = drawn(objective, y, projections.ROWS if is_embedding else _ROWS, seed=seed)
    y = objective.renumbered(y[rows])
    draws: list[Folds] = []
    if is_embedding:
        can_judge = any(True for _ in projections.folds(y))
    else:
        own = [str(groups[place]) for place in rows]
        draws = [objective.folds(y, own, seed=seed + n, count=_FOLDS) for n in range(_DRAWS)]
        can_judge = all(len(folds.rows) for folds in draws)
    if not can_judge:
        return Cut((stages[-1],), 1.0, ())
    found: dict[tuple[Stage, ...], _Judged] = {}

    def judge(choices: Sequence[tuple[Stage, ...]]) -> None:
        for these in choices:
            if these not in found:
                x = np.hstack([vectors[stage.output][rows] for stage in these])
                of = _by_class(x, y, objective) if is_embedding else _by_folds(x, draws, objective)
                found[these] = _Judged(*of, these[-1].share)

    with threadpool_limits(1):
        judge([(stage,) for stage in stages])
        judge(_windows(stages, min(found, key=lambda these: found[these].loss)[0]))
    chosen = _widest(found)
    tried = tuple(
        Tried(
            stages=tuple(stage.name for stage in these),
            share=round(item.share, 4),
            loss=item.loss,
            score=item.score,
        )
        for these, item in found.items()
    )
    return Cut(chosen, found[chosen].loss, tried)


def _widest(found: Mapping[tuple[Stage, ...], _Judged]) -> tuple[Stage, ...]:
    """The most stages that are as good as the best, and do not cost much more."""
    best = min(found.values(), key=lambda item: item.loss)
    tied = [item for item in found.values() if item.loss <= best.loss * (1 + _TIED)]
    cheapest = min(tied, key=lambda item: (item.share, item.loss))
    near = [
        these
        for these, item in found.items()
        if item is cheapest or (item.share <= _DEARER * cheapest.share and item.is_near(best))
    ]
    return min(near, key=lambda these: (-len(these), found[these].loss))


def _windows(stages: Sequence[Stage], one: Stage) -> list[tuple[Stage, ...]]:
    """Neighboring stages with this one among them."""
    place = list(stages).index(one)
    return [
        tuple(stages[start : start + width])
        for width in range(2, _TOGETHER + 1)
        for start in range(max(0, place - width + 1), min(place, len(stages) - width) + 1)
    ]


def _by_folds(x: Rows, draws: Sequence[Folds], objective: Objective) -> tuple[Floats, float]:
    """The losses and the score of ridge regression at its best strength."""
    said = [heads.ridges(x[folds.rows], folds, objective) for folds in draws]
    losses = {
        strength: np.concatenate(
            [objective.losses(s[strength], f.y) for s, f in zip(said, draws, strict=True)]
        )
        for strength in objective.strengths
    }
    best = min(losses, key=lambda strength: losses[strength].mean())
    scores = [
        objective.scorer(objective.said(s[best]), f.y)(None)
        for s, f in zip(said, draws, strict=True)
    ]
    return losses[best], float(np.mean(scores))


def _by_class(x: Rows, y: Truth, objective: Objective) -> tuple[Floats, float]:
    """The same of whitening within classes, by classes that were left out whole."""
    losses: dict[float, list[Floats]] = defaultdict(list)
    scores: dict[float, list[float]] = defaultdict(list)
    for rows, vectors in projections.tried(x, y, (projections.WITHIN,), draws=_DRAWS):
        for (_, shrinkage), given in vectors.items():
            losses[shrinkage].append(objective.losses(given, y[rows]))
            scores[shrinkage].append(objective.scorer(objective.said(given), y[rows])(None))
    found = {shrinkage: np.concatenate(each) for shrinkage, each in losses.items()}
    best = min(found, key=lambda shrinkage: found[shrinkage].mean())
    return found[best], float(np.mean(scores[best]))
