"""What training through a network was tried, and what came of it."""

from __future__ import annotations

import msgspec


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One way of training, judged on training examples it did not see."""

    boundary: str  # what lies above this layer was trained; "" for all
    params: int  # that were trained
    accuracy: float
    loss: float  # log loss
    gain: float  # of accuracy, over the fitted head
    error: float  # the standard error of that
    between: float  # the part of the way from the head's network that was best
    seconds: float
    steps: int
    kept: bool = False


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried, and why it was kept or not."""

    head_accuracy: float | None  # of the fitted head on the same examples
    head_loss: float | None
    attempts: tuple[Attempt, ...]
    said: str  # the outcome in one sentence
    losses: tuple[float, ...] = ()  # of the steps of the training that was kept


def untried(said: str) -> Evidence:
    """Nothing was tried, for a reason."""
    return Evidence(head_accuracy=None, head_loss=None, attempts=(), said=said)
