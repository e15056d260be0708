"""The same network from random weights: all that the data alone give it, and what transfer bought.

Every weight learns, batch statistics too, by the loop of `finetuning.tuning.training`, with the
rates of a network that knows nothing, on random pieces of photos and mixtures of two of them.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from catalog.errors import ConversionError
from converters.backbone import Network, TorchBackbone
from converters.interface import EMBEDDING
from converters.registry import random_backbone
from finetuning import lineage
from finetuning.estimate import duration
from finetuning.probe import Probe, Work
from finetuning.tuning.learner import Head, Learner, Likeness
from finetuning.tuning.logs import logged, told
from finetuning.tuning.planning import step_seconds
from finetuning.tuning.strategy import attends, device_of, examples_of, network_of
from finetuning.tuning.training import Recipe, scores, train
from finetuning.tuning.views import Live

_SEEN = 10_000  # examples that are seen in training, all of them together
_RATE, _ATTENDING = 2e-3, 5e-4  # of convolutions, and of attention
_BATCH = 32


def answers(work: Work, probe: Probe, seconds: float | None) -> NDArray[Any]:
    """What the network says of the held-out examples after training on the others from nothing.

    It sees 10,000 examples, or as many as ``seconds`` allow.

    Raises:
        ConversionError: torch has no such network, or there is one example to learn from.
        TlhubError: it cannot be trained: memory is too small, or the loss is no number.
    """
    train_part, test = work.train, work.test
    count = len(train_part.examples)
    if count < 2:
        raise ConversionError("one example is too few to train on from random weights")
    backbone, learn = examples_of(work, probe, fresh(work), train_part)
    _, held = examples_of(work, probe, backbone, test)
    objective, truth = work.objective, work.truth(train_part)
    lesson = objective.lesson(truth)
    device = device_of(work)
    batch = min(16 if count < 500 else _BATCH, count)
    views = Live(learn, device)
    upper = _Embedding(backbone.module.requires_grad_(True)).to(device)
    targets = torch.from_numpy(lesson.targets(truth))
    spread = _spread(upper, views, batch)
    if objective.kind == "embedding":
        head: Head = _likeness(*spread, classes=int(targets.max()) + 1, seed=work.seed)
    else:
        head = _head(*spread, columns=len(objective.names))
    learner = Learner(upper, head).to(device)
    learner.to(memory_format=torch.channels_last)
    steps = math.ceil(_SEEN / batch)
    each_s = step_seconds(backbone.module, learn, device) * batch
    if seconds:
        steps = max(1, min(steps, int(seconds / each_s)))
    work.progress(f"training from random weights ({steps} steps, {duration(steps * each_s)})")
    rate = _ATTENDING if attends(work.base) else _RATE
    recipe = Recipe(
        steps=steps, batch=batch, rate=rate, lowest=1.0, head_rate=rate, weight_decay=0.05
    )
    learner.train()
    with logged(work.engine.tensorboard) as log:
        train(
            learner,
            views,
            targets,
            recipe,
            lesson=lesson,
            seed=work.seed,
            until=time.monotonic() + 2 * seconds if seconds else math.inf,
            progress=told(work.progress, log, "from scratch"),
        )
    factors, shifts = lesson.units
    work.progress(f"asking it of {len(test.examples)} held out")
    said = scores(learner.eval(), Live(held, device), np.arange(len(test.examples)))
    return objective.said(said.double().numpy() * factors + shifts)


class _Embedding(torch.nn.Module):
    """A network of which the embedding alone is asked."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self._place = network.outputs.index(EMBEDDING)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.network(*tensors)[self._place],)


def fresh(work: Work) -> TorchBackbone:
    """The network of the base with random weights.

    Raises:
        ConversionError: torch has no such network.
    """
    if work.dataset.modality == "image":
        return random_backbone(lineage.network_of(work.base).record, work.seed)
    backbone = network_of(work.base)
    _draw(backbone.module.model, work.seed)
    return backbone


def _draw(model: torch.nn.Module, seed: int) -> None:
    """Random weights as BERT began with them, norms that do nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.02, generator=generator)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)


def _spread(upper: _Embedding, views: Live, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean and the spread of the vectors of the fresh network."""
    with torch.no_grad():
        (said,) = upper.train()(*views.batch(np.arange(batch), -1))
    vectors = said.float().cpu()
    scale = vectors.std(0)
    return vectors.mean(0), scale.clamp_min(max(float(scale.max()) * 1e-3, 1e-12))


def _head(mean: torch.Tensor, scale: torch.Tensor, *, columns: int) -> Head:
    """A head that says nothing yet."""
    weight, bias = torch.zeros(columns, len(mean)), torch.zeros(columns)
    return Head(_as_they_are, weight, bias, mean, scale)


def _likeness(mean: torch.Tensor, scale: torch.Tensor, *, classes: int, seed: int) -> Likeness:
    """The vectors in units of their spread, to be compared with random ones of each class."""
    drawn = torch.randn(classes, len(mean), generator=torch.Generator().manual_seed(seed))
    weight, bias = torch.diag(1 / scale), -mean / scale
    return Likeness(drawn, _as_they_are, weight, bias, mean, scale)


def _as_they_are(vectors: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
    return vectors
