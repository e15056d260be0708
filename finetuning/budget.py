"""How long training may take, as people say it."""

from __future__ import annotations

import re

from catalog.errors import UsageError

FAST, AUTO = "fast", "auto"
RANK, _MOST_RANK = 8, 1024  # of low-rank adapters

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_SAID = re.compile(r"(\d+(?:\.\d+)?)\s*([smh])")


def seconds_of(budget: str) -> float | None:
    """Seconds for training through the network: 0 for ``fast``, None for ``auto``; or ``10m``.

    Raises:
        UsageError: it is none of these.
    """
    if budget in {FAST, AUTO}:
        return 0.0 if budget == FAST else None
    found = _SAID.fullmatch(budget.strip().lower())
    if found is None or float(found[1]) == 0:
        raise UsageError(
            f"a budget of {budget!r} makes no sense",
            hint="write fast (a new head alone), auto, or a time such as 90s, 10m or 2h",
        )
    return float(found[1]) * _UNITS[found[2]]


def rank_of(unfreeze: str) -> int:
    """The rank of the adapters that ``lora`` or ``lora:16`` asks for; 0 for anything else.

    Raises:
        UsageError: it makes no sense.
    """
    name, colon, rank = unfreeze.lower().partition(":")
    if name != "lora":
        return 0
    if not colon:
        return RANK
    if not rank.isdecimal() or not 0 < int(rank) <= _MOST_RANK:
        raise UsageError(
            f"adapters of rank {rank!r} make no sense",
            hint=f"--unfreeze lora takes {RANK}; lora:4 to lora:64 are usual",
        )
    return int(rank)
