"""Durations and sizes as people write them in options."""

from __future__ import annotations

import re

from catalog.errors import UsageError

_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def seconds_of(text: str) -> float:
    """Seconds of `30d`, `12h`, `90min`.

    Raises:
        UsageError: it is no duration.
    """
    return _parse(text, _SECONDS, "a duration", "30d")


def bytes_of(text: str) -> int:
    """Bytes of `20GB`, `500 MB`, in decimal units.

    Raises:
        UsageError: it is no size.
    """
    return int(_parse(text, {**_BYTES, "": 1}, "a size", "20GB"))


def _parse(text: str, units: dict[str, float] | dict[str, int], what: str, example: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if found is None or found[2] not in units:
        raise UsageError(f"{text!r} is not {what}", hint=f"write it as {example}")
    return float(found[1]) * units[found[2]]
