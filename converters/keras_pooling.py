"""Average pooling of Keras at the borders, as its publishers' TensorFlow does it.

Keras' torch backend repeats the border where a layer with `padding="same"` needs more on one side
than on the other, and averages over what is not there: off by a tenth at stride 2 (Keras 3.15).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional

_KINDS = {f"AveragePooling{n}D" for n in (1, 2, 3)}


def mend(model: Any) -> None:
    """Have the average pooling layers of a model, inner ones too, average over what is there."""
    for layer in model._flatten_layers():
        pools = type(layer).__name__ in _KINDS and layer.padding == "same"
        if pools and layer.data_format == "channels_last":
            layer.call = partial(same_average, tuple(layer.pool_size), tuple(layer.strides))


def same_average(pool: Sequence[int], strides: Sequence[int], inputs: torch.Tensor) -> torch.Tensor:
    """The mean of each window of (N, ..., C) over the places that are within the input."""
    sides = inputs.shape[1:-1]
    margins: list[int] = []
    for side, size, step in reversed([*zip(sides, pool, strides, strict=True)]):
        missing = max((-(-side // step) - 1) * step + size - side, 0)
        margins += [missing // 2, missing - missing // 2]
    average: Any = getattr(functional, f"avg_pool{len(sides)}d")
    there = torch.ones((1, 1, *sides), dtype=inputs.dtype)
    total = average(functional.pad(inputs.movedim(-1, 1), margins), pool, strides)
    share = average(functional.pad(there, margins), pool, strides)
    mean: torch.Tensor = (total / share).movedim(1, -1)
    return mean
