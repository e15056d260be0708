"""Figures as people read them."""

from __future__ import annotations


def count(value: int | None) -> str:
    """A number of parameters, `4.65M`; empty where unknown."""
    if value is None:
        return ""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return str(value)


def megabytes(value: int | None) -> str:
    """Bytes in decimal units, `18.8 MB`; empty where unknown."""
    if value is None:
        return ""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value} B"


def ago(seconds: float) -> str:
    """How long ago, in the largest unit that fits: `3 d`."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"


def score(value: float, kind: str | None) -> str:
    """What a run is judged by: of numbers R2, else a share, `92.1%`."""
    return f"{value:.3f}" if kind == "regression" else f"{value:.1%}"
