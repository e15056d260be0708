"""HTTP as everything here speaks it: credentials stay with their origin, failures are explained.

What may go away by itself (a drop, a time-out, 429, 5xx) is a `Transient`, for `Patience` to try
again. Everything else is an error of the user's world and rises at once.
"""

from __future__ import annotations

import contextlib
import email.message
import email.utils
import http.client
import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit, urlunsplit

from catalog.errors import (
    AccessError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    UsageError,
)
from hub_client.connections import (
    URL_SAFE,
    ConnectError,
    Connections,
    HttpSettings,
    RawResponse,
    StoppedError,
    basic,
    cut,
)
from hub_client.patience import Patience, Transient

__all__ = [
    "Http",
    "HttpSettings",
    "Response",
    "StoppedError",
    "origin_of",
    "redact",
    "split_credentials",
    "split_url",
    "without_credentials",
]

log = logging.getLogger(__name__)

_MAX_REDIRECTS = 10
_LONGEST_WAIT_S = 120.0  # a server that asks for more is not waited for
_BUFFER_BYTES = 64 << 10
_RANGE_NOT_SATISFIABLE = 416
_LENGTH = re.compile(r"[0-9]{1,18}")
_REDIRECTS = {301, 302, 303, 307, 308}
_TRY_LATER = {408, 425, 429, 500, 502, 503, 504, 507, 509}


class Response:
    """The head of an answer, and its body as it comes; ``url`` is where it came from in the end."""

    def __init__(
        self, raw: RawResponse, connection: http.client.HTTPConnection, url: str, proxy: str | None
    ) -> None:
        self.url = url
        self.status = raw.status
        self.reason = raw.reason
        self.headers: email.message.Message = raw.headers
        self._raw = raw
        self._connection = connection
        self._proxy = proxy

    @property
    def length_bytes(self) -> int | None:
        """How many bytes the body has, by its head."""
        length = self.headers.get("content-length", "").strip()
        chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        return int(length) if _LENGTH.fullmatch(length) and not chunked else None

    def readinto(self, buffer: memoryview) -> int:
        """How many bytes were put into ``buffer``: what is here or comes next; 0 at the end."""
        with _explaining(self.url, self._proxy):
            return self._raw.readinto1(buffer)

    def read(self, limit_bytes: int, patience: Patience | None = None) -> bytes:
        """The whole body; no more than one byte over ``limit_bytes`` of it.

        Raises:
            Transient: the line broke, or is slower than ``patience`` allows.
        """
        floor, body = (patience or Patience()).floor(redact(self.url)), bytearray()
        buffer = memoryview(bytearray(min(limit_bytes + 1, _BUFFER_BYTES)))
        while count := self.readinto(buffer[: limit_bytes + 1 - len(body)]):
            body += buffer[:count]
            floor.check(count)
        return bytes(body)

    def cut(self) -> None:
        """End it from another thread: its reader gets an error, or the end."""
        cut(self._connection, self._raw)


class Http:
    """A client for one job: its connections are kept open, and shared by its threads."""

    def __init__(self, settings: HttpSettings | None = None) -> None:
        self._settings = settings or HttpSettings()
        self._connections = Connections(self._settings)
        self._netrc: dict[str, str | None] = {}
        # Who transfers a file holds one; who adds a second connection takes one that is free.
        self.lanes = threading.Semaphore(self._settings.connections)

    @property
    def connections(self) -> int:
        """At most so many at once."""
        return self._settings.connections

    def close(self) -> None:
        """Close its connections."""
        self._connections.close()

    def stop(self) -> None:
        """End all that its threads wait for, at once: they get a `StoppedError`, or another."""
        self._connections.stop()

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond `stop`.

        Raises:
            StoppedError: that came.
        """
        if self._connections.stopped.wait(seconds):
            raise StoppedError

    @contextlib.contextmanager
    def get(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        private: Mapping[str, str] | None = None,
    ) -> Iterator[Response]:
        """The response to a GET, redirects followed, its body not yet read: 2xx or 416.

        ``url`` may hold `user:password@`; they and the ``private`` headers go to its origin only,
        and a redirect to another one goes without.

        Raises:
            Transient: it may work the next time; also while the body is read inside the block.
            NotFoundError: 404 or 410.
            AccessError: 401, 403 or 407.
            NetworkError: it cannot work.
        """
        with self._exchange("GET", url, headers or {}, private or {}, elsewhere=True) as response:
            _raise_for_status(response)
            yield response

    def head(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        private: Mapping[str, str] | None = None,
    ) -> Response:
        """The response to a HEAD, whatever its status; a redirect to another origin stays one.

        Raises:
            Transient, NetworkError: there is none.
        """
        with self._exchange("HEAD", url, headers or {}, private or {}, elsewhere=False) as response:
            return response

    def read(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        limit_bytes: int,
        patience: Patience | None = None,
        private: Mapping[str, str] | None = None,
    ) -> tuple[bytes, str, str]:
        """A small document: its bytes, its media type, and the URL it came from in the end.

        Raises:
            IntegrityError: it is longer than ``limit_bytes``.
            NetworkError, NotFoundError, AccessError: as `get`, after trying again.
        """

        def attempt() -> tuple[bytes, str, str]:
            with self.get(url, headers, private=private) as response:
                body = _document(response, limit_bytes, patience)
                kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                return body, kind, response.url

        return (patience or Patience()).run(attempt, sleep=self.sleep)

    def ask(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        limit_bytes: int,
        patience: Patience | None = None,
        private: Mapping[str, str] | None = None,
    ) -> tuple[Response, bytes]:
        """The answer to a GET and its whole body, whatever the status says.

        Raises:
            IntegrityError: it is longer than ``limit_bytes``.
            NetworkError: there is none, or the server is busy for too long.
        """

        def attempt() -> tuple[Response, bytes]:
            with self._exchange(
                "GET", url, headers or {}, private or {}, elsewhere=True
            ) as response:
                _refuse_busy(response)
                return response, _document(response, limit_bytes, patience)

        return (patience or Patience()).run(attempt, sleep=self.sleep)

    @contextlib.contextmanager
    def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        private: Mapping[str, str],
        *,
        elsewhere: bool,
    ) -> Iterator[Response]:
        here, own = split_credentials(url)
        home = origin_of(here)
        for _ in range(_MAX_REDIRECTS):
            origin = origin_of(here)
            sent = {"User-Agent": "tlhub", "Accept-Encoding": "identity", **headers}
            authorization = self._credential(here)
            if authorization is not None:
                sent["Authorization"] = authorization
            if origin == home:
                sent |= {**private, **({"Authorization": own} if own else {})}
            proxy = self._connections.proxy_of(here)
            with _explaining(here, proxy):
                connection, raw = self._connections.send(method, here, sent)
            try:
                location = raw.getheader("location")
                if raw.status in _REDIRECTS and location is not None:
                    there = _redirected(here, location)
                    if elsewhere or origin_of(there) == home:
                        here = there
                        continue
                yield Response(raw, connection, here, proxy)
            finally:
                self._connections.release(here, connection, raw)
            return
        raise NetworkError(f"{redact(url)} redirects more than {_MAX_REDIRECTS} times")

    def _credential(self, url: str) -> str | None:
        known = self._settings.credentials.get(origin_of(url))
        host = urlsplit(url).hostname or ""
        if known is None and host not in self._netrc:
            self._netrc[host] = _from_netrc(host)
        return known or self._netrc[host]


def split_url(url: str) -> SplitResult:
    """The parts of a URL.

    Raises:
        UsageError: it is none.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 -- reading it checks it
    except ValueError as error:
        raise UsageError(f"{url.rpartition('@')[2]!r} is no URL: {error}") from error
    return parts


def origin_of(url: str) -> str:
    """Scheme, host and port: what credentials belong to."""
    parts = split_url(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def split_credentials(url: str) -> tuple[str, str | None]:
    """The URL without fragment and `user:password@`, and those as an `Authorization` value."""
    parts = split_url(url)
    user, at, host = parts.netloc.rpartition("@")
    clean = urlunsplit(parts._replace(netloc=host, fragment=""))
    if not at:
        return clean, None
    name, _, password = user.partition(":")
    return clean, basic(unquote(name), unquote(password))


def without_credentials(address: str) -> str:
    """The address of any source without `user:password@`: as it may be kept."""
    return re.sub(r"^([\w+.-]+://)[^/?#]*@", r"\1", address)


def redact(url: str) -> str:
    """The URL as it may be shown: without credentials, query and fragment."""
    try:
        parts = split_url(url)
    except UsageError:
        return "an address that is no URL"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _redirected(here: str, location: str) -> str:
    try:
        # It may hold raw bytes, which http.client decodes as Latin-1.
        location = quote(location.encode("latin-1"), safe=URL_SAFE)
        there, _ = split_credentials(urljoin(here, location))
    except (ValueError, UsageError) as error:
        raise NetworkError(f"{redact(here)} redirects to what is no URL") from error
    if urlsplit(there).scheme not in {"http", "https"}:
        raise NetworkError(f"{redact(here)} redirects to {redact(there)}, which is not HTTP")
    return there


def _from_netrc(host: str) -> str | None:
    import netrc  # here: few have one

    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except FileNotFoundError:
        return None
    except (netrc.NetrcParseError, OSError) as error:
        log.warning("the netrc file is not used: %s", error)
        return None
    return basic(found[0], found[2] or "") if found is not None else None


def _document(response: Response, limit_bytes: int, patience: Patience | None) -> bytes:
    body = response.read(limit_bytes, patience)
    if len(body) > limit_bytes:
        raise IntegrityError(f"{redact(response.url)} is longer than {limit_bytes} bytes")
    if response.length_bytes not in {None, len(body)}:
        raise Transient(NetworkError(f"{redact(response.url)} ended after {len(body)} bytes"))
    return body


def _answered(response: Response) -> str:
    return f"{redact(response.url)} answered {response.status} {response.reason}".rstrip()


def _refuse_busy(response: Response) -> None:
    """Raise what makes `Patience` wait, where the server wants us to come again later."""
    if response.status not in _TRY_LATER:
        return
    said, wait_s = _answered(response), _retry_after(response.headers.get("retry-after"))
    if wait_s is not None and wait_s > _LONGEST_WAIT_S:
        raise NetworkError(f"{said} and asks to wait {wait_s:.0f} s", hint="try again then")
    raise Transient(NetworkError(said, hint="try again later"), wait_s=wait_s)


def _raise_for_status(response: Response) -> None:
    status = response.status
    if 200 <= status < 300 or status == _RANGE_NOT_SATISFIABLE:
        return
    _refuse_busy(response)
    said = _answered(response)
    if status in {404, 410}:
        raise NotFoundError(said, hint="it may have been moved or removed by its publisher")
    if status in {401, 403, 407}:
        raise AccessError(
            said, hint="give the credentials for it, in the URL's settings or in ~/.netrc"
        )
    raise NetworkError(said)


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):  # the latter for a day that no clock has
        return None


@contextlib.contextmanager
def _explaining(url: str, proxy: str | None) -> Iterator[None]:
    """Say what `http.client` and the socket raise in our own errors."""
    try:
        yield
    except (OSError, http.client.HTTPException, ConnectError) as error:
        raise _explain(error, url, proxy) from error
    except (ValueError, AttributeError) as error:
        # A name or a header that cannot be sent (it may be a secret), or `cut` by another thread.
        raise NetworkError(f"{redact(url)} cannot be fetched: {type(error).__name__}") from error


def _explain(error: Exception, url: str, proxy: str | None) -> Exception:
    """A failed exchange as a sentence, and whether to try again."""
    host = urlsplit(url).hostname
    # What the machine really talks to; a closed door there is not the host's.
    door = f"the proxy {redact(proxy)}" if proxy else urlsplit(url).netloc
    connecting = isinstance(error, ConnectError)
    if isinstance(error, ConnectError):
        error = error.reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return NetworkError(
            f"the certificate of {host} cannot be verified: {error.verify_message}",
            hint="behind a proxy that re-signs, set SSL_CERT_FILE to its certificates",
        )
    if isinstance(error, http.client.InvalidURL):
        return NetworkError(f"{redact(url)} cannot be fetched: it is no URL")
    if connecting:
        said = f"no connection to {door}: {error}"
        hint = "look at the network connection and at the proxy settings"
        if isinstance(error, socket.gaierror):
            said = f"{door if proxy else f'the host {host}'} was not found"
            hint = "look at the network connection and at the name"
        elif isinstance(error, ConnectionRefusedError):
            said = f"{door} refused the connection"
            hint = "look whether the server is up, and at the port"
        return Transient(NetworkError(said, hint=hint), tries=2)
    if isinstance(error, TimeoutError):
        said = f"{redact(url)} sent nothing for too long"
    else:
        said = f"the connection to {host} broke while {redact(url)} was read: {error}"
    return Transient(NetworkError(said, hint="run it again: it goes on where it stopped"))
