"""The harvesters by name. Listing them imports none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

from catalog.errors import UsageError
from catalog.record import ModelRecord

Harvester = Callable[..., Iterator[ModelRecord]]

HARVESTERS: dict[str, str] = {
    "timm": "catalog.harvesters.timm",
    "torchvision": "catalog.harvesters.torchvision",
    "wheels": "catalog.harvesters.wheels",
}


def harvester(name: str) -> Harvester:
    """The ``harvest`` function of a source.

    Raises:
        UsageError: there is no such source.
    """
    if name not in HARVESTERS:
        raise UsageError(f"no harvester {name!r}", hint=f"one of: {', '.join(HARVESTERS)}")
    found: Harvester = import_module(HARVESTERS[name]).harvest
    return found
