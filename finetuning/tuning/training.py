"""The loop: gradient steps on the upper part of a network and its head, from a fitted head on.

What the lower part says of each view of each picture is known and does not change, so that a step
reads it and goes on from there. Every draw follows from the seed and the number of the step: a run
that was killed goes on from its last checkpoint and ends, on one machine and as many threads, with
the same bits as one that was not.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch.nn import functional

from catalog.disk import replacing, writing
from catalog.errors import TlhubError

_log = logging.getLogger(__name__)

Objective = Literal["classification", "multi-label", "regression"]

_CHECKPOINT_S = 20.0
_RETRIES = 3  # at half the rate each, after a loss that is no number
_CLIP = 1.0  # the norm of all gradients, at most


class Views(Protocol):
    """What the lower part says of every picture, in several views; view 0 is the picture itself."""

    count: int  # pictures

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
    smoothing: float = 0.05  # of labels
    average: float = 0.98  # of the weights, exponentially
    mixing: float = 0.2  # alpha of mixup; 0 for none


class Head(torch.nn.Module):
    """A linear head on standardized vectors, so that one rate suits every network."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        pool: Callable[..., torch.Tensor],
        weight: torch.Tensor,
        bias: torch.Tensor,
        mean: torch.Tensor,
        scale: torch.Tensor,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.weight = torch.nn.Parameter(weight * scale)
        self.bias = torch.nn.Parameter(bias + weight @ mean)

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Scores (N, classes) of the tensors of a layer."""
        vectors = (self.pool(*tensors) - self.mean) / self.scale
        return functional.linear(vectors, self.weight, self.bias)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias for vectors as they are."""
        weight = (self.weight / self.scale).detach()
        return weight, (self.bias.detach() - weight @ self.mean)


class Learner(torch.nn.Module):
    """The upper part of a network and a head on it."""

    def __init__(self, upper: torch.nn.Module, head: Head) -> None:
        super().__init__()
        self.upper, self.head = upper, head

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Scores (N, classes) of the tensors that the lower part gave."""
        scores: torch.Tensor = self.head(*self.upper(*tensors))
        return scores

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of all parameters, by name."""
        return {name: value.detach().clone() for name, value in self.named_parameters()}


class NotANumberError(TlhubError):
    """Training went astray, at every rate that was tried."""


@dataclass
class _State:
    """All that changes from step to step."""

    learner: Learner
    optimizer: torch.optim.AdamW
    average: dict[str, torch.Tensor]
    step: int = 0
    slower: float = 1.0  # what the rates are multiplied by, after a loss that is no number
    losses: list[float] = field(default_factory=list)

    def kept(self) -> dict[str, Any]:
        return {
            "learner": self.learner.weights(),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "average": {k: v.clone() for k, v in self.average.items()},
            "step": self.step,
            "slower": self.slower,
            "losses": list(self.losses),
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name, parameter in self.learner.named_parameters():
                parameter.copy_(kept["learner"][name])
        self.optimizer.load_state_dict(copy.deepcopy(kept["optimizer"]))
        self.average = {k: v.clone() for k, v in kept["average"].items()}
        self.step, self.slower = kept["step"], kept["slower"]
        self.losses = list(kept["losses"])


def train(
    learner: Learner,
    views: Views,
    targets: torch.Tensor,
    recipe: Recipe,
    *,
    objective: Objective = "classification",
    seed: int = 0,
    until: float = math.inf,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, float], None] = lambda _step, _of, _loss: None,
) -> list[float]:
    """Train ``learner`` in place to the average of its weights; the loss of every step.

    ``targets`` are class indices int64 (N,), or float32 (N, classes) or (N, values). Past the
    monotonic time ``until`` it stops at the next step, with what was learned. ``checkpoint`` is
    written every few seconds, read at the start where there is one, and removed at the end.

    Raises:
        NotANumberError: the loss is none, at half the rate and at half of that too.
        StorageError: the checkpoint cannot be written.
    """
    state = _State(
        learner,
        torch.optim.AdamW(_groups(learner, recipe), betas=(0.9, 0.99)),
        learner.weights(),
    )
    loss_of = _objective(objective, recipe)
    _resume(state, checkpoint)
    good, saved, failures = state.kept(), time.monotonic(), 0
    per_epoch = max(1, math.ceil(views.count / recipe.batch))
    parts = 1  # of a batch, one after the other, where memory is short
    while state.step < recipe.steps and time.monotonic() < until:
        pictures = _drawn(views.count, recipe.batch, state.step, seed)
        _set_rates(state, recipe)
        try:
            loss = _step(state, views, pictures, targets, loss_of, recipe, seed, parts)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error) or parts >= len(pictures):
                raise
            parts *= 2
            _log.warning("out of memory: a batch goes through in %d parts", parts)
            state.optimizer.zero_grad(set_to_none=True)
            _free(learner)
            continue
        if not math.isfinite(loss):
            failures += 1
            if failures > _RETRIES:
                raise NotANumberError(
                    "the loss of training is no number, however small the steps",
                    hint="the data or the weights may hold extreme values; --budget fast trains "
                    "a head alone",
                )
            state.restore(good)
            state.slower = 0.5**failures
            _log.warning("a loss that is no number: back to step %d, half the rate", state.step)
            continue
        progress(state.step, recipe.steps, loss)
        if state.step % per_epoch == 0:
            good = state.kept()
        if checkpoint is not None and time.monotonic() - saved > _CHECKPOINT_S:
            _save(state, checkpoint)
            saved = time.monotonic()
    with torch.no_grad():
        for name, parameter in learner.named_parameters():
            parameter.copy_(state.average[name])
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return state.losses


def scores(
    learner: Learner, views: Views, pictures: np.ndarray, *, batch: int = 64
) -> torch.Tensor:
    """What the learner says of pictures as they are, float32 (N, classes), on the CPU."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(pictures), batch):
            given = views.batch(pictures[start : start + batch], -1)
            found.append(learner(*given).float().cpu())
    return torch.cat(found)


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


def _set_rates(state: _State, recipe: Recipe) -> None:
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
    """The pictures of a step: all of them once in every epoch, in another order each time."""
    batch = min(batch, count)
    per_epoch = max(1, count // batch)
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return order[place * batch : (place + 1) * batch]


def _step(
    state: _State,
    views: Views,
    pictures: np.ndarray,
    targets: torch.Tensor,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    recipe: Recipe,
    seed: int,
    parts: int,
) -> float:
    """One step; its loss."""
    state.optimizer.zero_grad(set_to_none=True)
    random = np.random.default_rng([seed, state.step, 1])
    share = float(random.beta(recipe.mixing, recipe.mixing)) if recipe.mixing else 1.0
    total = 0.0
    for part in np.array_split(pictures, parts):
        given = views.batch(part, state.step)
        device = given[0].device
        wanted = targets[torch.from_numpy(part)].to(device)
        other = torch.from_numpy(random.permutation(len(part))).to(device)
        mixed = tuple(
            t * share + t[other] * (1 - share) if t.is_floating_point() else t for t in given
        )
        can_mix = all(t.is_floating_point() for t in given)
        with _lower_precision(device):
            said = state.learner(*(mixed if can_mix else given)).float()
            loss = loss_of(said, wanted)
            if can_mix and share < 1:
                loss = share * loss + (1 - share) * loss_of(said, wanted[other])
        loss = loss * (len(part) / len(pictures))
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    if math.isfinite(total):
        torch.nn.utils.clip_grad_norm_(state.learner.parameters(), _CLIP)
        state.optimizer.step()
        state.step += 1
        state.losses.append(total)
        # At the start the average follows faster: it would be the fitted head for too long.
        keep = min(recipe.average, state.step / (state.step + 10))
        with torch.no_grad():
            for name, parameter in state.learner.named_parameters():
                state.average[name].lerp_(parameter, 1 - keep)
    return total


def _objective(
    objective: Objective, recipe: Recipe
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    if objective == "classification":
        return lambda said, wanted: functional.cross_entropy(
            said, wanted, label_smoothing=recipe.smoothing
        )
    if objective == "multi-label":
        return functional.binary_cross_entropy_with_logits
    return functional.mse_loss


@contextlib.contextmanager
def _lower_precision(device: torch.device) -> Iterator[None]:
    """bfloat16 where a GPU has it; on a CPU it makes training slower."""
    enabled = device.type == "cuda" and torch.cuda.is_bf16_supported()
    with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
        yield


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "not enough memory" in str(error) or "out of memory" in str(error)
    )


def _free(learner: Learner) -> None:
    if next(learner.parameters()).is_cuda:
        torch.cuda.empty_cache()


def _save(state: _State, file: Path) -> None:
    with writing(file), replacing(file) as stream:
        torch.save(state.kept(), stream)


def _resume(state: _State, file: Path | None) -> None:
    if file is None or not file.exists():
        return
    try:
        kept = torch.load(file, weights_only=True)
        state.restore(kept)
    except (OSError, RuntimeError, LookupError, ValueError, EOFError, UnpicklingError) as error:
        _log.warning("training starts again: %s cannot be read (%s)", file, error)
    else:
        _log.info("training goes on at step %d", state.step)
