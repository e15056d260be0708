"""A file on its way: the bytes so far, their hash, and a sidecar that says of what they are.

The sidecar is on disk before the first byte, so after any death the next process knows which
object the bytes belong to. What it does not know is whether they are right: they are hashed again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from catalog.disk import flush, writing
from catalog.record import Digest
from hub_client.digests import Hasher

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which object the bytes are of; ``etag`` only where it is a strong one."""

    url: str
    etag: str | None = None
    last_modified: str | None = None
    size_bytes: int | None = None

    @property
    def validator(self) -> str | None:
        """What `If-Range` asks for."""
        return self.etag or self.last_modified


class Partial:
    """Bytes at ``path``; the hash is always that of exactly the bytes written.

    Whoever opens one holds its lock (`Store.partial`): there is one owner at a time.
    """

    def __init__(self, path: Path, expected: Digest | None = None) -> None:
        self.path = path
        self.origin: Origin | None = None
        self.resumed = False  # whether it was put together from several responses
        self.hasher = Hasher(expected)
        self._sidecar = path.with_name(path.name + ".json")
        self._file: BinaryIO | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes here so far."""
        return self.hasher.size_bytes

    def resume(self, url: str) -> None:
        """Take up what an earlier process left of ``url``, if it left anything that can be used."""
        try:
            origin = msgspec.json.decode(self._sidecar.read_bytes(), type=Origin)
            size = self.path.stat().st_size
        except (OSError, msgspec.DecodeError):
            return
        too_long = origin.size_bytes is not None and size > origin.size_bytes
        if origin.url != url or not size or too_long:
            return
        if origin.validator is None and self.hasher.expected is None:
            return
        with writing(self.path):
            self._file = self.path.open("r+b")
            while chunk := self._file.read(_CHUNK_BYTES):
                self.hasher.update(chunk)
        self.origin, self.resumed = origin, True
        log.info("resuming %s at %d bytes", url, self.size_bytes)

    def restart(self, origin: Origin | None) -> None:
        """Empty it, for the bytes of ``origin``."""
        self.close()
        self.hasher = Hasher(self.hasher.expected)
        self.origin, self.resumed = origin, False
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("wb")
            if origin is None:
                self._sidecar.unlink(missing_ok=True)
                return
            fresh = self._sidecar.with_name(self._sidecar.name + ".new")
            fresh.write_bytes(msgspec.json.encode(origin))
            flush(fresh)
            fresh.replace(self._sidecar)

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        if self._file is None:
            raise ValueError("the partial was not begun")
        with writing(self.path):
            self._file.write(chunk)
        self.hasher.update(chunk)

    def finish(self) -> None:
        """Bring every byte to the disk."""
        if self._file is None:
            raise ValueError("the partial was not begun")
        with writing(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        """Let go of the file; it stays for the next attempt."""
        if self._file is not None:
            file, self._file = self._file, None
            with writing(self.path):
                file.close()

    def discard(self) -> None:
        """Remove the file and its sidecar."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):  # a full disk: what was buffered is dropped
                file.close()
        remove_partial(self.path)


def remove_partial(path: Path) -> None:
    """Remove a partial and its sidecar, as far as the disk lets us."""
    for file in (path, path.with_name(path.name + ".json")):
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
