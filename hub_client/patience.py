"""Trying again: how often, how long to wait, and when it is no use."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from catalog.errors import NetworkError

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_PROGRESS_BYTES = 64 << 10  # less than this between two failures is no progress


class Transient(Exception):  # noqa: N818 -- a signal between transfer and Patience, never seen above
    """A failure that may be gone the next time; ``error`` is what to say when it is not."""

    def __init__(
        self, error: NetworkError, *, wait_s: float | None = None, tries: int | None = None
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.wait_s = wait_s  # what the server asked for
        self.tries = tries  # at most so many, where waiting seldom helps


@dataclass(frozen=True)
class Patience:
    """How often to try again, and how long to wait in between (doubled each time, with jitter).

    Also how slow a line may be before it is given up for a new one.
    """

    tries: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 20.0
    slowest_bytes_s: float = 1000.0  # a line that brings less than this for `slow_s` has stalled
    slow_s: float = 30.0

    def floor(self, what: str) -> Floor:
        """Watches a line that brings ``what``."""
        return Floor(what, self.slowest_bytes_s, self.slow_s)

    def run(
        self,
        attempt: Callable[[], _T],
        reached: Callable[[], int] = lambda: 0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> _T:
        """What ``attempt`` returns, once it does; ``reached`` says how many bytes are here."""
        failures, best = 0, reached()
        while True:
            try:
                return attempt()
            except Transient as failure:
                if reached() >= best + _PROGRESS_BYTES:
                    failures, best = 0, reached()
                failures += 1
                if failures >= min(self.tries, failure.tries or self.tries):
                    raise failure.error from failure
                wait = min(self.first_wait_s * 2 ** (failures - 1), self.longest_wait_s)
                wait *= random.uniform(0.5, 1.0)  # noqa: S311 -- spreads clients, keeps no secret
                wait = max(wait, failure.wait_s or 0.0)
                log.info("%s; trying again in %.1f s", failure, wait)
                sleep(wait)


class Floor:
    """Gives up a line that goes on, but brings next to nothing."""

    def __init__(self, what: str, slowest_bytes_s: float, slow_s: float) -> None:
        self._what, self._slowest_bytes_s, self._slow_s = what, slowest_bytes_s, slow_s
        self._began, self._bytes = time.monotonic(), 0

    def check(self, count: int) -> None:
        """Take note of bytes; a `Transient` where they are too few for the time."""
        self._bytes += count
        lasted = time.monotonic() - self._began
        if lasted < self._slow_s:
            return
        if self._bytes < self._slowest_bytes_s * lasted:
            said = f"{self._what} sent {self._bytes} bytes in {lasted:.0f} s"
            raise Transient(NetworkError(said, hint="run it again: it goes on where it stopped"))
        self._began, self._bytes = time.monotonic(), 0
