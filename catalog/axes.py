"""Axes of a plot: from values to a place between 0 and 1, with ticks at sensible numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_DECADES = 20  # how many times the least the greatest must be for a logarithmic axis
_TICKS = 7
_SAME = 1e-11  # apart, at most, or a billionth


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high``; ``ticks`` lie within."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Where ``value`` is: 0 at ``low``, 1 at ``high``."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def axis(values: Sequence[float], *, percent: bool = False) -> Axis:
    """The axis that has all of ``values``, logarithmic where they are not percent and span decades.

    A linear axis starts and ends at a tick.
    """
    low, high = min(values), max(values)
    if not percent and low > 0 and high / low >= _DECADES:
        margin = (high / low) ** 0.03
        low, high = low / margin, high * margin
        return Axis(low, high, log=True, ticks=_log_ticks(low, high))
    if math.isclose(low, high, abs_tol=_SAME):
        middle = low if abs(low) > _SAME else 0.0
        low, high = middle - (abs(middle) or 1) / 2, middle + (abs(middle) or 1) / 2
    step = _step((high - low) / _TICKS)
    first, last = math.floor(low / step), math.ceil(high / step)
    ticks = tuple(round(i * step, 12) for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], log=False, ticks=ticks)


def _step(rough: float) -> float:
    """The least of 1, 2 and 5 times a power of ten that is not under ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    decades = math.log10(high / low)
    marks = (1, 2, 5) if decades <= 3 else (1,)
    every = max(1, math.ceil(decades / _TICKS))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = (float(f"{mark}e{power}") for power in powers if power % every == 0 for mark in marks)
    return tuple(tick for tick in ticks if low <= tick <= high)
