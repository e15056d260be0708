"""What labelling more examples is worth, read off the end of a learning curve.

Errors fall with the number of training examples about as a power of it (Hestness et al., "Deep
learning scaling is predictable, empirically", 2017). The power is fitted to the last points of the
curve and followed a little way on; a bootstrap of the held-out examples and of the draws says how
far that can be trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from finetuning.calibration import Labels
from finetuning.objectives.objective import Scorer
from finetuning.ridge import Floats

_LAST = 3  # points of the curve
_DRAWS = 300
_LEAST = 1e-3  # error: below, its logarithm says nothing
_ROUND = (5, 2, 1)


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """What ``more`` labelled examples, over all classes, would add to the held-out score."""

    more: int
    gain: float  # as a fraction
    interval: tuple[float, float]  # 95 %


def worth(
    scorers: Mapping[int, Sequence[Scorer]],
    held_out: int,
    *,
    seed: int,
    clusters: Labels | None = None,
) -> Worth | None:
    """By heads that learned from so many examples, several of each number.

    Of the ``held_out`` ones examples are drawn, or their ``clusters``.

    None where there are too few points to follow.
    """
    sizes = sorted(scorers)[-_LAST:]
    if len(sizes) < _LAST:
        return None
    more = _round(sizes[-1])
    random = np.random.default_rng(seed)

    def followed(weights: Floats | None) -> float:
        errors = []
        for size in sizes:
            some = list(scorers[size])
            if weights is not None:
                some = [some[n] for n in random.integers(0, len(some), len(some))]
            errors.append(1 - float(np.mean([score(weights) for score in some])))
        return _gain(np.array(sizes, float), np.array(errors), more)

    of = np.arange(held_out) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    count = int(of.max()) + 1
    gains = [
        followed(random.multinomial(count, np.full(count, 1 / count)).astype(float)[of])
        for _ in range(_DRAWS)
    ]
    low, high = np.quantile(gains, [0.025, 0.975])
    return Worth(more=more, gain=followed(None), interval=(float(low), float(high)))


def _gain(sizes: NDArray[np.float64], errors: NDArray[np.float64], more: int) -> float:
    """How much the error falls when its power law, from the last point on, is followed."""
    x, y = np.log(sizes), np.log(np.maximum(errors, _LEAST))
    slope = float(np.polyfit(x, y, 1)[0])
    return float(errors[-1] * (1 - (1 + more / sizes[-1]) ** slope))


def _round(size: int) -> int:
    """The greatest of 1, 2 and 5 times a power of ten that is not over ``size``."""
    power: int = 10 ** (len(str(size)) - 1)
    return next(mark * power for mark in _ROUND if mark * power <= size)
