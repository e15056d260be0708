"""Paths as users write them, in places where it may be no path that they wrote."""

from __future__ import annotations

from pathlib import Path


def here(text: str | Path) -> Path | None:
    """The path, where something is there; None also for what cannot be a path at all."""
    try:
        path = Path(text).expanduser()
        path.lstat()
    except (OSError, RuntimeError, ValueError):  # too long, `~nobody`, a zero byte
        return None
    return path
