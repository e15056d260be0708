"""Where to cut a network: the stages whose features serve these data best.

Each stage, and neighboring ones side by side, is judged by ridge regression that leaves every
example out in turn, in closed form (`finetuning.ridge`): the strength and the stages with the
least loss win, each as well calibrated as it can be. Accuracy alone is too coarse to choose by
where examples are few. What lies above the last of the chosen stages leaves the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from finetuning import heads, projections
from finetuning.calibration import Labels
from finetuning.features import Rows
from finetuning.objectives.classes import CLASSES
from finetuning.objectives.objective import Objective, Truth, drawn
from finetuning.ridge import Floats, Ridge, Scale
from finetuning.stages import Stage

_TOGETHER = 4  # stages side by side, at most
_TIED = 0.01  # of the least loss: the cheaper one is taken
_ROWS = 1500  # so many are enough to choose by


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One choice of stages, and what leaving out each training example in turn says of it."""

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

    Examples of one of the ``groups`` are left out together.
    """
    rows = drawn(objective, y, _ROWS, seed=seed)
    y = objective.renumbered(y[rows])
    member = np.unique(np.asarray(groups)[rows], return_inverse=True)[1]
    found: dict[tuple[Stage, ...], Tried] = {}
    judge = _judged
    if objective.kind == "embedding":
        judge = _by_class
        if not any(True for _ in projections.folds(y)):  # nothing to choose by
            return Cut((stages[-1],), 1.0, ())

    def best(tried: Sequence[tuple[Stage, ...]]) -> tuple[Stage, ...]:
        for these in tried:
            if these not in found:
                scaled = [Scale.of(vectors[stage.output][rows]) for stage in these]
                parts = [
                    scale(vectors[stage.output][rows])
                    for scale, stage in zip(scaled, these, strict=True)
                ]
                found[these] = judge(these, np.hstack(parts), y, member, objective)
        least = min(item.loss for item in found.values())
        near = [these for these, item in found.items() if item.loss <= least * (1 + _TIED)]
        return min(near, key=lambda these: (these[-1].share, len(these), found[these].loss))

    single = best([(stage,) for stage in stages])
    chosen = best(_windows(stages, single[0])) if len(stages) > 1 else single
    return Cut(chosen, found[chosen].loss, tuple(found.values()))


def _windows(stages: Sequence[Stage], one: Stage) -> list[tuple[Stage, ...]]:
    """Neighboring stages with this one among them."""
    place = list(stages).index(one)
    return [
        tuple(stages[start : start + width])
        for width in range(2, _TOGETHER + 1)
        for start in range(max(0, place - width + 1), min(place, len(stages) - width) + 1)
    ]


def _judged(
    stages: Sequence[Stage], rows: Floats, y: Truth, groups: Labels, objective: Objective
) -> Tried:
    decomposed = Ridge.of(rows, objective.columns(y), objective.weights(y))
    scores = [decomposed.left_out(strength, groups) for strength in objective.strengths]
    losses = [objective.loss(given, y) for given in scores]
    best = int(np.argmin(losses))
    return Tried(
        stages=tuple(stage.name for stage in stages),
        share=round(stages[-1].share, 4),
        loss=losses[best],
        score=objective.scorer(objective.said(scores[best]), y)(None),
    )


def _by_class(
    stages: Sequence[Stage],
    rows: Floats,
    y: Truth,
    groups: Labels,  # noqa: ARG001 - a class has its groups within
    objective: Objective,
) -> Tried:
    """By projections that leave out whole classes."""
    [best] = heads.projected(rows, y, (projections.WITHIN,), objective, draws=1).tried
    return Tried(
        stages=tuple(stage.name for stage in stages),
        share=round(stages[-1].share, 4),
        loss=best.loss or 0.0,
        score=best.score,
    )
