"""How the Python API says how far it is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_WINDOW_S = 5.0


@dataclass(frozen=True)
class Event:
    """One sign of progress: a step begun (no ``done``), or bytes that came in."""

    message: str
    done: int | None = None
    total: int | None = None


class Rates:
    """How fast each transfer is, over its last seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def of(self, event: Event) -> tuple[float | None, float | None]:
        """Bytes a second, and seconds to go, as far as they can be told by now."""
        if event.done is None:
            return None, None
        now = self._clock()
        seen = self._seen.setdefault(event.message, deque())
        seen.append((now, event.done))
        while len(seen) > 2 and seen[1][0] < now - _WINDOW_S:
            seen.popleft()
        began, before = seen[0]
        lasted = now - began
        if lasted <= 0 or event.done <= before:
            return None, None
        bytes_s = (event.done - before) / lasted
        left = None if event.total is None else (event.total - event.done) / bytes_s
        return bytes_s, left


Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Say nothing."""
