"""How much of a network to train for these data, and whether it is worth it at all.

Starts from the head that was fitted on the network's features (LP-FT: Kumar et al. 2022), and goes
from the top of the network down: the upper part alone, more of it, all of it, as far as the time
allows; a network that attends is trained as a whole. A head that is right on all it was fitted to
leaves the network nothing to learn: it starts with a fifth of its slope, and learns no faster than
the network. A part of the training examples judges each way against the fitted head, and the
weights between the two (WiSE-FT: Wortsman et al. 2022); where they are few several parts do, one
after the other. Only what beats the head by more than a standard error of the difference is kept,
and trained once more on all training examples; of texts, where training nearly always helps, the
head stays only where it beats what was trained, by two of them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from catalog.errors import ConversionError
from converters.backbone import TorchBackbone
from finetuning.estimate import duration
from finetuning.heads import FittedHead
from finetuning.objectives.lesson import Judged
from finetuning.ridge import Floats
from finetuning.stages import Stage
from finetuning.tuning import adapters
from finetuning.tuning.division import Division, Traced
from finetuning.tuning.evidence import Attempt, Evidence, untried
from finetuning.tuning.journal import Journal
from finetuning.tuning.judging import Judge, parts
from finetuning.tuning.learner import Head, Learner, Likeness
from finetuning.tuning.logs import Log, told, unlogged
from finetuning.tuning.planning import PROBED, Plan, Task, plan_for, rounds_for, ways
from finetuning.tuning.pooling import together
from finetuning.tuning.training import NotANumberError, Views, scores, train
from finetuning.tuning.views import Examples, Kept, Live, Photos

_log = logging.getLogger(__name__)

_TOGETHER = "all training examples belong together, and none can be held back to judge it"
_FEW = "there are too few classes of several examples for two to be held back to judge it"
_BETWEEN = (1.0, 0.75, 0.5, 0.25)  # of the way from the fitted head to what was trained
_SLOPE = 0.2  # of the fitted head, that training starts with
_RECOVERS = 50  # steps that make up for the rest of it
_DOUBT = 2.0  # standard errors by which a head of texts has to beat what was trained, to stay


@dataclass(frozen=True)
class Tuned:
    """A backbone that learned, with the head that learned with it."""

    backbone: TorchBackbone
    stages: tuple[Stage, ...]  # that the head is on
    weight: NDArray[np.float32]  # (scores, features), of their vectors side by side
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

    ``unfreeze`` is ``auto``, ``all``, how many of the last layers, or one above which all is
    trained (of a task with a ``rank``, adapters alone are); a way that is named is kept in any
    case. ``seconds`` bound all of it, more or less. What the ``journal`` of an interrupted run
    knows is not done again.

    Raises:
        UsageError: there is no such layer to train from.
        ConversionError: torch cannot trace the network; or no example can be held back to judge
            a way that is named.
        TrainingError: the last training fails, or memory does not hold any.
        StorageError: the checkpoint cannot be written.
    """
    began, named = time.monotonic(), unfreeze != "auto"
    progress("tracing the network")
    front = task.backbone.front
    traced = Traced(task.backbone.module, front.example(), front.dynamic)
    task = replace(task, attends=traced.attends)
    boundaries = list(ways(traced, task, unfreeze))
    if named:
        task = task.above(traced, boundaries[0])
    original = {k: v.detach().clone() for k, v in task.backbone.module.state_dict().items()}
    split = parts(task, seed)
    first = next(split, None)
    compares = task.lesson.together  # of one class everything is right
    if first is None or (compares and len({task.groups[place] for place in first}) < 2):
        why = _FEW if compares else _TOGETHER
        if named:
            raise ConversionError(why)
        return None, untried(f"the network cannot be trained: {why}")
    judge = Judge.of(task, first)
    if isinstance(task.examples, Photos):
        mirrored = task.ranks.agreed(_may_mirror(task, task.examples, traced, judge))
        task = replace(task, examples=replace(task.examples, mirrored=mirrored))
    journal = journal or Journal()
    left = seconds - (time.monotonic() - began)
    asked = partial(rounds_for, task, boundaries, len(judge.learn), len(judge.held), left)
    rounds = journal.once("rounds", int, asked)
    judges = [judge, *(Judge.of(task, held) for held in islice(split, rounds - 1))]
    course = _Course(task, traced, judges, original, named, seed, journal, progress, log)
    outcomes = list(_tried(course, boundaries, began + seconds))
    return _decide(course, outcomes, began + seconds)


@dataclass(frozen=True)
class _Course:
    """What all ways of training have in common."""

    task: Task
    traced: Traced
    judges: Sequence[Judge]
    original: dict[str, torch.Tensor]  # weights of the network
    named: bool  # the way is, and kept in any case
    seed: int
    journal: Journal
    progress: Callable[[str], None]
    log: Log

    @property
    def held(self) -> NDArray[np.int64]:
        """The places of all that judge."""
        return np.concatenate([judge.held for judge in self.judges])

    @property
    def trusts(self) -> bool:
        """Whether training is known to help: of texts, more surely than few examples can judge."""
        return self.task.reads and not self.task.lesson.together

    @property
    def between(self) -> Sequence[float]:
        """How far to go from the fitted head to what was trained, of which the judges choose."""
        return _BETWEEN[:1] if self.trusts else _BETWEEN

    @property
    def rival(self) -> Judged:
        """The head that was chosen, as all of them judge it."""
        return self.judged(np.concatenate([judge.rival for judge in self.judges]))

    def judged(self, said: Floats) -> Judged:
        """What is said of all that judge (N, K)."""
        return self.task.lesson.judged(said, self.task.truth[self.held])

    def divided(self, boundary: str) -> Division:
        """The network divided there, with what is to learn in its upper part."""
        division = self.traced.divide(boundary, self.task.layers, self.task.device)
        if self.task.rank:
            adapters.add(division.upper, self.task.rank, self.seed)
        return division


def _where(boundary: str) -> str:
    return f"from {boundary or 'the input'}"


def _tried(course: _Course, boundaries: Sequence[str], until: float) -> Iterator[_Outcome]:
    """The ways there is time for, up to one that does no better than that before it."""
    task, best = course.task, math.inf
    for number, boundary in enumerate(boundaries):
        left = until - time.monotonic()
        count = len(course.judges[0].learn)
        each = left / (len(course.judges) + len(task.truth) / count)  # the last is of all examples
        planned = partial(plan_for, task, boundary, count, each, named=course.named)
        plan = course.journal.once(f"plan-{number}", Plan | None, planned)
        if plan is None and not task.attends:
            return  # the next takes longer still
        outcome = plan and _attempt(course, number, boundary, plan, 2 * max(each, plan.seconds))
        if outcome:
            yield outcome
            if task.attends or outcome.attempt.loss > best:
                return
            best = outcome.attempt.loss


def _may_mirror(task: Task, photos: Photos, traced: Traced, judge: Judge) -> bool:
    """Whether the fitted head knows mirrored pictures as well: letters and digits it does not."""
    held = judge.held
    upper = traced.divide("", task.layers, task.device).upper
    own, pool = held[list(task.ranks.own(len(held)))], together(task.stages)
    vectors = [torch.zeros(0, task.features.shape[1])]
    with torch.inference_mode():
        for start in range(0, len(own), PROBED):
            (seen,) = photos.batch([int(n) for n in own[start : start + PROBED]], 0)
            vectors.append(pool(*upper(seen.flip(-1).to(task.device))).float().cpu())
    found = task.ranks.gathered(torch.cat(vectors), len(held)).numpy()
    if task.lesson.together:  # what is mirrored is to be found among what is not
        found = np.where(np.arange(len(held))[:, None] % 2, found, task.features[held])
    mirrored, plain = (
        task.lesson.judged(judge.head.logits(rows), task.truth[held])
        for rows in (found, task.features[held])
    )
    gain, error = mirrored.over(plain)
    return gain >= -error


def _learner(task: Task, division: Division, fitted: FittedHead, steps: int) -> Learner:
    """The upper part, with the fitted head made softer, the more so the more steps there are."""
    mean = task.features.mean(axis=0, dtype=np.float64)
    scale = task.features.std(axis=0, dtype=np.float64)
    scale[scale <= 1e-6 * scale.max()] = max(float(scale.max()), 1e-12)
    weight, bias, mean, scale = (
        torch.from_numpy(array).float() for array in (fitted.weight, fitted.bias, mean, scale)
    )
    pool = together(task.stages)
    if fitted.prototypes is None:
        head = Head(pool, weight, bias, mean, scale)
    else:
        prototypes = torch.from_numpy(fitted.prototypes).float()
        head = Likeness(prototypes, pool, weight, bias, mean, scale)
    head.soften(max(_SLOPE, 1 - steps / _RECOVERS))
    learner = Learner(division.upper, head).to(task.device).to(memory_format=torch.channels_last)
    task.ranks.spread([parameter.data for parameter in learner.parameters()])
    return learner


def _views(task: Task, division: Division, examples: Examples, views: int, seed: int) -> Views:
    if not views:
        return Live(examples, task.device, division.lower if division.boundary else None)
    return Kept(examples, division.lower, views, seed=seed, device=task.device, ranks=task.ranks)


@dataclass(frozen=True)
class _Outcome:
    attempt: Attempt
    said: Floats  # scores of those that judge
    pays: bool


def _attempt(
    course: _Course, number: int, boundary: str, plan: Plan, seconds: float
) -> _Outcome | None:
    """Train one way, as often as there are parts that judge; stop each that takes too long."""
    task, steps = course.task, plan.recipe.steps
    what = f"adapters of rank {task.rank}" if task.rank else f"{_where(boundary)} on"
    times = f", {len(course.judges)} times" if len(course.judges) > 1 else ""
    takes = duration(plan.seconds * len(course.judges))
    course.progress(f"training {what} ({steps} steps{times}, {takes})")
    found: list[_Part] = []
    for place, judge in enumerate(course.judges):
        name = f"way-{number}-{place}"
        trained = partial(_trained, course, judge, boundary, plan, seconds, name)
        part = course.journal.once(name, _Part | None, trained)
        course.journal.clear(name)
        task.backbone.module.load_state_dict(course.original)
        if part is None or (part.steps < steps / 2 and not course.named):
            return None  # it went astray, or has no time to become what it was planned to be
        found.append(part)
    ways_between = len(course.between)
    each = zip(found, course.judges, strict=True)
    said = np.concatenate([part.scores(judge, ways_between) for part, judge in each], 1)
    judged = partial(_judged, course, boundary, found, said)
    verdict = course.journal.once(f"way-{number}", _Verdict, judged)
    attempt = verdict.attempt
    name = _where(boundary)
    course.log(f"{name}/held-back loss", attempt.loss, attempt.steps)
    course.log(f"{name}/held-back {task.lesson.measure}", attempt.score, attempt.steps)
    return _Outcome(attempt, said[course.between.index(attempt.between)], verdict.pays)


class _Verdict(msgspec.Struct, frozen=True):
    attempt: Attempt
    pays: bool


def _judged(
    course: _Course, boundary: str, parts: Sequence[_Part], said: NDArray[np.float64]
) -> _Verdict:
    """The most of the way that nothing less beats (ways between, judging, scores); and the head."""
    head, ways_between = course.rival, [course.judged(some) for some in said]
    least = min(ways_between, key=lambda one: one.loss)
    best = next(n for n, one in enumerate(ways_between) if not least.beats(one))
    network = ways_between[best]
    gain, error = network.over(head)
    attempt = Attempt(
        boundary=boundary,
        params=parts[0].params,
        rank=course.task.rank,
        score=network.score,
        loss=network.loss,
        gain=gain,
        error=error,
        between=course.between[best],
        seconds=round(sum(part.seconds for part in parts), 2),
        steps=min(part.steps for part in parts),
    )
    pays = not head.beats(network, _DOUBT) if course.trusts else network.beats(head)
    return _Verdict(attempt, pays)


class _Part(msgspec.Struct, frozen=True):
    """What came of one way as one part of the examples judges it."""

    said: bytes  # float32 (ways between, judging, scores)
    params: int
    steps: int  # that there was time for
    seconds: float

    def scores(self, judge: Judge, ways_between: int) -> Floats:
        """What was said (ways between, judging, scores)."""
        flat = np.frombuffer(self.said, np.float32).astype(np.float64)
        return flat.reshape(ways_between, len(judge.held), -1)


def _trained(
    course: _Course, judge: Judge, boundary: str, plan: Plan, seconds: float, name: str
) -> _Part | None:
    """Train on the examples that learn, and ask of those that judge."""
    began = time.monotonic()
    task, seed = course.task, course.seed
    division = course.divided(boundary)
    learner = _learner(task, division, judge.head, plan.recipe.steps)
    before = learner.weights()
    learn = _views(task, division, task.examples.part(judge.learn.tolist()), plan.views, seed)
    held = _views(task, division, task.examples.part(judge.held.tolist()), min(plan.views, 1), seed)
    try:
        losses = train(
            learner,
            learn,
            _targets(task, judge.learn),
            plan.recipe,
            lesson=task.lesson,
            seed=seed,
            until=began + seconds,
            checkpoint=course.journal.checkpoint(name),
            ranks=task.ranks,
            progress=told(course.progress, course.log, _where(boundary)),
        )
    except NotANumberError as error:
        _log.warning("%s", error.message)
        return None
    after, said = learner.weights(), []
    for between in course.between:
        _between(learner, before, after, between)
        said.append(scores(learner, held, np.arange(len(judge.held)), ranks=task.ranks))
    return _Part(
        said=torch.stack(said).numpy().tobytes(),
        params=sum(p.numel() for p in learner.upper.parameters() if p.requires_grad),
        steps=len(losses),
        seconds=time.monotonic() - began,
    )


def _between(
    learner: Learner,
    before: dict[str, torch.Tensor],
    after: dict[str, torch.Tensor],
    share: float,
) -> None:
    with torch.no_grad():
        for name, parameter in learner.learned().items():
            parameter.copy_(torch.lerp(before[name], after[name], share))


def _targets(task: Task, places: NDArray[np.int64]) -> torch.Tensor:
    return torch.from_numpy(task.lesson.targets(task.truth[places]))


def _decide(
    course: _Course, outcomes: Sequence[_Outcome], until: float
) -> tuple[Tuned | None, Evidence]:
    task = course.task
    lesson, head = task.lesson, course.rival
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
    where = f"from {best.boundary} on" if best.boundary else "as a whole"
    if task.rank:
        where = f"by adapters of rank {task.rank} (LoRA)"
    beside = f"{lesson.loss_measure} {best.loss:.3f}, {head.loss:.3f}"
    if not (chosen.pays or course.named):
        said = (
            f"the fitted head stays: the network trained {where} is "
            f"{lesson.compared(best.score, 'the head', head.score)} (standard error of the "
            f"difference {lesson.amount(best.error)}; {beside})"
        )
        return None, msgspec.structs.replace(known, said=said)
    count = len(task.truth)
    course.progress(f"training {where} on all {count} training examples")
    division = course.divided(best.boundary)
    plan = plan_for(task, best.boundary, count, math.inf, named=True)
    if plan is None:
        raise AssertionError("any time is enough")
    more = count / len(course.judges[0].learn)
    recipe = replace(plan.recipe, steps=math.ceil(best.steps * more))
    learner = _learner(task, division, task.fit(task.features, task.truth), recipe.steps)
    before = learner.weights()
    until = max(until, time.monotonic() + 2 * more * best.seconds / len(course.judges))
    views = _views(task, division, task.examples, plan.views, course.seed)
    losses = train(
        learner,
        views,
        _targets(task, np.arange(count)),
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
    if best.gain <= best.error:
        compared = f"{compared} ({beside})"
    evidence = msgspec.structs.replace(
        known,
        attempts=tuple(msgspec.structs.replace(a, kept=a is best) for a in attempts),
        said=f"the network was trained {where}: {compared}",
        losses=tuple(round(loss, 5) for loss in losses),
    )
    return Tuned(task.backbone, task.stages, weight, bias, course.held, chosen.said), evidence
