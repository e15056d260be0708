"""Which training examples lie nearest to others, as the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from finetuning.features import Rows
from finetuning.ridge import Scale, unit

if TYPE_CHECKING:
    from finetuning.probe import Part, Probe


class Near(msgspec.Struct, frozen=True, kw_only=True):
    """A training example, and how alike it is."""

    file: str
    similarity: float  # cosine of standardized features


def nearest(
    train: Rows, names: Sequence[str], asked: Rows, *, count: int
) -> list[tuple[Near, ...]]:
    """Of each of the ``asked`` rows (N, D) the nearest of ``train`` (M, D), by name."""
    scale = Scale.of(train)
    rows, given = (unit(scale(x)) for x in (train, asked))
    alike = given @ rows.T
    order = np.argsort(-alike, axis=1, kind="stable")[:, :count]
    return [
        tuple(Near(file=names[n], similarity=round(float(alike[row, n]), 4)) for n in places)
        for row, places in enumerate(order.tolist())
    ]


def of_worst(
    frozen: Probe, train: Part, test: Part, worst: Sequence[str], *, count: int
) -> dict[str, tuple[Near, ...]]:
    """By its name the training examples that are nearest to each of the ``worst`` mistakes."""
    known = {example.name: example for example in test.examples}
    asked = [known[name] for name in worst]
    if not asked:
        return {}
    names = [example.name for example in train.examples]
    near = nearest(frozen.rows(train.examples), names, frozen.rows(asked), count=count)
    return dict(zip(worst, near, strict=True))
