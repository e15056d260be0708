"""A head with one hidden layer: small networks side by side, whose scores are averaged.

They learn from mixtures of two examples (Zhang et al., "mixup: Beyond Empirical Risk
Minimization", 2018), in the principal directions of standardized features, on one core: the same
data give the same weights. What they are taught is the objective's `Lesson`, as a network that is
trained through is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from finetuning.objectives.lesson import Lesson
from finetuning.objectives.objective import Truth
from finetuning.ridge import Floats, Scale

if TYPE_CHECKING:
    import torch

FEWEST = 100  # examples; of fewer it learns worse than a linear head

_NETWORKS, _WIDTH = 4, 128
_DIRECTIONS = 256  # of the features, at most
_EPOCHS, _BATCH, _STEPS = 20, 64, 2000
_RATE, _DECAY, _WARM = 2e-3, 1e-2, 0.1  # the last a share of the steps
_BETAS, _LEAST = (0.9, 0.999), 1e-8
_START = 0.1  # of the usual size of the weights of the scores


@dataclass(frozen=True)
class Layers:
    """``relu(x @ hidden.T + shifts) @ weight.T + bias`` are scores, for features as they are."""

    hidden: Floats  # (W, D)
    shifts: Floats  # (W,)
    weight: Floats  # (K, W)
    bias: Floats  # (K,)


def fit(x: NDArray[np.floating], y: Truth, lesson: Lesson, columns: int) -> Layers:
    """What is learned of features (N, D) and their truth, to give so many scores of each."""
    scale = Scale.of(x)
    rows = scale(x)
    basis = _directions(rows)
    rows = rows @ basis.T
    size = np.sqrt((rows**2).mean()) or 1.0
    with _one_core():
        w1, b1, w2, b2 = _trained(rows / size, lesson.targets(y), lesson, columns)
    hidden = np.concatenate([*w1.transpose(0, 2, 1)]) @ basis / size
    hidden, shifts = scale.folded(hidden, b1.ravel())
    factors, units = lesson.units
    weight = np.concatenate([*w2]).T / _NETWORKS
    return Layers(hidden, shifts, weight * factors[:, None], b2.mean(axis=(0, 1)) * factors + units)


def _directions(rows: Floats) -> Floats:
    """The principal directions (R, D) of rows (N, D), the widest first."""
    kept = min(_DIRECTIONS, *rows.shape)
    if len(rows) <= rows.shape[1]:
        values, vectors = np.linalg.eigh(rows @ rows.T)
        some = values[-kept:] > 1e-9 * values[-1]
        values, vectors = values[-kept:][some], vectors[:, -kept:][:, some]
        found: Floats = (vectors / np.sqrt(values)).T @ rows
        return found[::-1]
    return np.linalg.eigh(rows.T @ rows)[1][:, -kept:].T[::-1]


def _trained(
    rows: Floats, targets: Truth, lesson: Lesson, columns: int
) -> tuple[Floats, Floats, Floats, Floats]:
    import torch

    random = torch.Generator().manual_seed(0)
    x, wanted = torch.from_numpy(rows).float(), torch.from_numpy(targets)
    count, width = x.shape

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(_NETWORKS, *shape, generator=random)

    learned = [
        drawn(width, _WIDTH) * (2 / width) ** 0.5,
        torch.zeros(_NETWORKS, 1, _WIDTH),
        drawn(_WIDTH, columns) * _START * _WIDTH**-0.5,
        torch.zeros(_NETWORKS, 1, columns),
    ]
    for tensor in learned:
        tensor.requires_grad_()
    w1, b1, w2, b2 = learned
    batch = min(_BATCH, count)
    steps = min(_EPOCHS * (count // batch), _STEPS)
    moments = [(torch.zeros_like(tensor), torch.zeros_like(tensor)) for tensor in learned]
    order = torch.zeros(0, dtype=torch.long)
    for step in range(1, steps + 1):
        if len(order) < batch:
            order = torch.randperm(count, generator=random)
        places, order = order[:batch], order[batch:]
        others = places[torch.randperm(batch, generator=random)]
        share = float(torch.rand(1, generator=random))
        mixed = share * x[places] + (1 - share) * x[others]
        said = (torch.relu(mixed @ w1 + b1) @ w2 + b2).flatten(0, 1)
        own, other = (
            lesson.losses(said, wanted[these].repeat(_repeats(wanted)), smoothing=0).mean()
            for these in (places, others)
        )
        loss = share * own + (1 - share) * other
        slopes = torch.autograd.grad(loss * _NETWORKS, learned)
        with torch.no_grad():
            for tensor, slope, (first, second) in zip(learned, slopes, moments, strict=True):
                _step(tensor, slope, first, second, step, step / steps)
    return tuple(tensor.detach().double().numpy() for tensor in learned)


def _step(
    tensor: torch.Tensor,
    slope: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    step: int,
    done: float,
) -> None:
    """AdamW (Loshchilov and Hutter, 2019): torch's own takes a second to import the compiler."""
    rate = _RATE * (done / _WARM if done < _WARM else (1 + np.cos(np.pi * done)) / 2)
    first.lerp_(slope, 1 - _BETAS[0])
    second.mul_(_BETAS[1]).addcmul_(slope, slope, value=1 - _BETAS[1])
    scale = (second / (1 - _BETAS[1] ** step)).sqrt_().add_(_LEAST)
    tensor.mul_(1 - rate * _DECAY)
    tensor.addcdiv_(first, scale, value=-rate / (1 - _BETAS[0] ** step))


def _repeats(wanted: torch.Tensor) -> tuple[int, ...]:
    """For each network the same targets."""
    return (_NETWORKS, *(1 for _ in wanted.shape[1:]))


@contextmanager
def _one_core() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
