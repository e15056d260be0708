"""One attempt at all that a file still lacks, over one connection or, where it helps, several.

The calling thread leads: it opens the first connection and judges what comes. If by its rate the
rest would take long, helpers join with ranges of their own; where that makes it no faster they
leave again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from catalog.disk import check_space, writing
from catalog.errors import AccessError, NetworkError, NotFoundError
from hub_client.answers import OK, PARTIAL_CONTENT, continues, described, is_same, total_of
from hub_client.network import Http, Response, origin_of, redact, split_credentials
from hub_client.partial import Partial
from hub_client.patience import Patience, Transient
from hub_client.progress import Progress
from hub_client.spans import Span, Spans
from hub_client.transfer import Wish, refuse_encoding, refuse_size

log = logging.getLogger(__name__)

_LARGE_BYTES = 64 << 20  # below, one connection will do
_FAR_S = 0.01  # to the first answer; such a line is judged early
_EARLY_LOOK_S, _LOOK_S = 0.05, 0.5
_WARM_UP_S, _JUDGE_S = 0.5, 1.0  # new connections are not judged before they had time to start
_SOON_S = 1.0  # what is done by then needs no help
_FAST_BYTES_S = 200e6  # a connection that brings so much has no limit of its own
_FASTER = 1.25  # times; less is no gain
_BROUGHT_BYTES = 64 << 10  # a helper that drops after so much may go on
_TELL_S = 0.1


@dataclass
class _Pace:
    """A measurement under way: since when, with how many bytes here, and when to look."""

    began: float
    bytes: int
    look_at: float
    helped: bool = False  # whether it is of the leader with helpers
    before: float = 0.0  # bytes a second without them


class _Changed(Exception):  # noqa: N818 -- a signal between the threads of a round
    """The object behind the URL is another one by now."""


class Round:
    """Fetches what ``part`` lacks of ``wish``; `run` is called once."""

    def __init__(
        self, wish: Wish, part: Partial, http: Http, progress: Progress, patience: Patience
    ) -> None:
        self._wish, self._part, self._http = wish, part, http
        self._progress, self._patience = progress, patience
        self._total = part.origin.size_bytes if part.origin is not None else None
        self._where = wish.url  # after redirects
        self._spans = Spans(part.missing(self._total))
        self._changed = threading.Condition()
        self._open: set[Response] = set()
        self._helpers: list[threading.Thread] = []
        self._active = 0  # helpers at work
        self._dismissed = self._stopped = False
        self._failure: BaseException | None = None
        self._pace: _Pace | None = None  # None: nothing is to be judged
        self._tell_at = 0.0

    def run(self) -> None:
        """Return when all bytes are here.

        Raises:
            Transient: not all are, and it may work the next time.
            TlhubError: as `download`.
        """
        if not self._spans:
            if self._part.hasher.checks:
                return
            self._part.restart(None)  # nothing says whether these are the right bytes
            self._spans = Spans([(0, None)])
        try:
            self._lead()
        except _Changed as error:
            self._stop()
            self._part.restart(None)
            said = f"{redact(self._wish.url)} changed while it was read"
            raise Transient(NetworkError(said)) from error
        finally:
            self._stop()
        refuse_size(self._part.size_bytes, self._wish, "sent")

    def _lead(self) -> None:
        """Fetch until nothing is left, or wait for those who still can."""
        failure: Transient | None = None
        span: Span | None = self._spans.first()
        begin = True
        while True:
            if span is not None:
                try:
                    self._begin(span) if begin else self._fetch(span, leader=True)
                except Transient as error:
                    failure = error
                begin = False
            span = self._spans.take(self._connections()) if failure is None else None
            if span is not None:
                continue
            with self._changed:
                if self._active:
                    self._changed.wait(_TELL_S)
                elif failure is not None and self._spans:
                    raise failure
                elif not self._spans:
                    break
            self._tend()
        self._raise_failure()

    def _begin(self, span: Span) -> None:
        """The first exchange: what it says decides how to go on."""
        part, wish = self._part, self._wish
        headers = self._range(span) if part.size_bytes else {}
        asked_at = time.monotonic()
        try:
            with self._http.get(wish.url, headers, private=wish.headers) as response:
                refuse_encoding(response)
                span = self._accept(response, span)
                total, self._where = self._total, response.url
                refuse_size(total, wish, "announces")
                with writing(part.path):
                    check_space(part.path.parent, (total or 0) - part.size_bytes + wish.spare_bytes)
                if self._may_split(response):
                    now = time.monotonic()
                    look_s = _EARLY_LOOK_S if now - asked_at > _FAR_S else _LOOK_S
                    self._pace = _Pace(now, part.size_bytes, now + look_s)
                self._tell()
                self._receive(response, span, leader=True)
        finally:
            self._spans.land(span)

    def _accept(self, response: Response, span: Span) -> Span:
        """What the first answer brings: the range that was asked for, or all from the start."""
        part = self._part
        if response.status == OK:
            part.restart(described(response, self._wish))
            self._total = response.length_bytes
            span = Span(0, self._total)
            self._spans.replace(span)
            return span
        if part.origin is None or not continues(response, span, part.origin):
            part.restart(None)
            sent = response.status == PARTIAL_CONTENT
            said = "sent a range that was not asked for" if sent else f"answered {response.status}"
            raise Transient(NetworkError(f"{redact(self._wish.url)} {said}"))
        part.resumed = True
        if self._total is None:
            self._total = span.end = total_of(response)
            part.origin = msgspec.structs.replace(part.origin, size_bytes=self._total)
        return span

    def _may_split(self, response: Response) -> bool:
        """Whether ranges of it may be asked for, and put together for sure."""
        part, origin = self._part, self._part.origin
        if part.single or self._total is None or self._total < _LARGE_BYTES:
            return False
        known = part.hasher.checks or (origin is not None and origin.validator is not None)
        ranges = response.headers.get("accept-ranges", "").lower() == "bytes"
        return known and (ranges or response.status == PARTIAL_CONTENT)

    def _help(self) -> None:
        try:
            while not self._dismissed and (span := self._spans.take(self._connections())):
                began = span.at
                try:
                    self._fetch(span, leader=False)
                except Transient:
                    if span.at < began + _BROUGHT_BYTES:
                        raise
        except (Transient, NetworkError, AccessError, NotFoundError) as error:
            # Many servers allow few connections: what is open already goes on alone.
            log.info("one connection less: %s", error)
        except BaseException as error:
            self._failure = self._failure or error
        finally:
            self._http.lanes.release()
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def _fetch(self, span: Span, *, leader: bool) -> None:
        """A further range, of the same object or not at all."""
        moved = origin_of(self._where) != origin_of(split_credentials(self._wish.url)[0])
        here = self._where if moved else self._wish.url  # the latter with its credentials
        private = {} if moved else self._wish.headers
        asked = Span(span.at, span.end)  # others may shorten it meanwhile
        try:
            with self._http.get(here, self._range(asked), private=private) as response:
                refuse_encoding(response)
                self._compare(response, asked)
                self._receive(response, span, leader=leader)
        except (AccessError, NotFoundError) as error:
            if not moved:
                raise
            # An address that was good for a while: the next round asks for another.
            raise Transient(NetworkError(error.message, hint=error.hint), tries=3) from error
        finally:
            self._spans.land(span)

    def _compare(self, response: Response, asked: Span) -> None:
        origin = self._part.origin
        if origin is not None and continues(response, asked, origin):
            return
        if origin is None or not is_same(response, origin):
            raise _Changed
        self._part.single = True
        raise Transient(NetworkError(f"{redact(response.url)} does not send ranges"))

    def _receive(self, response: Response, span: Span, *, leader: bool) -> None:
        """Write what comes until ``span`` is done."""
        part, expected = self._part, self._wish.size_bytes
        floor = self._patience.floor(redact(response.url))
        with self._cut_when_stopped(response):
            buffer = part.buffer()
            while span.end is None or span.left > 0:
                room = buffer if span.end is None else buffer[: span.left]
                count, ended = _fill(response, room)
                if count:
                    buffer = part.write(span.at, buffer, count)
                    span.at += count
                if span.end is None and expected is not None and span.at > expected:
                    refuse_size(span.at, self._wish, "sent at least")
                if leader:
                    self._tend()
                elif self._dismissed or self._stopped:
                    raise Transient(NetworkError("more connections are no faster"))
                if ended:
                    break
                floor.check(count)
        if span.end is None:
            span.end = span.at  # it ended as it should, and only now is known how long it is
        if span.left > 0:
            said = f"{redact(self._wish.url)} ended after {span.at} bytes"
            raise Transient(NetworkError(said))

    @contextlib.contextmanager
    def _cut_when_stopped(self, response: Response) -> Iterator[None]:
        with self._changed:
            self._open.add(response)
        try:
            yield
        finally:
            with self._changed:
                self._open.discard(response)

    def _connections(self) -> int:
        return 1 if self._dismissed else 1 + self._active

    def _tend(self) -> None:
        """What the leader does besides: tell, look whether help is needed or failed."""
        self._raise_failure()
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell()
        if self._pace is not None and now >= self._pace.look_at:
            self._pace = self._judge(self._pace, now)

    def _judge(self, pace: _Pace, now: float) -> _Pace | None:
        """Call helpers where they should be worth it, and send them away where they were not."""
        here = self._part.size_bytes
        rate = max(1.0, (here - pace.bytes) / (now - pace.began))
        if not self._helpers:
            long = ((self._total or 0) - here) / rate > _SOON_S
            if long and rate < _FAST_BYTES_S and self._add_helpers():
                return _Pace(now, here, now + _WARM_UP_S, before=rate)
            return _Pace(now, here, now + _LOOK_S)
        if not pace.helped:
            return _Pace(now, here, now + _JUDGE_S, helped=True, before=pace.before)
        times = rate / pace.before
        log.info("with %d connections %.1f times as fast", self._active + 1, times)
        self._dismissed = times < _FASTER
        return None

    def _add_helpers(self) -> bool:
        """Let others take part, as many as there are connections to spare; whether any could."""
        count = 0
        while count < self._http.connections - 1 and self._http.lanes.acquire(blocking=False):
            count += 1
        if not count:
            return False
        self._part.scatter()
        self._part.resumed = True  # as it comes from several responses
        self._spans.open_up(count + 1)
        with self._changed:
            self._active += count
        for _ in range(count):
            helper = threading.Thread(target=self._help, name="range", daemon=True)
            self._helpers.append(helper)
            helper.start()
        return True

    def _tell(self) -> None:
        self._tell_at = time.monotonic() + _TELL_S
        expected = self._wish.size_bytes if self._wish.size_bytes is not None else self._total
        self._progress(self._wish.label, self._part.size_bytes, expected)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _stop(self) -> None:
        """End the helpers, whatever they wait for."""
        with self._changed:
            self._dismissed = self._stopped = True
            responses = list(self._open)
        for response in responses:
            response.cut()
        for helper in self._helpers:
            helper.join()

    def _range(self, span: Span) -> dict[str, str]:
        origin = self._part.origin
        last = "" if span.end is None or span.end == self._total else str(span.end - 1)
        headers = {"Range": f"bytes={span.at}-{last}"}
        if origin is not None and origin.validator is not None:
            headers["If-Range"] = origin.validator
        return headers


def _fill(response: Response, room: memoryview) -> tuple[int, bool]:
    """How many bytes came, until there is no more room or a moment is over; whether it ended."""
    began, count = time.monotonic(), 0
    while count < len(room):
        got = response.readinto(room[count:])
        if not got:
            return count, True
        count += got
        if time.monotonic() - began > _TELL_S:
            break
    return count, False
