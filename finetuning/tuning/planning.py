"""What is to be learned, from which layer on, and for how long, as far as the time allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from catalog.errors import UsageError
from converters.backbone import Network, TorchBackbone
from finetuning.heads import FittedHead
from finetuning.objectives.lesson import Lesson
from finetuning.objectives.objective import Truth
from finetuning.ranks import ALONE, Ranks
from finetuning.ridge import Floats
from finetuning.stages import Stage, shares_of
from finetuning.tuning.division import Traced
from finetuning.tuning.pooling import layers_of
from finetuning.tuning.texts import Texts
from finetuning.tuning.training import Recipe
from finetuning.tuning.views import Examples, fast

Fit = Callable[[NDArray[np.float32], Truth], FittedHead]
# What the head that was chosen, fitted on some places, says of others, in units of the lesson.
Chosen = Callable[[NDArray[np.int64], NDArray[np.int64]], Floats]

_SHARES = (0.12, 0.35)  # of the products that the upper part is to have, before all of it
_VIEWS = 5  # of each picture, the picture itself among them
_SEEN = 6000  # examples that are seen in training, where there are few
_EPOCHS, _READINGS = 40, 7  # at most; of pictures, cut anew, and of texts, the same every time
_PARTS, _JUDGES = 4, 100  # that judge in turn, at most; and examples that are enough to judge
_MOST_BYTES = 2 << 30  # of what the lower part says
_STEP = 3.5  # forward passes that a step takes as long as, at most
_RATE, _ATTENDING = 5e-4, 5e-5  # of convolutions, and of attention, which the former ruins
_LOWEST = 0.3  # of the rate, next to the boundary; attention learns alike at every depth
_ADAPTER_RATE = 2e-3  # of low-rank adapters, at every depth
PROBED = 8  # pictures that tell how fast the network is


@dataclass(frozen=True)
class Task:
    """What is to be learned: a backbone, the stages that its head is on, and labelled examples."""

    backbone: TorchBackbone
    stages: tuple[Stage, ...]  # that the head is on, from the input on
    examples: Examples  # those to train on
    truth: Truth
    lesson: Lesson
    strata: Sequence[Sequence[int]]  # that each example is of, for a part of all to be held back
    groups: tuple[str, ...]  # examples of one are all held back or none
    features: NDArray[np.float32]  # of the examples as they are, as the backbone gave them
    fit: Fit  # a head for features and their truth, which says it in the units of the lesson
    device: torch.device
    chosen: Chosen | None = None  # what training has to beat; None: what `fit` gives
    ranks: Ranks = ALONE
    attends: bool = False  # as a transformer does
    rank: int = 0  # of low-rank adapters that learn in the place of weights; 0: weights learn

    @property
    def layers(self) -> tuple[str, ...]:
        """Whose tensors the head is given."""
        return layers_of(self.stages)

    @property
    def ascends(self) -> bool:
        """Whether the stages are in the order of the network, each once; those of a run may not."""
        names = [layer.name for layer in self.backbone.layers()]
        order = [names.index(s.layer) if s.layer in names else len(names) for s in self.stages]
        return order == sorted(order) and len({*self.stages}) == len(order)

    def above(self, traced: Traced, boundary: str) -> Task:
        """The same, with the head on the last stage alone where another lies below a boundary."""
        reaches = not boundary or boundary in traced.boundaries(self.layers[0])
        return self if reaches else self.on_last()

    def on_last(self) -> Task:
        """The same with the head on the last stage alone."""
        shapes = {layer.name: layer.shape for layer in self.backbone.layers()}
        before = sum(shapes[s.layer][0 if s.pool == "maps" else -1] for s in self.stages[:-1])
        return replace(self, stages=self.stages[-1:], features=self.features[:, before:])

    @property
    def reads(self) -> bool:
        """Whether the examples are texts."""
        return isinstance(self.examples, Texts)


def ways(traced: Traced, task: Task, unfreeze: str) -> Iterator[str]:
    """The boundaries to try; "" is the input.

    Unasked they are below all that the head is on, and come from the top down, as far as the time
    goes; of a network that attends, of which half learns half as much, all of it first, and less
    where there is no time for that.
    """
    below = list(traced.boundaries(task.layers[0 if unfreeze == "auto" else -1]))
    if unfreeze == "all" or task.rank:
        yield ""
    elif unfreeze.isdecimal():
        yield below[-int(unfreeze)] if 0 < int(unfreeze) <= len(below) else ""
    elif unfreeze != "auto":
        if unfreeze not in below:
            raise UsageError(
                f"the network cannot be trained from {unfreeze!r} on",
                hint=f"it can be divided at {', '.join(below)}",
            )
        yield unfreeze
    else:
        shares, whole = _shares(task)
        deep = [[name for name in below if 1 - shares[name] / whole >= s] for s in _SHARES]
        found = [*dict.fromkeys(names[-1] for names in deep if names), ""]
        yield from reversed(found) if task.attends else found


def _shares(task: Task) -> tuple[dict[str, float], float]:
    """The fraction of the network's products that is computed when a layer is; and the head."""
    found = shares_of(task.backbone.layers(), task.backbone.record)
    return found, found.get(task.layers[-1]) or 1.0


@dataclass(frozen=True)
class Plan:
    """How to train one way, and on how many views of each picture."""

    recipe: Recipe
    views: int  # kept of what the lower part says; 0: all goes through all of it in every step
    seconds: float  # that it takes, as far as one pass through the network tells


def plan_for(
    task: Task, boundary: str, pictures: int, seconds: float, *, named: bool
) -> Plan | None:
    """How long and on how many views to train, where the time allows as much; else None."""
    batch = max(16 if pictures < 500 else 32, 2 * task.ranks.world)  # a pair for each process
    epochs = min(_READINGS if task.reads else _EPOCHS, max(4, round(_SEEN / pictures)))
    steps = max(1, math.ceil(epochs * pictures / batch))
    shares, whole = _shares(task)
    forward_s = _forward_seconds(task.backbone.module, task.examples, task.device) * whole
    share = 1 - shares[boundary] / whole if boundary else 1.0
    views = min(1 if task.reads else _VIEWS, epochs) if boundary else 0
    while views and _bytes(task, boundary) * views * len(task.examples) > _MOST_BYTES:
        views -= 1
    through_lower = len(task.examples) * views or steps * batch
    taken_s = (
        forward_s * (through_lower * (1 - share) + steps * batch * _STEP * share) / task.ranks.world
    )
    if taken_s > seconds:
        fitting = int(steps * max(0.0, seconds) / taken_s)
        if fitting * batch < 2 * pictures and not named:
            return None
        taken_s *= max(fitting, 1) / steps
        steps = max(fitting, 1)
    rate, lowest = (_ATTENDING, 1.0) if task.attends else (_RATE, _LOWEST)
    recipe = Recipe(steps=steps, batch=batch, rate=rate, lowest=lowest, head_rate=rate)
    if task.rank:
        recipe = replace(recipe, rate=_ADAPTER_RATE, lowest=1.0, weight_decay=0.0)
    return Plan(recipe, views, taken_s)


def rounds_for(task: Task, boundaries: Sequence[str], learn: int, held: int, seconds: float) -> int:
    """How many parts of the examples judge in turn, of ``held`` each, where ``learn`` learn.

    As many as tell a few percent apart, where there is time for all that is tried, and to train
    the best of it once more on all.
    """
    wanted = min(_PARTS, math.ceil(_JUDGES / held))
    if wanted == 1 or task.lesson.together:
        return 1
    tried = boundaries[:1] if task.attends else boundaries
    plans = [plan_for(task, name, learn, math.inf, named=True) for name in tried]
    each_s = [plan.seconds for plan in plans if plan]
    last_s = max(each_s) * len(task.truth) / learn
    return min(wanted, max(1, int((seconds - last_s) / sum(each_s))))


def step_seconds(network: Network, examples: Examples, device: torch.device) -> float:
    """What an example takes in a step that trains all of the network."""
    return _STEP * _forward_seconds(network, examples, device)


def _forward_seconds(network: Network, examples: Examples, device: torch.device) -> float:
    """What one example takes in the network."""
    some = _typical(examples)
    batch = [fast(tensor.to(device)) for tensor in examples.batch(some, 0)]
    network = network.to(device)
    with torch.inference_mode():
        for _ in range(2):
            began = time.perf_counter()
            network(*batch)[0].cpu()  # which waits for a GPU
    return (time.perf_counter() - began) / len(some)


def _typical(examples: Examples) -> Sequence[int]:
    """A few that take as long as others.

    Texts are padded to the longest of half a batch, the shorter or the longer half: on average
    that is about the upper quartile.
    """
    count = min(PROBED, len(examples))
    if examples.lengths is None:
        return range(count)
    first = max(0, min(len(examples) * 3 // 4 - count // 2, len(examples) - count))
    places: list[int] = np.argsort(examples.lengths, kind="stable")[first : first + count].tolist()
    return places


def _bytes(task: Task, boundary: str) -> int:
    """Of what the lower part says of one view of one picture, or of a text as long as any."""
    shape = next(layer.shape for layer in task.backbone.layers() if layer.name == boundary)
    longest = task.examples.tensors[0].shape[1:] if isinstance(task.examples, Texts) else shape[:1]
    return 2 * math.prod((*longest, *shape[1:]))
