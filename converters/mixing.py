"""Which layers of a network stay in float: found by measuring what each costs in accuracy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx

from catalog.errors import ConversionError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mixed:
    """A network in two precisions."""

    network: onnx.ModelProto
    float_layers: tuple[str, ...]  # in their order
    error: float


def mixed(
    parts: Mapping[str, Sequence[str]],
    build: Callable[[Collection[str]], onnx.ModelProto],
    error: Callable[[onnx.ModelProto], float],
    *,
    tolerance: float,
    budget_s: float,
    progress: Callable[[str], None] = lambda _: None,
) -> Mixed:
    """The network with as few layers in float as it takes to keep ``error`` within tolerance.

    ``build`` makes it with the nodes of these names in float. Each layer is tried alone, all others
    in float; then the worst are left in float, one after the other, each step measured as a whole.
    When the time is over, the best so far is taken; it is for the caller to judge.

    Raises:
        ConversionError: most of the layers would have to stay in float.
    """
    started = time.monotonic()
    best = Mixed(build(()), (), 0.0)
    best = Mixed(best.network, (), error(best.network))
    progress(f"with no layer in float the outputs are off by {best.error:.2%}")
    if best.error <= tolerance:
        return best
    alone: dict[str, float] = {}
    for number, (layer, nodes) in enumerate(parts.items(), 1):
        if time.monotonic() - started > budget_s / 2:
            _log.warning("%d of %d layers were tried in the time", number - 1, len(parts))
            break
        progress(f"trying layer {number} of {len(parts)}, {layer}")
        others = {name for part in parts.values() for name in part} - {*nodes}
        alone[layer] = error(build(others))
    worst = sorted(alone, key=lambda layer: -alone[layer])[: max(1, len(parts) // 2)]
    floats: list[str] = []
    for layer in worst:
        floats.append(layer)
        network = build({name for kept in floats for name in parts[kept]})
        seen = error(network)
        progress(f"left {layer} in float: the outputs are off by {seen:.1%}")
        if seen < best.error:
            kept = tuple(name for name in parts if name in floats)
            best = Mixed(network, kept, seen)
        if best.error <= tolerance:
            return best
        if time.monotonic() - started > budget_s:
            _log.warning("the time is over with the outputs off by %.1f %%", best.error * 100)
            return best
    raise ConversionError(
        f"with {len(worst)} of {len(parts)} layers in float the outputs are still off by "
        f"{best.error:.1%}, more than {tolerance:.0%}",
        hint="calibrate with photos like those it is for: --calibrate DIR",
    )
