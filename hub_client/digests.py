"""Hashing bytes while they pass by, and saying whether they are the bytes asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from catalog.record import Digest

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class GitSha1:
    """The name git gives a file: the SHA-1 of a header, which holds its size, and its bytes."""

    value: str
    size_bytes: int


class Hasher:
    """The SHA-256 of what `update` was given, and whether that is what is ``expected``."""

    def __init__(self, expected: Digest | None = None, git: GitSha1 | None = None) -> None:
        self.expected = expected
        self.git = git
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._other = None
        if expected is not None and expected.algorithm != "sha256":
            self._other = hashlib.new(expected.algorithm, usedforsecurity=False)
        self._git = None
        if git is not None:
            header = b"blob %d\0" % git.size_bytes
            self._git = hashlib.sha1(header, usedforsecurity=False)

    def fresh(self) -> Hasher:
        """One that has seen nothing yet, for the same expectation."""
        return Hasher(self.expected, self.git)

    @property
    def checks(self) -> bool:
        """Whether anything is expected."""
        return self.expected is not None or self.git is not None

    def update(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes in."""
        self._sha256.update(chunk)
        if self._other is not None:
            self._other.update(chunk)
        if self._git is not None:
            self._git.update(chunk)
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
        if self._git_mismatch is not None:
            return False
        if self.expected is None:
            return True
        value = self.expected.value.lower()
        return self.actual.startswith(value) if self.expected.prefix else self.actual == value

    @property
    def _git_mismatch(self) -> str | None:
        if self.git is None or self._git is None:
            return None
        got = self._git.hexdigest()
        if got == self.git.value.lower():
            return None
        return f"expected git sha1 {self.git.value}, got {got} ({self.size_bytes} bytes)"

    def mismatch(self) -> str:
        """What was expected and what came, for a message."""
        if self._git_mismatch is not None:
            return self._git_mismatch
        if self.expected is None:
            return f"sha256 is {self.sha256}"
        begin = "beginning with " if self.expected.prefix else ""
        return (
            f"expected {self.expected.algorithm} {begin}{self.expected.value}, got {self.actual} "
            f"({self.size_bytes} bytes)"
        )


def hash_file(path: Path, expected: Digest | None = None) -> Hasher:
    """The hashes of a whole file."""
    git = None
    if expected is not None and expected.algorithm == "git-sha1":
        git, expected = GitSha1(expected.value, path.stat().st_size), None
    hasher = Hasher(expected, git)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher
