"""The loop: gradient steps on the upper part of a network and its head, from a fitted head on.

What the lower part says of each view of each picture is known and does not change, so that a step
reads it and goes on from there. Every draw follows from the seed and the number of the step: a run
that was killed goes on from its last checkpoint and ends, on one machine and as many threads, with
the same bits as one that was not. Of every batch several processes take a share each, and add up
their gradients once all have them: then all know whether one was short of memory or late.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from catalog.errors import TlhubError
from finetuning.objectives.lesson import Lesson
from finetuning.objectives.lessons import ClassLesson
from finetuning.ranks import ALONE, Ranks
from finetuning.tuning.learner import Learner
from finetuning.tuning.state import State, resume, save

_log = logging.getLogger(__name__)

_CHECKPOINT_S = 20.0
_RETRIES = 3  # at half the rate each, after a loss that is no number
_CLIP = 1.0  # the norm of all gradients, at most
_BY_LENGTH = 2  # parts of a batch of texts, short and long


class Views(Protocol):
    """What the lower part says of every picture, in several views; view 0 is the picture itself."""

    count: int  # pictures
    lengths: np.ndarray | None  # of texts (count,), where it pays to pad no further than needed

    def batch(self, pictures: np.ndarray, step: int) -> tuple[torch.Tensor, ...]:
        """Tensors of the upper part for these pictures, each in the view that a step draws."""


@dataclass(frozen=True)
class Recipe:
    """How to train; rates are those of AdamW after the warm-up."""

    steps: int
    batch: int = 32
    rate: float = 5e-4  # of the parameters next to the head
    lowest: float = 0.3  # of it, that those next to the boundary have
    head_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: float = 0.1  # of the steps
    smoothing: float = 0.05  # of classes
    average: float = 0.98  # of the weights, exponentially
    mixing: float = 0.2  # alpha of mixup; 0 for none


class TrainingError(TlhubError):
    """A network cannot be trained."""


class NotANumberError(TrainingError):
    """Training went astray, at every rate that was tried."""


def train(
    learner: Learner,
    views: Views,
    targets: torch.Tensor,
    recipe: Recipe,
    *,
    lesson: Lesson = ClassLesson(),  # noqa: B008 - a value
    seed: int = 0,
    until: float = math.inf,
    checkpoint: Path | None = None,
    ranks: Ranks = ALONE,
    progress: Callable[[int, int, float], None] = lambda _step, _of, _loss: None,
) -> list[float]:
    """Train ``learner`` in place to the average of its weights; the loss of every step.

    ``targets`` are those of the ``lesson``, which has the loss. Past the monotonic time ``until``
    it stops at the next step, with what was learned. ``checkpoint`` is written every few seconds
    and at the end, and read at the start where there is one. Of every batch each of ``ranks`` takes
    its share; all end with the same weights.

    Raises:
        NotANumberError: the loss is none, at half the rate and at half of that too.
        TrainingError: memory does not hold one pair of examples.
        StorageError: the checkpoint cannot be written.
    """
    ranks.spread([parameter.data for parameter in learner.parameters()])
    # Of others the fused optimizer takes gradients to lie as they do not.
    dense = map(torch.ops.aten.is_non_overlapping_and_dense, learner.learned().values())
    optimizer = torch.optim.AdamW(_groups(learner, recipe), betas=(0.9, 0.99), fused=all(dense))
    state = State(learner, optimizer, learner.weights())
    batches = _Batches(views, targets, lesson, recipe, seed, ranks)
    good, saved = resume(state, checkpoint, ranks), time.monotonic()
    per_epoch = max(1, math.ceil(views.count / recipe.batch))
    late = ranks.agreed(time.monotonic() >= until)
    while state.step < recipe.steps and not (late or state.ended):
        _set_rates(state, recipe)
        found = batches.gradients(state, until)
        late = found.late
        if found.short:
            _in_more_parts(state, recipe)
            continue
        if not math.isfinite(found.loss):
            _go_back(state, good)
            continue
        _take_step(state, found.loss, recipe, ranks)
        progress(state.step, recipe.steps, found.loss)
        if state.step % per_epoch == 0:
            good = state.kept()
        if checkpoint is not None and ranks.first and time.monotonic() - saved > _CHECKPOINT_S:
            save(state, good, checkpoint)
            saved = time.monotonic()
    state.ended = True
    if checkpoint is not None and ranks.first:
        save(state, {}, checkpoint)
    with torch.no_grad():
        for name, parameter in learner.learned().items():
            parameter.copy_(state.average[name])
    return state.losses


def _in_more_parts(state: State, recipe: Recipe) -> None:
    if state.parts >= recipe.batch:
        raise TrainingError(
            "memory does not hold the training of one pair of examples",
            hint="train less of the network with --unfreeze, or a head alone with --budget fast",
        )
    state.parts *= 2
    _log.warning("out of memory: a batch goes through in %d parts", state.parts)
    state.optimizer.zero_grad(set_to_none=True)
    if next(state.learner.parameters()).is_cuda:
        torch.cuda.empty_cache()


def _go_back(state: State, good: Mapping[str, Any]) -> None:
    failures, parts = state.failures + 1, state.parts
    if failures > _RETRIES:
        raise NotANumberError(
            "the loss of training is no number, however small the steps",
            hint="the data or the weights may hold extreme values; --budget fast trains a head "
            "alone",
        )
    state.restore(good)
    state.failures, state.parts = failures, parts
    _log.warning("a loss that is no number: back to step %d, half the rate", state.step)


def scores(
    learner: Learner,
    views: Views,
    pictures: np.ndarray,
    *,
    batch: int = 64,
    ranks: Ranks = ALONE,
) -> torch.Tensor:
    """What the learner says of pictures as they are, float32 (N, classes), on the CPU."""
    own = pictures[list(ranks.own(len(pictures)))]
    found = [torch.zeros(0, learner.head.bias.numel())]
    with torch.inference_mode():
        for start in range(0, len(own), batch):
            given = views.batch(own[start : start + batch], -1)
            found.append(learner(*given).float().cpu())
    return ranks.gathered(torch.cat(found), len(pictures))


def _groups(learner: Learner, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters with their rates: the nearer to the head, the faster; no decay of vectors."""
    named = [p for p in learner.upper.parameters() if p.requires_grad]
    order = {id(p): n for n, p in enumerate(_in_order(learner.upper))}
    groups = []
    for parameter in named:
        above = 1 - (order.get(id(parameter), len(order)) + 1) / (len(order) + 1)
        groups.append(
            {
                "params": [parameter],
                "most": recipe.rate * recipe.lowest**above,
                "weight_decay": recipe.weight_decay if parameter.ndim > 1 else 0.0,
            }
        )
    head = {"params": list(learner.head.parameters()), "most": recipe.head_rate}
    return [*groups, {**head, "weight_decay": 0.0}]


def _in_order(upper: torch.nn.Module) -> Iterator[torch.nn.Parameter]:
    """The parameters in the order in which they are used."""
    if isinstance(upper, torch.fx.GraphModule):
        for node in upper.graph.nodes:
            if node.op == "get_attr":
                found = upper
                for part in str(node.target).split("."):
                    found = getattr(found, part)
                if isinstance(found, torch.nn.Parameter):
                    yield found
    else:
        yield from upper.parameters()


def _set_rates(state: State, recipe: Recipe) -> None:
    """Up in a line, then down as a cosine."""
    rising = max(1, round(recipe.warmup * recipe.steps))
    if state.step < rising:
        share = (state.step + 1) / rising
    else:
        passed = (state.step - rising) / max(1, recipe.steps - rising)
        share = 0.5 * (1 + math.cos(math.pi * passed))
    for group in state.optimizer.param_groups:
        group["lr"] = group["most"] * share * state.slower


def _drawn(count: int, batch: int, step: int, seed: int) -> np.ndarray:
    """The pictures of a step: another order in every epoch, whose last few it leaves out."""
    batch = min(batch, count)
    per_epoch = max(1, count // batch)
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return order[place * batch : (place + 1) * batch]


@dataclass(frozen=True)
class _Found:
    """What came of the gradients of a batch, in all processes together."""

    loss: float
    short: bool  # of memory
    late: bool


@dataclass(frozen=True)
class _Batches:
    """The batches of a training, and this process's share of each."""

    views: Views
    targets: torch.Tensor
    lesson: Lesson
    recipe: Recipe
    seed: int
    ranks: Ranks

    def gradients(self, state: State, until: float) -> _Found:
        """Add up the gradients of the next step; whoever is short of memory says so to all."""
        pictures = _drawn(self.views.count, self.recipe.batch, state.step, self.seed)
        parts, lengths = state.parts, self.views.lengths
        if lengths is not None:
            pictures = pictures[np.argsort(lengths[pictures], kind="stable")]
            parts *= _BY_LENGTH
        state.optimizer.zero_grad(set_to_none=True)
        loss, short = 0.0, False
        try:
            for portion in _portions(len(pictures), parts, self.ranks):
                loss += self._portion(state, pictures[portion], len(portion) / len(pictures))
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            short = True
        said = [loss, float(short), float(time.monotonic() >= until)]
        together = torch.tensor(said, dtype=torch.float64)
        self.ranks.sum_up(together)
        loss, shorts, lates = together.tolist()
        return _Found(loss, shorts > 0, lates > 0)

    def _portion(self, state: State, pictures: np.ndarray, weight: float) -> float:
        """Add the gradients of some pictures; each is mixed with its neighbor, if at all."""
        alpha = self.recipe.mixing
        random = np.random.default_rng([self.seed, state.step, 1])
        share = float(random.beta(alpha, alpha)) if alpha else 1.0
        given = self.views.batch(pictures, state.step)
        device = given[0].device
        wanted = self.targets[torch.from_numpy(pictures)].to(device)
        can_mix = share < 1 and all(tensor.is_floating_point() for tensor in given)
        other = _partners(len(pictures)).to(device)
        if can_mix:
            given = tuple(tensor * share + tensor[other] * (1 - share) for tensor in given)
        with _lower_precision(device):
            said = state.learner.taught(*given).float()
            loss = self._loss(said, wanted)
            if can_mix:
                loss = share * loss + (1 - share) * self._loss(said, wanted[other])
        loss = loss * weight
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _loss(self, said: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The mean over the examples, so that portions of a batch add up to it."""
        return self.lesson.losses(said, wanted, smoothing=self.recipe.smoothing).mean()


def _portions(count: int, parts: int, ranks: Ranks) -> list[np.ndarray]:
    """Places of a batch that this process takes, in ``parts``; no pair of neighbors is parted."""
    pairs = np.arange(0, count, 2)[ranks.rank :: ranks.world]
    portions = [np.stack([some, some + 1], 1).ravel() for some in np.array_split(pairs, parts)]
    return [portion[portion < count] for portion in portions if len(portion)]


def _partners(count: int) -> torch.Tensor:
    """Of each place its neighbor; an odd last one is its own."""
    return torch.tensor([min(place ^ 1, count - 1) for place in range(count)])


def _take_step(state: State, loss: float, recipe: Recipe, ranks: Ranks) -> None:
    parameters = list(state.learner.learned().values())
    ranks.sum_gradients(parameters)
    torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
    state.optimizer.step()
    state.step += 1
    state.losses.append(loss)
    # At the start the average follows faster: it would be the fitted head for too long.
    keep = min(recipe.average, state.step / (state.step + 10))
    with torch.no_grad():
        for name, parameter in state.learner.learned().items():
            state.average[name].lerp_(parameter, 1 - keep)


@contextlib.contextmanager
def _lower_precision(device: torch.device) -> Iterator[None]:
    """bfloat16 where a GPU has it; on a CPU it makes training slower."""
    is_cuda = device.type == "cuda"
    enabled = is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
        yield


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "not enough memory" in str(error) or "out of memory" in str(error)
    )
