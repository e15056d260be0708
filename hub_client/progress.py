"""How far a transfer is, told to whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, "int | None"], None]
"""Called with a label, the bytes done and the bytes in all where they are known."""


def silent(label: str, done_bytes: int, total_bytes: int | None) -> None:
    """Tell nobody."""
