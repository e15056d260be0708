"""Connections kept open for the next request, through the proxies and certificates of this machine.

On the standard library's `http.client`: it starts in a quarter of the time of a full HTTP library
and receives a body straight into a buffer (docs/decisions/0007-one-http-stack.md).
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import os
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from catalog.errors import NetworkError, TlhubError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

URL_SAFE = "%/:=&?~#+!$,;'@()*[]"  # what a URL may hold besides letters, digits and -._
_PORTS = {"http": 80, "https": 443}
_NO_FILE = 300  # and above: redirects and refusals
_LITTLE_BYTES = 64 << 10  # read to its end, so that the connection can be used again
_LITTLE_S = 1.0  # no longer than that, however: a new connection would be made by then
_KEPT = 16  # idle connections in all


@dataclass(frozen=True)
class HttpSettings:
    """How to reach the network; what is not given comes from the environment as usual.

    ``credentials`` maps an origin (`https://host:port`) to the value of `Authorization`.
    """

    proxy: str | None = None
    cert: Path | None = None  # trusted certificates, a file or a folder
    client_cert: Path | None = None
    trusted_hosts: tuple[str, ...] = ()  # whose certificate is not checked
    credentials: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 30.0  # without a byte, and for all of the head of an answer
    connections: int = 8  # at once, for all files of a job


class ConnectError(Exception):
    """No connection could be made; ``reason`` says why."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class StoppedError(Exception):
    """Nobody wants the answer any more; seen by nobody but the threads that are ended by it."""


class _Lines(io.BufferedReader):
    """A stream whose lines have to come in time: one byte now and then is no answer."""

    def __init__(self, raw: io.RawIOBase, limit_s: float | None) -> None:
        super().__init__(raw)
        self._limit_s = limit_s
        self.until: float | None = None  # by the monotonic clock, for all lines together

    def deadline(self) -> float | None:
        """When a line that is begun now has to be here."""
        return None if self._limit_s is None else time.monotonic() + self._limit_s

    def readline(self, size: int | None = -1, /) -> bytes:
        until, line = self.until or self.deadline(), b""
        while size is None or size < 0 or len(line) < size:
            ahead = self.peek(1)
            if until is not None and time.monotonic() > until:
                raise TimeoutError("timed out")
            wanted = ahead.find(b"\n") + 1 or len(ahead)
            line += self.read(wanted if size is None or size < 0 else min(wanted, size - len(line)))
            if not ahead or line.endswith(b"\n"):
                break
        return line


class RawResponse(http.client.HTTPResponse):
    """A response that is read into a buffer as its bytes come, without a copy."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._lines = _Lines(self.fp.detach(), sock.gettimeout())
        self.fp = self._lines

    def begin(self) -> None:
        """Read the head of the answer."""
        self._lines.until = self._lines.deadline()
        super().begin()
        self._lines.until = None

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer`` with what is here, or what comes next; 0 at the end."""
        if self.fp is None or self.chunked or self.length is None:
            return super().readinto1(buffer)
        view = memoryview(buffer)[: self.length]
        count = self.fp.readinto1(view) if len(view) else 0
        self.length -= count
        if self.length == 0:
            self._close_conn()  # type: ignore[attr-defined]
        return int(count)


class Connections:
    """The connections of one job, for many threads."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}
        self._busy: dict[http.client.HTTPConnection, RawResponse | None] = {}
        self._proxies: dict[tuple[str, str], str | None] = {}
        self._checked: ssl.SSLContext | None = None
        self.stopped = threading.Event()
        if settings.cert is not None or settings.client_cert is not None:
            self._checked = self._context(checked=True)  # what cannot be read is said at once

    def proxy_of(self, url: str) -> str | None:
        """The proxy on the way to ``url``."""
        if self._settings.proxy:
            return self._settings.proxy
        parts = urlsplit(url)
        origin = parts.scheme, parts.netloc
        if origin not in self._proxies:
            self._proxies[origin] = _proxy_of(*origin)
        return self._proxies[origin]

    def send(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPConnection, RawResponse]:
        """Send a request and read the head of the answer; `release` the connection afterwards.

        A connection that the server closed while it was idle is replaced by a new one.

        Raises:
            ConnectError: the server, or the proxy before it, does not let us in.
            OSError, http.client.HTTPException, ValueError: as `http.client`.
        """
        parts = urlsplit(url)
        target = _quoted(parts.path or "/") + (f"?{_quoted(parts.query)}" if parts.query else "")
        sent = dict(headers)
        proxy = self.proxy_of(url)
        if proxy and parts.scheme == "http":
            target = f"http://{parts.netloc}{target}"
            sent |= _proxy_authorization(proxy)
        while True:
            with self._lock:
                idle = self._idle.get((parts.scheme, parts.netloc))
                connection = idle.pop() if idle else None
            fresh = connection is None
            connection = connection or self._open(url, proxy)
            self._busy[connection] = None
            try:
                if fresh:
                    _connect(connection)
                self._busy[connection] = response = self._ask(connection, method, target, sent)
            except (ConnectionError, http.client.BadStatusLine):
                self._drop(connection)
                if fresh:
                    raise
            except BaseException:
                self._drop(connection)
                raise
            else:
                return connection, response

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: Mapping[str, str],
    ) -> RawResponse:
        if self.stopped.is_set():
            raise StoppedError
        connection.request(method, target, headers=headers)
        return connection.getresponse()  # type: ignore[return-value]

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        self._busy.pop(connection, None)
        connection.close()

    def release(
        self, url: str, connection: http.client.HTTPConnection, response: RawResponse
    ) -> None:
        """Keep the connection, if all of the response was read, or little is left of no use."""
        little = response.status >= _NO_FILE and (response.length or _LITTLE_BYTES) < _LITTLE_BYTES
        if little and not response.isclosed() and connection.sock is not None:
            _read_out(response, connection.sock)
        parts = urlsplit(url)
        self._busy.pop(connection, None)
        if response.isclosed() and connection.sock is not None:
            with self._lock:
                if sum(map(len, self._idle.values())) < _KEPT:
                    self._idle.setdefault((parts.scheme, parts.netloc), []).append(connection)
                    return
        response.close()
        connection.close()

    def stop(self) -> None:
        """End every exchange that is under way, whatever it waits for, and let none begin."""
        self.stopped.set()
        for connection, response in list(self._busy.items()):
            cut(connection, response)

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _open(self, url: str, proxy: str | None) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        there = parts if proxy is None else _proxy_parts(proxy)
        host, port = there.hostname or "", there.port or _PORTS.get(there.scheme, 80)
        within = there is not parts and parts.scheme == there.scheme == "https"  # TLS in TLS
        if there.scheme not in _PORTS or within:
            raise NetworkError(
                f"a proxy that is spoken to by {there.scheme} cannot be used for {parts.scheme}",
                hint="name an http:// proxy, or except this host in NO_PROXY",
            )
        timeout = self._settings.timeout_s
        if parts.scheme == there.scheme == "http":
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        else:
            context = self._context_of(parts.netloc if parts.scheme == "https" else there.netloc)
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
        if there is not parts and parts.scheme == "https":
            headers = _proxy_authorization(proxy or "")
            connection.set_tunnel(parts.hostname or "", parts.port or 443, headers)
        connection.response_class = RawResponse
        return connection

    def _context_of(self, netloc: str) -> ssl.SSLContext:
        host = netloc.rpartition("@")[2].lower()
        if {host, host.partition(":")[0]} & {name.lower() for name in self._settings.trusted_hosts}:
            return self._context(checked=False)
        with self._lock:
            self._checked = self._checked or self._context(checked=True)
            return self._checked

    def _context(self, *, checked: bool) -> ssl.SSLContext:
        if checked:
            context = _trust(self._settings.cert)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self._settings.client_cert is not None:
            try:
                context.load_cert_chain(self._settings.client_cert)
            except OSError as error:
                raise TlhubError(f"{self._settings.client_cert} cannot be read") from error
        return context


def cut(connection: http.client.HTTPConnection, response: RawResponse | None) -> None:
    """End an exchange from another thread: its reader gets an error, or the end."""
    stream = getattr(getattr(response, "fp", None), "raw", None)
    sock = connection.sock or getattr(stream, "_sock", None)
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _read_out(response: RawResponse, sock: socket.socket) -> None:
    """Read the rest of the body, if it comes soon."""
    timeout, until, buffer = sock.gettimeout(), time.monotonic() + _LITTLE_S, bytearray(4096)
    with contextlib.suppress(OSError, http.client.HTTPException):
        sock.settimeout(_LITTLE_S)
        while time.monotonic() < until and response.readinto1(buffer):
            pass
        sock.settimeout(timeout)


def _connect(connection: http.client.HTTPConnection) -> None:
    try:
        connection.connect()
    except OSError as error:
        raise ConnectError(error) from error


def basic(user: str, password: str) -> str:
    """The value of an `Authorization` header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _trust(cert: Path | None) -> ssl.SSLContext:
    """Whose certificates are believed: those in a file or folder, or the system's."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if cert is None and os.environ.get(name):
            cert = Path(os.environ[name])
    if cert is None:
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    folder = cert.is_dir()
    try:
        return ssl.create_default_context(
            cafile=None if folder else str(cert), capath=str(cert) if folder else None
        )
    except OSError as error:
        raise TlhubError(
            f"the certificates in {cert} cannot be read: {error.strerror or error}",
            hint="look at `pip config debug`, and at SSL_CERT_FILE and REQUESTS_CA_BUNDLE",
        ) from error


def _proxy_of(scheme: str, netloc: str) -> str | None:
    """The proxy that the environment names for a server."""
    proxies: dict[str, Any] = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(netloc.rpartition("@")[2]):
        return None
    _proxy_parts(proxy)  # what is no address is said at once
    return str(proxy)


def _proxy_parts(proxy: str) -> SplitResult:
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise NetworkError(
            f"the proxy {proxy.rpartition('@')[2]!r} is no address",
            hint="look at HTTPS_PROXY, HTTP_PROXY and ALL_PROXY: http://host:port",
        )
    return parts


def _proxy_authorization(proxy: str) -> dict[str, str]:
    parts = _proxy_parts(proxy)
    if parts.username is None:
        return {}
    user, password = unquote(parts.username), unquote(parts.password or "")
    return {"Proxy-Authorization": basic(user, password)}


def _quoted(text: str) -> str:
    """Part of a URL as it may be sent: what is escaped already stays as it is."""
    return quote(text, safe=URL_SAFE)
