"""How well examples find others of their class by the likeness of their vectors.

Every example asks for the others, the nearest first by cosine. What belongs to it within its class
(its group, near copies of it) is neither right nor wrong, and an example whose class has nothing
else asks for nothing. Of very many a sample asks, the same one every time. R is how many others of
its class there are: precision at R and average precision at R look at so many (Musgrave, Belongie
and Lim, "A metric learning reality check", 2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetuning.calibration import Labels
from finetuning.ridge import Floats, unit

ASKED = 5000  # examples, more of which would say the same
_AT_ONCE = 512  # questions
_TIED = 1e-9  # cosines no farther apart are the same


@dataclass(frozen=True)
class Found:
    """What each example (N,) found; NaN where it did not ask, or has nothing to find."""

    first: Floats  # whether the nearest is of its class, of several as near the share that is
    within: dict[int, Floats]  # whether one of so many nearest is
    precision: Floats  # of the nearest R, the share that is of its class
    average: Floats  # the mean over the nearest R of the precision down to each that is right


def first(vectors: NDArray[np.floating], y: Labels, member: Labels) -> Floats:
    """Whether the nearest of each (N, D) is of its class, of several as near the share that is.

    ``y`` (N,) are the classes, and ``member`` (N,) what belongs together.
    """
    found = np.full(len(y), np.nan)
    for places, alike, same in _asked(vectors, y, member):
        found[places] = _nearest(alike, same)
    return found


def search(
    vectors: NDArray[np.floating], y: Labels, member: Labels, within: tuple[int, ...] = (5, 10)
) -> Found:
    """All of it, for vectors (N, D), their classes (N,) and what belongs together (N,)."""
    rates = np.full((3 + len(within), len(y)), np.nan)
    for places, alike, same in _asked(vectors, y, member):
        rates[:, places] = [_nearest(alike, same), *_ranked(alike, same, within)]
    nearest, precision, average, *hits = rates
    return Found(nearest, dict(zip(within, hits, strict=True)), precision, average)


def nearest(
    vectors: NDArray[np.floating], y: Labels, member: Labels
) -> dict[int, tuple[int, float]]:
    """By the place of each that asks that of the nearest, if there is one, and its cosine."""
    found: dict[int, tuple[int, float]] = {}
    for places, alike, _ in _asked(vectors, y, member):
        best = alike.argmax(axis=1)
        likeness = alike[np.arange(len(places)), best]
        pairs = zip(best.tolist(), likeness.tolist(), strict=True)
        found |= {
            place: pair
            for place, pair in zip(places.tolist(), pairs, strict=True)
            if np.isfinite(pair[1])
        }
    return found


def pairs(vectors: Floats, y: Labels, member: Labels) -> tuple[Floats, Floats]:
    """The cosines of all pairs of one class, and of all others."""
    alike: list[Floats] = []
    other: list[Floats] = []
    for places, cosines, same in _asked(vectors, y, member):
        later = np.arange(len(y)) > places[:, None]  # each pair once
        alike.append(cosines[same & later])
        other.append(cosines[~same & later & np.isfinite(cosines)])
    return np.concatenate(alike), np.concatenate(other)


def _asked(
    vectors: NDArray[np.floating], y: Labels, member: Labels
) -> Iterator[tuple[Labels, Floats, NDArray[np.bool_]]]:
    """Places of some, their cosines with all (-inf with their own), and what is of their class."""
    rows = unit(vectors.astype(np.float64))
    asking = np.arange(len(rows))
    if len(rows) > ASKED:
        asking = np.sort(np.random.default_rng(0).permutation(len(rows))[:ASKED])
    for places in np.split(asking, range(_AT_ONCE, len(asking), _AT_ONCE)):
        same = y[places, None] == y
        own = same & (member[places, None] == member)
        yield places, np.where(own, -np.inf, rows[places] @ rows.T), same & ~own


def _nearest(alike: Floats, same: NDArray[np.bool_]) -> Floats:
    near = alike >= alike.max(axis=1, keepdims=True) - _TIED
    near &= np.isfinite(alike)
    share = (near & same).sum(axis=1) / np.maximum(near.sum(axis=1), 1)
    found: Floats = np.where(same.any(axis=1), share, np.nan)
    return found


def _ranked(alike: Floats, same: NDArray[np.bool_], within: tuple[int, ...]) -> list[Floats]:
    """Precision and average precision at R, and whether one of so many is right."""
    others = same.sum(axis=1)
    deep = min(max(int(others.max(initial=1)), *within), alike.shape[1])
    order = np.argpartition(-alike, deep - 1, axis=1)[:, :deep]
    sorted_ = np.argsort(-np.take_along_axis(alike, order, 1), axis=1, kind="stable")
    right = np.take_along_axis(same, np.take_along_axis(order, sorted_, 1), 1)
    ranks = np.arange(1, deep + 1)
    counted = right & (ranks <= others[:, None])
    precisions = np.cumsum(right, axis=1) / ranks
    most = np.maximum(others, 1)
    none = others == 0
    rates = [
        counted.sum(axis=1) / most,
        (precisions * counted).sum(axis=1) / most,
        *(right[:, :count].any(axis=1).astype(np.float64) for count in within),
    ]
    return [np.where(none, np.nan, rate) for rate in rates]
