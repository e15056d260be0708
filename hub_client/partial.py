"""A file on its way: the bytes so far, their hash, and a sidecar that says of what they are.

The sidecar is on disk before the first byte, so after any death the next process knows which
object the bytes belong to. What it does not know is whether they are right: they are hashed again.
While one connection brings the bytes in their order, the length of the file says how many are
here; when several do, the sidecar lists the ranges that are.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

import msgspec

from catalog.disk import flush, writing
from catalog.errors import StorageError
from hub_client.digests import Hasher
from hub_client.follow import BUFFER_BYTES, Follower

log = logging.getLogger(__name__)

_OWN = ".tlhub-own"
_DEAD_S = 3600.0  # nobody takes so long to rename it
_SAVE_EVERY_S = 0.2  # so much of a transfer by ranges is lost at most when it is killed

Range = tuple[int, int]
"""Bytes from the first number up to, not including, the second."""


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which object the bytes are of."""

    url: str
    etag: str | None = None
    last_modified: str | None = None
    size_bytes: int | None = None
    ranges: tuple[Range, ...] | None = None  # which bytes are here; None: all that the file holds

    @property
    def validator(self) -> str | None:
        """What `If-Range` asks for: a weak ETag proves nothing about bytes."""
        strong = self.etag is not None and self.etag.startswith('"')
        return self.etag if strong else self.last_modified


class Partial:
    """Bytes at ``path``, written in any order by any thread and hashed in the right one.

    Whoever opens one holds its lock (`Store.partial`): there is one owner at a time.
    """

    def __init__(self, path: Path, hasher: Hasher) -> None:
        self.path = path
        self.origin: Origin | None = None
        self.resumed = False  # whether it was put together from several responses
        self.single = False  # whether its server is no good for ranges
        self.hasher = hasher
        self._sidecar = path.with_name(path.name + ".json")
        self._file: FileIO | None = None
        self._follower: Follower | None = None
        self._lock = threading.Lock()
        self._ranges: list[Range] = []  # in order, none touching the next
        self._scattered = False  # whether the sidecar lists them
        self._saved_at = 0.0

    @property
    def size_bytes(self) -> int:
        """Bytes here so far."""
        with self._lock:
            return sum(end - start for start, end in self._ranges)

    def missing(self, total: int | None) -> list[tuple[int, int | None]]:
        """What is not here yet of ``total`` bytes; the last may be open."""
        with self._lock:
            ends = [0, *(end for _, end in self._ranges)]
            starts = [*(start for start, _ in self._ranges), total]
        gaps = list(zip(ends, starts, strict=True))
        if self._ranges and self._ranges[0][0] == 0:
            gaps = gaps[1:]
        return [(start, end) for start, end in gaps if end is None or start < end]

    def resume(self, url: str) -> None:
        """Take up what an earlier process left of ``url``, if it left anything that can be used."""
        try:
            origin = msgspec.json.decode(self._sidecar.read_bytes(), type=Origin)
            size = self.path.stat().st_size
        except (OSError, msgspec.DecodeError):
            return
        too_long = origin.size_bytes is not None and size > origin.size_bytes
        known = origin.validator is not None or self.hasher.checks
        if origin.url != url or not size or too_long or not known:
            return
        ranges = [(0, size)] if origin.ranges is None else list(origin.ranges)
        ranges = [(start, min(end, size)) for start, end in ranges if start < min(end, size)]
        if ranges != sorted(ranges) or any(a[1] >= b[0] for a, b in itertools.pairwise(ranges)):
            return
        with writing(self.path):
            self._file = self.path.open("r+b", buffering=0)
        self._ranges, self._scattered = ranges, origin.ranges is not None
        self.origin, self.resumed = origin, True
        self._follower = Follower(self.path, self.hasher, self._prefix())
        log.info("resuming %s: %d bytes are here", self.path.name, self.size_bytes)

    def restart(self, origin: Origin | None) -> None:
        """Empty it, for the bytes of ``origin``."""
        self.close()
        self.hasher = self.hasher.fresh()
        self.origin, self.resumed = origin, False
        self._ranges, self._scattered = [], False
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("wb", buffering=0)
            if origin is None:
                self._sidecar.unlink(missing_ok=True)
            else:
                self._save(durable=True)
        self._follower = Follower(self.path, self.hasher)

    def buffer(self) -> memoryview:
        """A buffer to receive into, for `write`."""
        return memoryview(bytearray(BUFFER_BYTES))

    def write(self, at: int, buffer: memoryview, count: int) -> memoryview:
        """Write ``count`` bytes at ``at``; a buffer to go on with, as this one may be kept."""
        if self._file is None or self._follower is None:
            raise ValueError("the partial was not begun")
        with writing(self.path), self._lock:
            done = 0
            self._file.seek(at)
            while done < count:
                done += self._file.write(buffer[done:count]) or 0
            self._note(at, at + count)
            prefix = self._prefix()
            if self._scattered and time.monotonic() - self._saved_at > _SAVE_EVERY_S:
                self._save()
        return self._follower.advance(prefix, at, buffer, count)

    def scatter(self) -> None:
        """From now on bytes come in any order."""
        with writing(self.path), self._lock:
            self._scattered = True
            self._save()

    def hashed(self) -> Hasher:
        """The hash of all that is here, which has no holes."""
        if self._follower is not None:
            follower, self._follower = self._follower, None
            follower.finish(self._prefix())
        return self.hasher

    def finish(self) -> None:
        """Bring every byte to the disk."""
        if self._file is None:
            raise ValueError("the partial was not begun")
        with writing(self.path):
            os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        """Let go of the file; it stays for the next attempt."""
        if self._follower is not None:
            self._follower.stop()
            self._follower = None
        if self._file is not None:
            file, self._file = self._file, None
            with writing(self.path):
                file.close()
                if self._scattered:
                    self._save()

    def discard(self) -> None:
        """Remove the file and its sidecar."""
        self._scattered = False
        with contextlib.suppress(OSError, StorageError):  # a full disk, a failed close
            self.close()
        remove_partial(self.path)

    def _prefix(self) -> int:
        return self._ranges[0][1] if self._ranges and self._ranges[0][0] == 0 else 0

    def _note(self, start: int, end: int) -> None:
        """Add a range to those that are here."""
        kept: list[Range] = []
        for a, b in self._ranges:
            if b < start or end < a:
                kept.append((a, b))
            else:
                start, end = min(a, start), max(b, end)
        self._ranges = sorted([*kept, (start, end)])

    def _save(self, *, durable: bool = False) -> None:
        if self.origin is None:
            return
        ranges = tuple(self._ranges) if self._scattered else None
        self.origin = msgspec.structs.replace(self.origin, ranges=ranges)
        fresh = self._sidecar.with_name(self._sidecar.name + ".new")
        fresh.write_bytes(msgspec.json.encode(self.origin))
        if durable:
            flush(fresh)
        fresh.replace(self._sidecar)
        self._saved_at = time.monotonic()


def move_partial(path: Path, place: Path) -> None:
    """Give a whole file its name; a kill before the end leaves a sidecar, for `sweep`."""
    path.replace(place)
    for file in _sidecars(path):
        file.unlink(missing_ok=True)


def own_path(folder: Path) -> Path:
    """A name in ``folder`` that no other process has, for a file that is renamed soon."""
    return folder / f"{os.urandom(12).hex()}{_OWN}"


def sweep(folder: Path) -> None:
    """Remove what killed processes left in ``folder`` that is of no use to anybody."""
    dead = time.time() - _DEAD_S
    # It may be a folder that we may only read, or that is not here.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name, is_sidecar, _ = entry.name.partition("part.json")
            alone = is_sidecar and not (folder / f"{name}part").exists()
            if (alone or name.endswith(_OWN)) and entry.stat().st_mtime < dead:
                Path(entry).unlink(missing_ok=True)


def outdated(folder: Path, brought: Callable[[str], bool]) -> Iterator[Path]:
    """The partials in ``folder`` of URLs whose files were ``brought`` by now: they are of others.

    Their servers have replaced what they are parts of.
    """
    with contextlib.suppress(OSError):
        for sidecar in folder.glob("*part.json"):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                if brought(msgspec.json.decode(sidecar.read_bytes(), type=Origin).url):
                    yield sidecar.with_suffix("")


def remove_partial(path: Path) -> None:
    """Remove a partial and its sidecar, as far as the disk lets us."""
    for file in (path, *_sidecars(path)):
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def _sidecars(path: Path) -> tuple[Path, Path]:
    """What lies beside a partial: the sidecar, and one that was not finished."""
    return path.with_name(f"{path.name}.json"), path.with_name(f"{path.name}.json.new")
