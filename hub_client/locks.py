"""One owner at a time, between threads, processes and, where the disk is shared, hosts.

Three ways, as not every disk can lock:
`flock`  the operating system's lock on a file; it ends with its process, however that ends
`soft`   a file that exists as long as it is owned, and that its owner writes anew every few
         seconds; for network disks where `flock` does nothing or fails. Clocks are not compared:
         who waits takes it over when it did not change for a minute of his own
`none`   nobody is kept out: for a single process
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from catalog.disk import writing
from catalog.errors import StorageError

log = logging.getLogger(__name__)

_POLL_S = 0.1
_BEAT_S = 5.0
_DEAD_S = 60.0  # without a beat


class Locks(StrEnum):
    """How owners keep others out."""

    flock = "flock"
    soft = "soft"
    none = "none"


@contextlib.contextmanager
def holding(path: Path, how: Locks = Locks.flock) -> Iterator[None]:
    """Own ``path``, a file for this alone, until the end of the block; it is removed then.

    Raises:
        StorageError: its folder cannot be written, or its disk cannot lock.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with {Locks.flock: _flock, Locks.soft: _soft, Locks.none: _none}[how](path):
        yield


@contextlib.contextmanager
def _none(_: Path) -> Iterator[None]:
    yield


@contextlib.contextmanager
def _flock(path: Path) -> Iterator[None]:
    if sys.platform == "win32":
        from filelock import FileLock

        with FileLock(path):
            yield
        return
    descriptor, told = _try_flock(path), False
    while descriptor is None:
        if not told:
            log.info("waiting for another process: %s", path)
            told = True
        time.sleep(_POLL_S)
        descriptor = _try_flock(path)
    try:
        yield
    finally:
        # Removed while it is owned: who has it open already sees that it is another file now.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _try_flock(path: Path) -> int | None:
    """The locked file; None where another has it, or has just removed it."""
    import fcntl

    with writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        os.close(descriptor)
        raise StorageError(
            f"{path} cannot be locked: {error.strerror}",
            hint="on a disk without locks, set TLHUB_LOCKS=soft",
        ) from error
    os.close(descriptor)
    return None


@contextlib.contextmanager
def _soft(path: Path) -> Iterator[None]:
    path = path.with_name(path.name + ".owner")
    me = f"{socket.gethostname()} {os.getpid()} {os.urandom(8).hex()}"
    seen, since = "", time.monotonic()
    while not _create(path, me):
        found = _read(path)
        if found != seen:
            if not seen:
                log.info("waiting for another process: %s", path)
            seen, since = found, time.monotonic()
        elif time.monotonic() - since > _DEAD_S:
            log.warning("%s is taken over: its owner is silent, %s", path, found)
            _remove(path, found)
        time.sleep(_POLL_S)
    done = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, me, done), name="lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        done.set()
        beat.join()
        if _read(path).startswith(me):
            with contextlib.suppress(OSError):
                path.unlink()


def _create(path: Path, text: str) -> bool:
    """Whether the file was made by us: a link is made in one step also on NFS."""
    own = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    with writing(path):
        own.write_text(text, encoding="utf-8")
        try:
            path.hardlink_to(own)
        except FileExistsError:
            return False
        finally:
            own.unlink()
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _remove(path: Path, dead: str) -> None:
    """Remove a dead owner's file; of several who try one alone gets to move it aside."""
    aside = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    with contextlib.suppress(OSError):
        path.rename(aside)
        if _read(aside) != dead:  # somebody took it over in between: it is his
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(aside)
        aside.unlink()


def _beat(path: Path, me: str, done: threading.Event) -> None:
    turn = 0
    while not done.wait(_BEAT_S):
        turn += 1
        with contextlib.suppress(OSError):
            if _read(path).startswith(me):
                with path.open("r+", encoding="utf-8") as file:
                    file.write(f"{me} {turn}")
