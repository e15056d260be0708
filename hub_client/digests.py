"""Hashing bytes while they pass by, and saying whether they are the bytes asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

from catalog.record import Digest

_CHUNK_BYTES = 1 << 20


class Hasher:
    """The SHA-256 of what `update` was given, and whether that is what ``expected`` says."""

    def __init__(self, expected: Digest | None = None) -> None:
        self.expected = expected
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._other = None
        if expected is not None and expected.algorithm != "sha256":
            self._other = hashlib.new(expected.algorithm, usedforsecurity=False)

    def update(self, chunk: bytes) -> None:
        """Take the next bytes in."""
        self._sha256.update(chunk)
        if self._other is not None:
            self._other.update(chunk)
        self.size_bytes += len(chunk)

    @property
    def sha256(self) -> str:
        """The SHA-256 so far, in hex."""
        return self._sha256.hexdigest()

    @property
    def actual(self) -> str:
        """The hash so far in the algorithm of ``expected``, in hex."""
        return (self._other or self._sha256).hexdigest()

    @property
    def matches(self) -> bool:
        """Whether these are the bytes asked for; true where no digest was given."""
        if self.expected is None:
            return True
        value = self.expected.value.lower()
        return self.actual.startswith(value) if self.expected.prefix else self.actual == value

    def mismatch(self) -> str:
        """What was expected and what came, for a message."""
        if self.expected is None:
            return f"sha256 is {self.sha256}"
        begin = "beginning with " if self.expected.prefix else ""
        return (
            f"expected {self.expected.algorithm} {begin}{self.expected.value}, got {self.actual} "
            f"({self.size_bytes} bytes)"
        )


def hash_file(path: Path, expected: Digest | None = None) -> Hasher:
    """The hashes of a whole file."""
    hasher = Hasher(expected)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher
