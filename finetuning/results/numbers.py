"""How well numbers are told: R2, how far off they are, and margins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from finetuning.evaluation import HeldOut, Metrics
from finetuning.objectives.numbers import Numbers, NumberTrust, mean_error, r2, root_error
from finetuning.objectives.objective import Scorer, interval
from finetuning.ridge import Floats
from finetuning.scores import Score


class Margin(msgspec.Struct, frozen=True, kw_only=True):
    """How far off a number is at most, for most of what was not learned from."""

    share: float  # of the training examples left out in turn
    margin: float
    held_out_share: float


class NumberResult(msgspec.Struct, frozen=True, kw_only=True):
    """How well one number is told of the held-out images, in its own unit; intervals are 95 %."""

    name: str
    mae: float  # mean absolute error
    mae_interval: tuple[float, float]
    rmse: float  # root of the mean squared error
    rmse_interval: tuple[float, float]
    r2: float | None  # None where the held-out numbers are all the same
    r2_interval: tuple[float, float] | None
    mean: float  # of the training images
    spread: float  # their standard deviation
    least: float
    most: float
    margin: Margin | None


class NumberMistake(msgspec.Struct, frozen=True, kw_only=True):
    """A held-out image, and by how much a number was off."""

    file: str
    name: str
    value: float
    predicted: float


class NumberMetrics(Metrics, frozen=True, kw_only=True, tag="regression"):
    """`metrics.json` of numbers."""

    numbers: tuple[NumberResult, ...]
    mistakes: tuple[NumberMistake, ...]  # the worst first, by each number's spread
    points: tuple[tuple[tuple[float, float], ...], ...]  # by number: true and predicted

    @property
    def worst(self) -> tuple[str, ...]:
        """The examples of the mistakes."""
        return tuple(dict.fromkeys(item.file for item in self.mistakes))

    def figures(self) -> dict[str, float]:
        """R2, and the errors where there is one number."""
        found = {"r_squared": self.score.value}
        if len(self.numbers) == 1:
            found |= {"mae": self.numbers[0].mae, "rmse": self.numbers[0].rmse}
        return found

    def summary(self) -> dict[str, Any]:
        """The figures of each number."""
        return {"numbers": [msgspec.to_builtins(item) for item in self.numbers]}


_POINTS = 500  # are enough for a picture
_MISTAKES = 100


def metrics(shared: Mapping[str, Any], held: HeldOut, objective: Numbers) -> NumberMetrics:
    """What was measured, with what is ``shared`` by all kinds."""
    scorer = objective.scorer(held.answers, held.truth)
    return NumberMetrics(
        **shared,
        score=Score(
            measure=objective.measure,
            value=scorer(None),
            interval=interval([scorer], len(held.truth), seed=held.seed),
        ),
        numbers=tuple(_result(held, n, name) for n, name in enumerate(objective.names)),
        mistakes=_mistakes(held, objective),
        points=tuple(
            tuple(zip(true.tolist(), said.tolist(), strict=True))
            for true, said in zip(held.truth[:_POINTS].T, held.answers[:_POINTS].T, strict=True)
        ),
    )


def _result(held: HeldOut, n: int, name: str) -> NumberResult:
    said, true, learned = held.answers[:, n], held.truth[:, n], held.learned[:, n]
    apart = np.abs(said - true)

    mae, rmse = mean_error(apart), root_error(apart)

    def explained(weights: Floats | None) -> float:
        return float(r2(said[:, None], true[:, None], weights)[0])

    def within(scorer: Scorer) -> tuple[float, float]:
        return interval([scorer], len(true), seed=held.seed)

    known = bool(np.isfinite(explained(None)))
    margin = None
    if isinstance(held.trust, NumberTrust):
        value = held.trust.margins[n]
        margin = Margin(
            share=held.trust.share, margin=value, held_out_share=float((apart <= value).mean())
        )
    return NumberResult(
        name=name,
        mae=mae(None),
        mae_interval=within(mae),
        rmse=rmse(None),
        rmse_interval=within(rmse),
        r2=explained(None) if known else None,
        r2_interval=within(explained) if known else None,
        mean=float(learned.mean()),
        spread=float(learned.std()),
        least=float(learned.min()),
        most=float(learned.max()),
        margin=margin,
    )


def _mistakes(held: HeldOut, objective: Numbers) -> tuple[NumberMistake, ...]:
    spread = held.learned.std(axis=0)
    apart = np.abs(held.answers - held.truth) / np.where(spread > 0, spread, 1)
    worst = np.argsort(-apart, axis=None, kind="stable")[:_MISTAKES]
    rows, columns = np.unravel_index(worst, apart.shape)
    return tuple(
        NumberMistake(
            file=held.examples[row].name,
            name=objective.names[column],
            value=float(held.truth[row, column]),
            predicted=float(held.answers[row, column]),
        )
        for row, column in zip(rows, columns, strict=True)
    )
