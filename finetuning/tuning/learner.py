"""What learns: the upper part of a network, and a head that starts as the one that was fitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

_TEMPERATURE = 0.15  # that cosines are divided by


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
        """Scores (N, classes) of a layer's tensor, and of the masks that go with it."""
        vectors = (self.pool(*tensors) - self.mean) / self.scale
        return functional.linear(vectors, self.weight, self.bias)

    def taught(self, *tensors: torch.Tensor) -> torch.Tensor:
        """What the loss is of (N, classes), for the same tensors."""
        scores: torch.Tensor = self(*tensors)
        return scores

    def soften(self, share: float) -> None:
        """Leave only so much of how what it says differs from what it says on average."""
        with torch.no_grad():
            self.weight.mul_(share)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias for vectors as they are."""
        weight = (self.weight / self.scale).detach()
        return weight, (self.bias.detach() - weight @ self.mean)


class Likeness(Head):
    """A head whose vectors (N, R) come near one of their class, which learns with them.

    Zhai and Wu, "Classification is a strong baseline for deep metric learning", 2019.
    """

    def __init__(self, prototypes: torch.Tensor, *args: Any) -> None:
        super().__init__(*args)
        self.prototypes = torch.nn.Parameter(prototypes)

    def taught(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Cosines with the prototypes, of a slope that a softmax tells apart."""
        vectors, of_classes = (functional.normalize(x) for x in (self(*tensors), self.prototypes))
        return functional.linear(vectors, of_classes) / _TEMPERATURE

    def soften(self, share: float) -> None:
        """Cosines are as soft as they are."""


class Learner(torch.nn.Module):
    """The upper part of a network and a head on it."""

    def __init__(self, upper: torch.nn.Module, head: Head) -> None:
        super().__init__()
        self.upper, self.head = upper, head

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Scores (N, classes) of what the upper part takes: a boundary's tensor, then masks."""
        scores: torch.Tensor = self.head(*self.upper(*tensors), *tensors[1:])
        return scores

    def taught(self, *tensors: torch.Tensor) -> torch.Tensor:
        """What the loss is of (N, classes), for the same tensors."""
        return self.head.taught(*self.upper(*tensors), *tensors[1:])

    def learned(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that learn, by name."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of them."""
        return {name: value.detach().clone() for name, value in self.learned().items()}
