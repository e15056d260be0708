"""How long work will take and how much disk it needs, said from its first part."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from catalog.disk import check_space

_TIMED = 16  # examples after the first, from which the rate is known
_RANGE = (0.8, 1.6)  # of what the first part says: pictures and the machine's other work vary


def duration(seconds: float) -> str:
    """A time as people say it, from what it may well be to what it may well be."""
    return " to ".join(_said(seconds * factor) for factor in _RANGE)


def _said(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            value = seconds / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"


@dataclass
class Estimate:
    """What the extraction of ``count`` examples takes, told once when enough of them are done."""

    count: int
    cache: Path
    _began: float = 0.0
    _first: int = 0
    _told: bool = False

    def of(self, done: int, bytes_each: int, processes: int = 1) -> str | None:
        """The estimate after ``done`` examples; None before and after it can be told.

        Raises:
            StorageError: the disk has not the space for all of them.
        """
        if not self._began:
            self._began, self._first = time.perf_counter(), done
        timed = done - self._first
        if self._told or timed < _TIMED:
            return None
        self._told = True
        left = self.count - done
        needed = left * bytes_each * processes
        self.cache.mkdir(parents=True, exist_ok=True)
        check_space(self.cache, needed)
        took = time.perf_counter() - self._began
        free = shutil.disk_usage(self.cache).free
        return (
            f"features of {left} more: {duration(left * took / timed)}, {needed / 1e6:.1f} MB of "
            f"cache ({free / 1e9:.0f} GB are free)"
        )
