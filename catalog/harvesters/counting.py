"""Parameters and multiply-accumulates of an architecture, counted without its weights.

The module is built on torch's `meta` device, which has shapes and no numbers, so nothing is
downloaded or computed. Heavy: imports torch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

log = logging.getLogger(__name__)


class Counts(NamedTuple):
    """What was counted; ``gmacs`` is absent where a forward pass on `meta` is not possible."""

    params: int
    gmacs: float | None


def count(build: Callable[[], Any], input_size: tuple[int, ...]) -> Counts:
    """Count the module that ``build()`` makes, for one input of shape ``(1, *input_size)``.

    ``gmacs`` are 1e9 multiply-accumulates of convolutions, matrix products and attention:
    `torch.utils.flop_counter` counts two operations for each, so its figure is halved.

    Raises:
        Exception: whatever ``build`` raises on the `meta` device.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad():
        # A parameter that is itself an input would have the counter look for its gradient.
        module = build().eval().requires_grad_(False)
        params = sum(parameter.numel() for parameter in module.parameters())
        counter = FlopCounterMode(display=False)
        try:
            with counter:
                module(torch.empty(1, *input_size))
        except Exception as error:
            log.info("no multiply-accumulates counted at %s: %s", input_size, error)
            return Counts(params, None)
    macs = counter.get_total_flops() / 2
    return Counts(params, round(macs / 1e9, 4) if macs else None)


class CountCache:
    """Counts on disk, one JSON line each, so that a long build can go on where it stopped."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Counts | None] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                key, value = json.loads(line)
                self._known[key] = Counts(*value) if value else None

    def get(self, key: str, build: Callable[[], Any], input_size: tuple[int, ...]) -> Counts | None:
        """The counts under ``key``, counted now if they are not known; None if it cannot be."""
        if key not in self._known:
            try:
                found: Counts | None = count(build, input_size)
            except Exception as error:
                log.warning("%s cannot be counted: %s", key, error)
                found = None
            self._known[key] = found
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps([key, found]) + "\n")
        return self._known[key]
