"""Hashing a file behind those who write it, in a thread of its own.

What was just written is hashed from memory; what is too far ahead of the hash, or was there
before, is read back from the file. So the order in which the bytes come does not matter.
"""

from __future__ import annotations

import threading
from io import FileIO
from pathlib import Path

from catalog.disk import reading
from catalog.errors import StorageError
from hub_client.digests import Hasher

BUFFER_BYTES = 1 << 20
_HELD = 8  # buffers that wait for the hash at most


class Follower:
    """Hashes the file at ``path`` from 0 on, as far as `advance` says it is written."""

    def __init__(self, path: Path, hasher: Hasher, written: int = 0) -> None:
        self._path = path
        self._hasher = hasher
        self._changed = threading.Condition()
        self._held: dict[int, memoryview] = {}  # by offset
        self._free: list[memoryview] = []
        self._written = written  # bytes from 0 on without a hole
        self._keeps_up = True  # whether it hashes from memory
        self._stopped = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)
        self._thread.start()

    def advance(self, written: int, at: int, buffer: memoryview, count: int) -> memoryview:
        """Take note of ``count`` bytes, written at ``at`` from ``buffer``; a buffer to go on with.

        ``written`` is how many bytes from 0 on are there now. It waits where the hash falls
        behind a line that is faster, rather than to read all of it back.
        """
        with self._changed:
            while self._keeps_up and self._behind(at) and self._failure is None:
                self._changed.wait(0.1)
            ahead = at - self._hasher.size_bytes
            hold = len(self._held) < _HELD and 0 <= ahead < _HELD * BUFFER_BYTES
            if hold:
                self._held[at] = buffer[:count]
                buffer = self._free.pop() if self._free else memoryview(bytearray(BUFFER_BYTES))
            self._written = max(self._written, written)
            self._changed.notify_all()
        return buffer

    def _behind(self, at: int) -> bool:
        """Whether there will be room to hold what is at ``at``, once more of it is hashed."""
        hashed = self._hasher.size_bytes
        near = at - hashed <= _HELD * BUFFER_BYTES
        return near and len(self._held) >= _HELD and hashed < self._written and not self._stopped

    def finish(self, written: int) -> None:
        """Wait until ``written`` bytes are hashed."""
        with self._changed:
            self._written = max(self._written, written)
            self._changed.notify_all()
            while self._hasher.size_bytes < written and self._failure is None:
                self._changed.wait(0.5)
        self.stop()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            with reading(self._path), self._path.open("rb", buffering=0) as file:
                self._follow(file)
        except BaseException as error:
            self._failure = error
            with self._changed:
                self._changed.notify_all()

    def _follow(self, file: FileIO) -> None:
        scratch: memoryview | None = None
        while True:
            at = self._hasher.size_bytes
            with self._changed:
                while at >= self._written and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                for offset in [offset for offset in self._held if offset < at]:
                    self._let_go(self._held.pop(offset))
                chunk = self._held.pop(at, None)
                self._keeps_up = chunk is not None
                until = min([self._written, at + BUFFER_BYTES, *self._held])
            if chunk is None:
                scratch = scratch or memoryview(bytearray(BUFFER_BYTES))
                file.seek(at)
                count = file.readinto(scratch[: until - at])
                if not count:
                    raise StorageError(f"{self._path} was cut short by somebody else")
                self._hasher.update(scratch[:count])
            else:
                self._hasher.update(chunk)
            with self._changed:
                if chunk is not None:
                    self._let_go(chunk)
                self._changed.notify_all()

    def _let_go(self, chunk: memoryview) -> None:
        self._free.append(memoryview(chunk.obj))
