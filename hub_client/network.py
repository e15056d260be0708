"""HTTP as everything here speaks it: credentials stay with their origin, failures are explained.

What may go away by itself (a drop, a time-out, 429, 5xx) is a `Transient`, for `Patience` to try
again. Everything else is an error of the user's world and rises at once.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import logging
import netrc
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

import httpx2

from catalog.errors import (
    AccessError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    TlhubError,
    UsageError,
)
from hub_client.patience import Patience, Transient

log = logging.getLogger(__name__)

_RANGE_NOT_SATISFIABLE = 416
_MAX_REDIRECTS = 10
_LONGEST_WAIT_S = 120.0  # a server that asks for more is not waited for
_TRY_LATER = {408, 425, 429, 500, 502, 503, 504, 507, 509}


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
    timeout_s: float = 30.0  # without a byte


class Http:
    """A client for one job."""

    def __init__(self, settings: HttpSettings | None = None) -> None:
        self._settings = settings or HttpSettings()
        self._client = _open(self._settings)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    @contextlib.contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx2.Response]:
        """The response to a GET, redirects followed, its body not yet read: 2xx or 416.

        ``url`` may hold `user:password@`; they go to its origin only, and a redirect to another
        one goes without.

        Raises:
            Transient: it may work the next time; also while the body is read inside the block.
            NotFoundError: 404 or 410.
            AccessError: 401, 403 or 407.
            NetworkError: it cannot work.
        """
        clean, authorization = split_credentials(url)
        home = origin_of(clean)
        here = clean
        try:
            for _ in range(_MAX_REDIRECTS):
                sent = {"Accept-Encoding": "identity", **(headers or {})}
                own = authorization if origin_of(here) == home else None
                own = own or self._credential(here)
                if own is not None:
                    sent["Authorization"] = own
                with self._client.stream("GET", here, headers=sent) as response:
                    if response.has_redirect_location:
                        here = _redirected(here, response.headers["location"])
                        continue
                    _raise_for_status(response, here)
                    yield response
                    return
        except httpx2.TransportError as error:
            raise _explain(error, here, self._settings.proxy or _proxy_of(here)) from error
        except (httpx2.InvalidURL, httpx2.StreamError, httpx2.DecodingError) as error:
            raise NetworkError(f"{redact(here)} cannot be fetched: {error}") from error
        raise NetworkError(f"{redact(clean)} redirects more than {_MAX_REDIRECTS} times")

    def read(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        limit_bytes: int,
        patience: Patience | None = None,
    ) -> tuple[bytes, str, str]:
        """A small document: its bytes, its media type, and the URL it came from in the end.

        Raises:
            IntegrityError: it is longer than ``limit_bytes``.
            NetworkError, NotFoundError, AccessError: as `get`, after trying again.
        """

        def attempt() -> tuple[bytes, str, str]:
            body = bytearray()
            with self.get(url, headers) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > limit_bytes:
                        raise IntegrityError(f"{redact(url)} is longer than {limit_bytes} bytes")
                kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                return bytes(body), kind, str(response.url)

        return (patience or Patience()).run(attempt)

    def _credential(self, url: str) -> str | None:
        known = self._settings.credentials.get(origin_of(url))
        return known or _from_netrc(urlsplit(url).hostname or "")


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
    return clean, _basic(unquote(name), unquote(password))


def redact(url: str) -> str:
    """The URL as it may be shown: without credentials, query and fragment."""
    try:
        parts = split_url(url)
    except UsageError:
        return "an address that is no URL"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _redirected(here: str, location: str) -> str:
    try:
        there, _ = split_credentials(urljoin(here, location))
    except (ValueError, UsageError) as error:
        raise NetworkError(f"{redact(here)} redirects to what is no URL") from error
    if urlsplit(there).scheme not in {"http", "https"}:
        raise NetworkError(f"{redact(here)} redirects to {redact(there)}, which is not HTTP")
    return there


def _open(settings: HttpSettings) -> httpx2.Client:
    context = _trust(settings.cert)
    if settings.client_cert is not None:
        try:
            context.load_cert_chain(settings.client_cert)
        except OSError as error:
            raise TlhubError(f"{settings.client_cert} cannot be read") from error
    mounts = {}
    for host in settings.trusted_hosts:
        unchecked = httpx2.create_ssl_context(verify=False)
        if settings.client_cert is not None:
            unchecked.load_cert_chain(settings.client_cert)
        # A transport of one's own is not given the environment's proxy.
        proxy = settings.proxy or _proxy_of(f"https://{host}")
        mounts[f"https://{host}"] = httpx2.HTTPTransport(verify=unchecked, proxy=proxy)
    return httpx2.Client(
        verify=context,
        proxy=settings.proxy,
        mounts=mounts,
        timeout=settings.timeout_s,
        follow_redirects=False,
        headers={"User-Agent": "tlhub"},
    )


def _trust(cert: Path | None) -> ssl.SSLContext:
    """Whose certificates are believed: those in a file or folder, or the usual ones."""
    if cert is None:
        return httpx2.create_ssl_context()
    folder = cert.is_dir()
    try:
        return ssl.create_default_context(
            cafile=None if folder else str(cert), capath=str(cert) if folder else None
        )
    except OSError as error:
        raise TlhubError(
            f"the certificates in {cert} cannot be read: {error.strerror or error}",
            hint="look at `pip config debug` and at REQUESTS_CA_BUNDLE",
        ) from error


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _from_netrc(host: str) -> str | None:
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except FileNotFoundError:
        return None
    except (netrc.NetrcParseError, OSError) as error:
        log.warning("the netrc file is not used: %s", error)
        return None
    return _basic(found[0], found[2] or "") if found is not None else None


def _raise_for_status(response: httpx2.Response, url: str) -> None:
    status = response.status_code
    if response.is_success or status == _RANGE_NOT_SATISFIABLE:
        return
    said = f"{redact(url)} answered {status} {response.reason_phrase}".rstrip()
    if status in _TRY_LATER:
        wait_s = _retry_after(response.headers.get("retry-after"))
        if wait_s is not None and wait_s > _LONGEST_WAIT_S:
            raise NetworkError(f"{said} and asks to wait {wait_s:.0f} s", hint="try again then")
        raise Transient(NetworkError(said, hint="try again later"), wait_s=wait_s)
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
        then = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, then.timestamp() - time.time())


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for a URL."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _explain(error: httpx2.TransportError, url: str, proxy: str | None) -> Exception:
    """A failed exchange as a sentence, and whether to try again."""
    host = urlsplit(url).hostname
    # What the machine really talks to; a closed door there is not the host's.
    door = f"the proxy {redact(proxy)}" if proxy else urlsplit(url).netloc
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return NetworkError(
            f"the certificate of {host} cannot be verified: {error}",
            hint="behind a proxy that re-signs, set SSL_CERT_FILE to its certificates",
        )
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError):
        return NetworkError(f"{redact(url)} cannot be fetched: {error}")
    if isinstance(error, httpx2.ProxyError):
        hint = "look at the proxy settings (HTTPS_PROXY, or pip's)"
        return Transient(
            NetworkError(f"the proxy refused {redact(url)}: {error}", hint=hint), tries=2
        )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        hint = "look at the network connection and at the name"
        missing = door if proxy else f"the host {host}"
        return Transient(NetworkError(f"{missing} was not found", hint=hint), tries=2)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        hint = "look whether the server is up, and at the port"
        return Transient(NetworkError(f"{door} refused the connection", hint=hint), tries=2)
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        hint = "look at the network connection and at the proxy settings"
        reason = "timed out" if isinstance(error, httpx2.ConnectTimeout) else str(error)
        return Transient(NetworkError(f"no connection to {door}: {reason}", hint=hint), tries=2)
    if isinstance(error, httpx2.TimeoutException):
        said = f"{redact(url)} sent nothing for too long"
    else:
        said = f"the connection to {host} broke while {redact(url)} was read: {error}"
    return Transient(NetworkError(said, hint="run it again: it goes on where it stopped"))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
