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
from torch.nn import functional

from converters.backbone import TorchBackbone
from finetuning.estimate import duration
from finetuning.heads import LinearHead
from finetuning.tuning.division import Division, Traced
from finetuning.tuning.evidence import Attempt, Evidence, untried
from finetuning.tuning.journal import Journal
from finetuning.tuning.learner import Head, Learner
from finetuning.tuning.logs import Log, unlogged
from finetuning.tuning.planning import PROBED, Plan, Task, plan_for, ways
from finetuning.tuning.training import NotANumberError, Views, scores, train
from finetuning.tuning.views import Examples, Kept, Live, Photos

_log = logging.getLogger(__name__)

FEWEST = 30  # examples a class, for training through the network to be tried unasked
_HELD = 0.25  # of the training examples judge
_BETWEEN = (1.0, 0.75, 0.5, 0.25)  # of the way from the fitted head to what was trained


@dataclass(frozen=True)
class Tuned:
    """A backbone that learned, with the head that learned with it."""

    backbone: TorchBackbone
    weight: NDArray[np.float32]  # (classes, features), of the vectors of the stage
    bias: NDArray[np.float32]
    judged: NDArray[np.float64]  # logits of training examples that were held back meanwhile
    truth: NDArray[np.int64]  # and their classes


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

    ``unfreeze`` is ``auto``, ``all`` or a layer, above which all is trained; a way that
    is named is kept in any case. ``seconds`` bound all of it, more or less. What the ``journal``
    of an interrupted run knows is not done again.

    Raises:
        UsageError: there is no such layer to train from.
        ConversionError: torch cannot trace the network.
        StorageError: the checkpoint cannot be written.
    """
    began = time.monotonic()
    counts = np.bincount(task.labels, minlength=task.classes)
    if unfreeze == "auto" and counts.min() < FEWEST:
        return None, untried(
            f"training through the network was not tried: it seldom pays with fewer than {FEWEST} "
            f"examples a class, and the smallest has {counts.min()} (--unfreeze all tries it)"
        )
    progress("tracing the network")
    front = task.backbone.front
    traced = Traced(task.backbone.module, front.example(), front.dynamic)
    original = {k: v.detach().clone() for k, v in task.backbone.module.state_dict().items()}
    judge = _Judge.of(task, seed)
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
        progress(f"training from {boundary or 'the input'} on ({steps} steps, {takes})")
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
    head: LinearHead
    right: NDArray[np.bool_]  # of those held
    loss: float

    @classmethod
    def of(cls, task: Task, seed: int) -> _Judge:
        random = np.random.default_rng([seed, 7])
        groups = np.unique(np.asarray(task.groups), return_inverse=True)[1]
        held: list[int] = []
        for label in range(task.classes):
            own = random.permutation(np.unique(groups[task.labels == label]))
            if len(own) > 1:
                chosen = own[: max(1, round(_HELD * len(own)))]
                held += np.flatnonzero(np.isin(groups, chosen)).tolist()
        places = np.unique(np.array(held, np.int64))
        learn = np.setdiff1d(np.arange(len(task.labels)), places)
        head = task.fit(task.features[learn], task.labels[learn])
        said = torch.from_numpy(head.logits(task.features[places]))
        wanted = torch.from_numpy(task.labels[places])
        right = (said.argmax(1) == wanted).numpy()
        return cls(learn, places, head, right, float(functional.cross_entropy(said, wanted)))


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
    said = judge.head.predict(found.numpy())
    gain, error = _difference(said == task.labels[judge.held], judge.right)
    return gain >= -error


def _learner(task: Task, division: Division, fitted: LinearHead) -> Learner:
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
    said: list[list[float]]  # logits of those that judge


def _attempt(
    course: _Course, number: int, boundary: str, plan: Plan, until: float
) -> _Outcome | None:
    """Train on the examples that learn, and ask those that judge."""
    began = time.monotonic()
    task, judge, seed = course.task, course.judge, course.seed
    division = course.traced.divide(boundary, [task.layer])
    learner = _learner(task, division, judge.head)
    before = learner.weights()
    learn = _views(task, division, task.examples.part(judge.learn.tolist()), plan.views, seed)
    held = _views(task, division, task.examples.part(judge.held.tolist()), min(plan.views, 1), seed)
    targets = torch.from_numpy(task.labels[judge.learn])
    checkpoint = course.journal.checkpoint(f"way-{number}")
    name = f"from {boundary or 'the input'}"
    try:
        train(
            learner,
            learn,
            targets,
            plan.recipe,
            seed=seed,
            until=until,
            checkpoint=checkpoint,
            ranks=task.ranks,
            progress=_said(course, name),
        )
    except NotANumberError as error:
        _log.warning("%s", error.message)
        return None
    after = learner.weights()
    wanted = torch.from_numpy(task.labels[judge.held])
    best: _Outcome | None = None
    for between in _BETWEEN:
        _between(learner, before, after, between)
        said = scores(learner, held, np.arange(len(judge.held)), ranks=task.ranks)
        loss = float(functional.cross_entropy(said, wanted))
        right = (said.argmax(1) == wanted).numpy()
        gain, spread = _difference(right, judge.right)
        if best is None or loss < best.attempt.loss:
            attempt = Attempt(
                boundary=boundary,
                params=sum(p.numel() for p in learner.upper.parameters()),
                accuracy=float(right.mean()),
                loss=loss,
                gain=gain,
                error=spread,
                between=between,
                seconds=round(time.monotonic() - began, 2),
                steps=plan.recipe.steps,
            )
            best = _Outcome(attempt, said.double().tolist())
    if best is not None:
        course.log(f"{name}/held-back loss", best.attempt.loss, plan.recipe.steps)
        course.log(f"{name}/held-back accuracy", best.attempt.accuracy, plan.recipe.steps)
    return best


def _between(
    learner: Learner,
    before: dict[str, torch.Tensor],
    after: dict[str, torch.Tensor],
    share: float,
) -> None:
    with torch.no_grad():
        for name, parameter in learner.named_parameters():
            parameter.copy_(torch.lerp(before[name], after[name], share))


def _difference(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float]:
    """How much more often one is right than the other, and the standard error of that."""
    apart = one.astype(float) - other.astype(float)
    return float(apart.mean()), float(apart.std() / math.sqrt(len(apart)))


def _decide(
    course: _Course, outcomes: Sequence[_Outcome], unfreeze: str, until: float
) -> tuple[Tuned | None, Evidence]:
    task, judge = course.task, course.judge
    head = float(judge.right.mean())
    attempts = tuple(outcome.attempt for outcome in outcomes)
    known = Evidence(head_accuracy=head, head_loss=judge.loss, attempts=attempts, said="")
    if not outcomes:
        return None, msgspec.structs.replace(known, said="there was no time to train the network")
    chosen = min(outcomes, key=lambda outcome: outcome.attempt.loss)
    best = chosen.attempt
    pays = best.gain > best.error and best.loss < judge.loss
    where = f"from {best.boundary} on" if best.boundary else "as a whole"
    if not pays and unfreeze == "auto":
        said = (
            f"the fitted head stays: the network trained {where} is right on {best.accuracy:.1%} "
            f"of held-back training examples, the head on {head:.1%} (standard error of the "
            f"difference {best.error:.1%})"
        )
        return None, msgspec.structs.replace(known, said=said)
    course.progress(f"training {where} on all {len(task.labels)} training examples")
    division = course.traced.divide(best.boundary, [task.layer])
    learner = _learner(task, division, task.fit(task.features, task.labels))
    before = learner.weights()
    plan = plan_for(task, best.boundary, len(task.labels), math.inf, named=True)
    if plan is None:
        raise AssertionError("any time is enough")
    recipe = replace(plan.recipe, steps=math.ceil(best.steps * len(task.labels) / len(judge.learn)))
    views = _views(task, division, task.examples, plan.views, course.seed)
    losses = train(
        learner,
        views,
        torch.from_numpy(task.labels),
        recipe,
        seed=course.seed,
        until=until,
        checkpoint=course.journal.checkpoint("final"),
        ranks=task.ranks,
        progress=_said(course, "final"),
    )
    after = learner.weights()
    _between(learner, before, after, best.between)
    weight, bias = (t.cpu().numpy() for t in learner.head.folded())
    task.backbone.module.cpu()
    said = (
        f"the network was trained {where}: right on {best.accuracy:.1%} of held-back training "
        f"examples, the fitted head on {head:.1%}"
    )
    evidence = msgspec.structs.replace(
        known,
        attempts=tuple(msgspec.structs.replace(a, kept=a is best) for a in attempts),
        said=said,
        losses=tuple(round(loss, 5) for loss in losses),
    )
    judged = np.array(chosen.said, np.float64)
    return Tuned(task.backbone, weight, bias, judged, task.labels[judge.held]), evidence


def _said(course: _Course, name: str) -> Callable[[int, int, float], None]:
    """A line now and then; every loss where they are logged."""
    last = time.monotonic()

    def say(step: int, of: int, loss: float) -> None:
        nonlocal last
        course.log(f"{name}/loss", loss, step)
        if time.monotonic() - last > 2 or step == of:
            last = time.monotonic()
            course.progress(f"step {step} of {of}, loss {loss:.3f}")

    return say
