"""How much of a network to train for these data, and whether it is worth it at all.

Starts from the head that was fitted on the network's features (LP-FT: Kumar et al. 2022), and goes
from the top of the network down: the upper part alone, more of it, all of it, as far as the time
allows. A part of the training examples judges each way against the fitted head, and the weights
between the two (WiSE-FT: Wortsman et al. 2022). Only what beats the head by more than a standard
error of the difference is kept; it is then trained once more on all training examples.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from catalog.errors import ConversionError
from converters.backbone import TorchBackbone
from finetuning.data.drawing import drawn
from finetuning.estimate import duration
from finetuning.heads import FittedHead
from finetuning.objectives.lesson import Judged
from finetuning.ridge import Floats
from finetuning.tuning import adapters
from finetuning.tuning.division import Division, Traced
from finetuning.tuning.evidence import Attempt, Evidence, untried
from finetuning.tuning.journal import Journal
from finetuning.tuning.learner import Head, Learner
from finetuning.tuning.logs import Log, told, unlogged
from finetuning.tuning.planning import PROBED, Plan, Task, plan_for, ways
from finetuning.tuning.training import NotANumberError, Views, scores, train
from finetuning.tuning.views import Examples, Kept, Live, Photos

_log = logging.getLogger(__name__)

_HELD = 0.25  # of the training examples judge
_TOGETHER = "all training examples belong together, and none can be held back to judge it"
_BETWEEN = (1.0, 0.75, 0.5, 0.25)  # of the way from the fitted head to what was trained


@dataclass(frozen=True)
class Tuned:
    """A backbone that learned, with the head that learned with it."""

    backbone: TorchBackbone
    weight: NDArray[np.float32]  # (scores, features), of the vectors of the stage
    bias: NDArray[np.float32]
    held: NDArray[np.int64]  # places of training examples that were held back meanwhile
    judged: Floats  # their scores, in the units of the lesson as the head is


def tune(
    task: Task,
    *,
    unfreeze: str = "auto",
    seconds: float,
    seed: int,
    journal: Journal | None = None,
    progress: Callable[[str], None] = lambda _: None,
    log: Log = unlogged,
) -> tuple[Tuned | None, Evidence]:
    """The backbone trained as far as it helps, or None; and what was tried.

    ``unfreeze`` is ``auto``, ``all`` or a layer, above which all is trained (of a task with a
    ``rank``, adapters alone are); a way that is named is kept in any case. ``seconds`` bound all of
    it, more or less. What the ``journal`` of an interrupted run knows is not done again.

    Raises:
        UsageError: there is no such layer to train from.
        ConversionError: torch cannot trace the network; or no example can be held back to judge
            a way that is named.
        StorageError: the checkpoint cannot be written.
    """
    began = time.monotonic()
    lacking = task.lesson.lacking
    if unfreeze == "auto" and lacking is not None:
        return None, untried(
            f"training through the network was not tried: {lacking} (--unfreeze all tries it)"
        )
    progress("tracing the network")
    front = task.backbone.front
    traced = Traced(task.backbone.module, front.example(), front.dynamic)
    task = replace(task, attends=traced.attends)
    original = {k: v.detach().clone() for k, v in task.backbone.module.state_dict().items()}
    judge = _Judge.of(task, seed)
    if judge is None:
        if unfreeze != "auto":
            raise ConversionError(_TOGETHER)
        return None, untried(f"the network cannot be trained: {_TOGETHER}")
    if isinstance(task.examples, Photos):
        mirrored = task.ranks.agreed(_may_mirror(task, task.examples, traced, judge))
        task = replace(task, examples=replace(task.examples, mirrored=mirrored))
    course = _Course(task, traced, judge, seed, journal or Journal(), progress, log)
    outcomes: list[_Outcome] = []
    for number, boundary in enumerate(ways(traced, task, unfreeze)):
        left = seconds - (time.monotonic() - began)
        plan = course.journal.once(
            f"plan-{number}",
            Plan | None,
            partial(plan_for, task, boundary, len(judge.learn), left, named=unfreeze != "auto"),
        )
        if plan is None:
            break
        steps, takes = plan.recipe.steps, duration(plan.seconds)
        what = f"adapters of rank {task.rank}" if task.rank else _name(boundary)
        progress(f"training {what} ({steps} steps, {takes})")
        until = time.monotonic() + 2 * left
        attempt = partial(_attempt, course, number, boundary, plan, until)
        outcome = course.journal.once(f"way-{number}", _Outcome | None, attempt)
        task.backbone.module.load_state_dict(original)
        if outcome is None:
            continue
        outcomes.append(outcome)
        if len(outcomes) > 1 and outcome.attempt.loss > outcomes[-2].attempt.loss:
            break  # more of the network does no better
    return _decide(course, outcomes, unfreeze, began + 2 * seconds)


@dataclass(frozen=True)
class _Judge:
    """Which training examples learn and which judge, and how the fitted head does on the latter."""

    learn: NDArray[np.int64]
    held: NDArray[np.int64]
    head: FittedHead
    judged: Judged  # what it says of those held
    rival: Judged  # what the head says that was chosen

    @classmethod
    def of(cls, task: Task, seed: int) -> _Judge | None:
        """None where all examples belong together, or each is the only one of its kind."""
        groups = np.unique(np.asarray(task.groups), return_inverse=True)[1]
        order = np.random.default_rng([seed, 7]).permutation(groups.max() + 1)
        units = [np.flatnonzero(groups == group).tolist() for group in order]
        held = np.sort(np.array(drawn(units, task.strata, _HELD), np.int64))
        if not len(held):
            return None
        learn = np.setdiff1d(np.arange(len(task.truth)), held)
        head = task.fit(task.features[learn], task.truth[learn])
        said = head.logits(task.features[held])
        judged = task.lesson.judged(said, task.truth[held])
        rival = judged
        if task.chosen is not None:
            rival = task.lesson.judged(task.chosen(learn, held), task.truth[held])
        return cls(learn, held, head, judged, rival)


@dataclass(frozen=True)
class _Course:
    """What all ways of training have in common."""

    task: Task
    traced: Traced
    judge: _Judge
    seed: int
    journal: Journal
    progress: Callable[[str], None]
    log: Log

    def divided(self, boundary: str) -> Division:
        """The network divided there, with what is to learn in its upper part."""
        division = self.traced.divide(boundary, [self.task.layer])
        if self.task.rank:
            adapters.add(division.upper, self.task.rank, self.seed)
        return division


def _name(boundary: str) -> str:
    return f"from {boundary or 'the input'} on"


def _may_mirror(task: Task, photos: Photos, traced: Traced, judge: _Judge) -> bool:
    """Whether the fitted head knows mirrored pictures as well: letters and digits it does not."""
    upper = traced.divide("", [task.layer]).upper.to(task.device)
    own = judge.held[list(task.ranks.own(len(judge.held)))]
    vectors = [torch.zeros(0, task.features.shape[1])]
    with torch.inference_mode():
        for start in range(0, len(own), PROBED):
            (seen,) = photos.batch([int(n) for n in own[start : start + PROBED]], 0)
            vectors.append(task.pool(*upper(seen.flip(-1).to(task.device))).float().cpu())
    found = task.ranks.gathered(torch.cat(vectors), len(judge.held))
    said = judge.head.logits(found.numpy())
    gain, error = task.lesson.judged(said, task.truth[judge.held]).over(judge.judged)
    return gain >= -error


def _learner(task: Task, division: Division, fitted: FittedHead) -> Learner:
    mean = task.features.mean(axis=0, dtype=np.float64)
    scale = task.features.std(axis=0, dtype=np.float64)
    scale[scale <= 1e-6 * scale.max()] = max(float(scale.max()), 1e-12)
    arrays = (fitted.weight, fitted.bias, mean, scale)
    head = Head(task.pool, *(torch.from_numpy(array).float() for array in arrays))
    learner = Learner(division.upper, head).to(task.device).to(memory_format=torch.channels_last)
    task.ranks.spread([parameter.data for parameter in learner.parameters()])
    return learner


def _views(task: Task, division: Division, examples: Examples, views: int, seed: int) -> Views:
    if not views:
        return Live(examples, task.device)
    return Kept(examples, division.lower, views, seed=seed, device=task.device, ranks=task.ranks)


class _Outcome(msgspec.Struct, frozen=True):
    attempt: Attempt
    said: list[list[float]]  # scores of those that judge


def _attempt(
    course: _Course, number: int, boundary: str, plan: Plan, until: float
) -> _Outcome | None:
    """Train on the examples that learn, and ask those that judge."""
    began = time.monotonic()
    task, judge, seed = course.task, course.judge, course.seed
    division = course.divided(boundary)
    learner = _learner(task, division, judge.head)
    before = learner.weights()
    learn = _views(task, division, task.examples.part(judge.learn.tolist()), plan.views, seed)
    held = _views(task, division, task.examples.part(judge.held.tolist()), min(plan.views, 1), seed)
    targets = _targets(task)[torch.from_numpy(judge.learn)]
    checkpoint = course.journal.checkpoint(f"way-{number}")
    name = f"from {boundary or 'the input'}"
    try:
        train(
            learner,
            learn,
            targets,
            plan.recipe,
            lesson=task.lesson,
            seed=seed,
            until=until,
            checkpoint=checkpoint,
            ranks=task.ranks,
            progress=told(course.progress, course.log, name),
        )
    except NotANumberError as error:
        _log.warning("%s", error.message)
        return None
    after = learner.weights()
    best: _Outcome | None = None
    for between in _BETWEEN:
        _between(learner, before, after, between)
        said = scores(learner, held, np.arange(len(judge.held)), ranks=task.ranks).double()
        found = task.lesson.judged(said.numpy(), task.truth[judge.held])
        gain, spread = found.over(judge.rival)
        if best is None or found.loss < best.attempt.loss:
            attempt = Attempt(
                boundary=boundary,
                params=sum(p.numel() for p in learner.upper.parameters() if p.requires_grad),
                rank=task.rank,
                score=found.score,
                loss=found.loss,
                gain=gain,
                error=spread,
                between=between,
                seconds=round(time.monotonic() - began, 2),
                steps=plan.recipe.steps,
            )
            best = _Outcome(attempt, said.tolist())
    if best is not None:
        course.log(f"{name}/held-back loss", best.attempt.loss, plan.recipe.steps)
        course.log(f"{name}/held-back {task.lesson.measure}", best.attempt.score, plan.recipe.steps)
    return best


def _between(
    learner: Learner,
    before: dict[str, torch.Tensor],
    after: dict[str, torch.Tensor],
    share: float,
) -> None:
    with torch.no_grad():
        for name, parameter in learner.learned().items():
            parameter.copy_(torch.lerp(before[name], after[name], share))


def _targets(task: Task) -> torch.Tensor:
    return torch.from_numpy(task.lesson.targets(task.truth))


def _decide(
    course: _Course, outcomes: Sequence[_Outcome], unfreeze: str, until: float
) -> tuple[Tuned | None, Evidence]:
    task, judge = course.task, course.judge
    lesson, head = task.lesson, judge.rival
    attempts = tuple(outcome.attempt for outcome in outcomes)
    known = Evidence(
        measure=lesson.measure,
        is_share=lesson.is_share,
        loss_measure=lesson.loss_measure,
        head_score=head.score,
        head_loss=head.loss,
        attempts=attempts,
        said="",
    )
    if not outcomes:
        return None, msgspec.structs.replace(known, said="there was no time to train the network")
    chosen = min(outcomes, key=lambda outcome: outcome.attempt.loss)
    best = chosen.attempt
    pays = best.gain > best.error and best.loss < head.loss
    where = f"from {best.boundary} on" if best.boundary else "as a whole"
    if task.rank:
        where = f"by adapters of rank {task.rank} (LoRA)"
    if not pays and unfreeze == "auto":
        said = (
            f"the fitted head stays: the network trained {where} is "
            f"{lesson.compared(best.score, 'the head', head.score)} (standard error of the "
            f"difference {lesson.amount(best.error)})"
        )
        return None, msgspec.structs.replace(known, said=said)
    count = len(task.truth)
    course.progress(f"training {where} on all {count} training examples")
    division = course.divided(best.boundary)
    learner = _learner(task, division, task.fit(task.features, task.truth))
    before = learner.weights()
    plan = plan_for(task, best.boundary, count, math.inf, named=True)
    if plan is None:
        raise AssertionError("any time is enough")
    recipe = replace(plan.recipe, steps=math.ceil(best.steps * count / len(judge.learn)))
    views = _views(task, division, task.examples, plan.views, course.seed)
    losses = train(
        learner,
        views,
        _targets(task),
        recipe,
        lesson=lesson,
        seed=course.seed,
        until=until,
        checkpoint=course.journal.checkpoint("final"),
        ranks=task.ranks,
        progress=told(course.progress, course.log, "final"),
    )
    after = learner.weights()
    _between(learner, before, after, best.between)
    adapters.merge(division.upper)
    weight, bias = (t.cpu().numpy() for t in learner.head.folded())
    task.backbone.module.cpu()
    compared = lesson.compared(best.score, "the fitted head", head.score)
    evidence = msgspec.structs.replace(
        known,
        attempts=tuple(msgspec.structs.replace(a, kept=a is best) for a in attempts),
        said=f"the network was trained {where}: {compared}",
        losses=tuple(round(loss, 5) for loss in losses),
    )
    judged = np.array(chosen.said, np.float64)
    return Tuned(task.backbone, weight, bias, judge.held, judged), evidence
