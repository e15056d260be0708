"""Which connection brings which bytes of a file.

Bytes are handed out in the order of the file, in pieces that become smaller towards its end, so
that the hash is never far behind and all connections end together.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

_PIECE_BYTES = 4 << 20  # the smallest range worth a request


@dataclass
class Span:
    """Bytes one connection is to bring; open at the end where the length is not known."""

    at: int
    end: int | None

    @property
    def left(self) -> int:
        """How many they are; 0 for an open one."""
        return (self.end or self.at) - self.at


class Spans:
    """What nobody is at yet, and what somebody is; for many threads."""

    def __init__(self, gaps: Iterable[tuple[int, int | None]]) -> None:
        self._lock = threading.Lock()
        self._waiting = [Span(*gap) for gap in gaps]  # in order
        self._flying: list[Span] = []

    def __bool__(self) -> bool:
        """Whether there is something that nobody is at."""
        return bool(self._waiting)

    def replace(self, first: Span) -> None:
        """There is nothing but this to bring, and the caller is at it."""
        with self._lock:
            self._waiting, self._flying = [], [first]

    def first(self) -> Span:
        """All of the first gap."""
        with self._lock:
            span = self._waiting.pop(0)
            self._flying.append(span)
            return span

    def take(self, connections: int) -> Span | None:
        """The next piece, or half of what somebody else is at; None where it is not worth it."""
        with self._lock:
            span = self._next(connections) if self._waiting else None
            if span is None and connections > 1:
                span = self._half()
            if span is not None:
                self._flying.append(span)
            return span

    def land(self, span: Span) -> None:
        """Take note that its owner is done with a span: what is missing of it, others may have."""
        with self._lock:
            self._flying = [other for other in self._flying if other is not span]
            if span.end is None or span.left > 0:
                self._waiting = sorted([*self._waiting, span], key=lambda span: span.at)

    def open_up(self, connections: int) -> None:
        """Let others have most of what the only connection is at."""
        with self._lock:
            own = self._flying[0] if self._flying else None
            if own is None or own.end is None:
                return
            share = _share(own.left, connections)
            if own.left > 2 * share:
                self._waiting.insert(0, Span(own.at + share, own.end))
                own.end = own.at + share

    def _next(self, connections: int) -> Span:
        span = self._waiting[0]
        piece = _share(sum(other.left for other in self._waiting), connections)
        if connections == 1 or span.end is None or span.left < piece + _PIECE_BYTES:
            return self._waiting.pop(0)
        taken = Span(span.at, span.at + piece)
        span.at += piece
        return taken

    def _half(self) -> Span | None:
        slowest = max(self._flying, key=lambda span: span.left, default=None)
        if slowest is None or slowest.end is None or slowest.left < _PIECE_BYTES:
            return None
        # What its owner has received beyond by now is the same bytes, written twice.
        taken = Span(slowest.at + slowest.left // 2, slowest.end)
        slowest.end = taken.at
        return taken


def _share(left: int, connections: int) -> int:
    return max(_PIECE_BYTES, left * 3 // (4 * connections))
