"""What training through a network was tried, and what came of it."""

from __future__ import annotations

import msgspec


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One way of training, judged on training examples it did not see."""

    boundary: str  # what lies above this layer was trained; "" for all
    params: int  # that were trained
    score: float  # as the evidence measures it
    loss: float
    gain: float  # how much better the score is than that of the fitted head
    error: float  # the standard error of that
    between: float  # the part of the way from the head's network that was best
    seconds: float
    steps: int
    kept: bool = False
    rank: int = 0  # of the low-rank adapters that learned; 0: the weights themselves did


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried, and why it was kept or not."""

    measure: str | None = None  # what a score is, on training examples that were held back
    is_share: bool = True  # of what is right; else how far off, of which less is better
    loss_measure: str | None = None  # what a loss is
    head_score: float | None = None  # of the fitted head on the same examples
    head_loss: float | None = None
    attempts: tuple[Attempt, ...] = ()
    said: str  # the outcome in one sentence
    losses: tuple[float, ...] = ()  # of the steps of the training that was kept


def untried(said: str) -> Evidence:
    """Nothing was tried, for a reason."""
    return Evidence(said=said)
