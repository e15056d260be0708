"""What processes use, and when: what `tlhub cache prune` must leave alone.

A process that uses a store holds a marker, a file under `running/` that it keeps locked until it
ends, in whatever way it ends. What it uses it stamps: the time of modification of a blob or of a
model folder is that of its last use. So what was stamped since the oldest living marker is needed.
Stamping and removing exclude each other by one lock, which nobody holds for long.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, Timeout

from catalog.locks import lock_file

log = logging.getLogger(__name__)

_HOUR_S = 3600.0
_markers: dict[Path, tuple[BaseFileLock, float]] = {}  # home -> what this process holds, since when
_joining = threading.Lock()


@dataclass(frozen=True)
class Process:
    """A process that is alive and uses the store."""

    pid: int
    since: float  # seconds since the epoch, by the clock of the disk


def use(home: Path, path: Path) -> bool:
    """Stamp ``path`` as in use by this process until it ends; False where it is not here.

    Where ``home`` cannot be written nothing is stamped, and nothing can be pruned either.
    """
    since = join(home)
    try:
        stamp = path.stat().st_mtime
        if since is not None and stamp < max(since, time.time() - _HOUR_S):
            with exclusive(home):
                os.utime(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        log.debug("%s cannot be stamped as used: %s", path, error)
    return True


def join(home: Path) -> float | None:
    """Mark this process as one that uses ``home``; since when, or None where it is read-only."""
    with _joining:
        held = _markers.get(home)
        if held is not None:
            return held[1]
        path = home / "running" / f"{os.getpid()}.{os.urandom(4).hex()}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(home):
                marker = lock_file(path, timeout_s=0)
                marker.acquire()
                os.utime(path)
                since = path.stat().st_mtime
        except OSError as error:
            log.debug("%s cannot be marked as in use: %s", home, error)
            return None
        _markers[home] = marker, since
        atexit.register(_leave, home, os.getpid())
        return since


def running(home: Path) -> list[Process]:
    """The other processes that use ``home``, the oldest first; markers of dead ones are removed."""
    found = []
    own = _markers.get(home)
    folder = home / "running"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if own is not None and Path(own[0].lock_file) == path:
            continue
        with contextlib.suppress(OSError):
            since = path.stat().st_mtime
            if is_free(path):
                path.unlink(missing_ok=True)
            else:
                found.append(Process(int(path.name.partition(".")[0]), since))
    return sorted(found, key=lambda process: process.since)


@contextlib.contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Nobody stamps or removes anything meanwhile; for moments only."""
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with lock_file(folder / "usage.lock", poll_s=0.005):
        yield


def is_free(lock: Path) -> bool:
    """Whether nobody holds this lock file."""
    with owning(lock) as free:
        return free


@contextlib.contextmanager
def owning(lock: Path) -> Iterator[bool]:
    """Whether nobody held this lock file; then it is ours until the end of the block."""
    mine = lock_file(lock, timeout_s=0)
    try:
        mine.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        mine.release()


def _leave(home: Path, pid: int) -> None:
    held = _markers.pop(home, None)
    if held is not None and os.getpid() == pid:  # not in a child that was forked
        with contextlib.suppress(OSError):
            Path(held[0].lock_file).unlink()
        held[0].release()
