"""The pages of a hub's `GET /api/models`, newest change first, each with where the next one is.

`huggingface_hub` says which hub and with which token; it has no way to go on at a page (its
`list_models` gives models one by one), so that pages are asked for here. A hub that is busy or
counts requests is waited for as it asks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import huggingface_hub as hub
from huggingface_hub import constants
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    get_session,
    parse_ratelimit_headers,
)

from catalog.errors import AccessError, NetworkError, NotFoundError
from hub_client.network import origin_of, redact
from hub_client.patience import Patience, Transient
from hub_client.sources.hf_listing import headers_of
from hub_client.sources.json_items import items

_PAGE = 500  # models; a hub may give fewer
_LARGEST_PAGE_BYTES = 256 << 20
_TIMEOUT_S = 90.0  # hubs themselves give up on a slow query after 60
_LONGEST_WAIT_S = 900.0  # a hub's window is five minutes
_TRY_LATER = {408, 425, 429, 500, 502, 503, 504, 507, 509}


@dataclass(frozen=True)
class Page:
    """Entries as the hub wrote them, None for one that cannot be read.

    ``next`` is the query of the next page, None at the end.
    """

    entries: list[Any]
    next: str | None


class ModelPages:
    """The models of one hub, some of them or all: of the one at ``endpoint``, or of HF_ENDPOINT's.

    ``waiting`` is told the seconds that the hub wants to be left in peace.
    """

    def __init__(
        self,
        expand: Sequence[str],
        *,
        endpoint: str | None = None,
        task: str | None = None,
        author: str | None = None,
        waiting: Callable[[float], None] = lambda _: None,
        patience: Patience | None = None,
    ) -> None:
        self._endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        # The user's token is for the hub of HF_ENDPOINT, and no other.
        own = origin_of(self._endpoint) == origin_of(constants.ENDPOINT)
        known = own and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN
        self._headers = headers_of(hub.get_token() if known else None)
        self.endpoint = redact(self._endpoint)  # to be shown and kept
        asked = [("sort", "lastModified"), ("direction", "-1"), *(("expand", e) for e in expand)]
        asked += [("pipeline_tag", task)] if task else []
        asked += [("author", author)] if author else []
        self.first = urlencode(asked)
        self._waiting = waiting
        self._patience = patience or Patience()
        self._rest_until = 0.0

    def page(self, query: str, at_most: int | None = None) -> Page:
        """One page: the one of ``first`` or of another page's ``next``.

        Raises:
            NotFoundError: the hub does not know the page (any more).
            AccessError: it does not let us.
            NetworkError: it cannot be reached, or what answers is no hub.
        """
        size = min(_PAGE, at_most or _PAGE)
        full = urlencode([*parse_qsl(query), ("limit", str(size))])
        entries, link = self._patience.run(lambda: self._get(full))
        following = _following(link) if link else None
        if following == query:
            raise NetworkError(
                f"{self.endpoint} names the same page as the next one, again and again"
            )
        return Page(entries, following)

    def _get(self, query: str) -> tuple[list[Any], str | None]:
        self._rest()
        url = f"{self._endpoint}/api/models?{query}"
        with (
            self._explained(),
            get_session().stream("GET", url, headers=self._headers, timeout=_TIMEOUT_S) as response,
        ):
            self._check(response)
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _LARGEST_PAGE_BYTES:
                    raise NetworkError(f"{self.endpoint} sent a page without end")
            limits = parse_ratelimit_headers(response.headers)
        if limits is not None and limits.remaining == 0:
            self._rest_until = time.monotonic() + min(limits.reset_in_seconds, _LONGEST_WAIT_S)
        try:
            entries = items(bytes(body))
        except ValueError as error:
            raise Transient(NetworkError(f"{self.endpoint} sent a broken page: {error}")) from error
        if not isinstance(entries, list):
            raise NetworkError(
                f"{self.endpoint}/api/models is no list of models",
                hint="look at HF_ENDPOINT: it names a Hugging Face hub, or one that is compatible",
            )
        return entries, response.links.get("next", {}).get("url")

    def _rest(self) -> None:
        wait_s = self._rest_until - time.monotonic()
        if wait_s > 0:
            self._waiting(wait_s)
            time.sleep(wait_s)

    def _check(self, response: httpx2.Response) -> None:
        status = response.status_code
        if response.is_success:
            return
        said = f"{self.endpoint} answered {status} {response.reason_phrase}".rstrip()
        if status in _TRY_LATER:
            wait_s = _asked_to_wait(response.headers)
            if wait_s is not None and wait_s > _LONGEST_WAIT_S:
                raise NetworkError(
                    f"{said} and asks to wait {wait_s:.0f} s",
                    hint="run it again then: it goes on where it stopped",
                )
            if wait_s is not None:
                self._waiting(wait_s)
            hint = "run it again later: it goes on where it stopped"
            raise Transient(NetworkError(said, hint=hint), wait_s=wait_s)
        if status in {400, 404, 410, 422}:
            raise NotFoundError(said, hint="look at HF_ENDPOINT")
        if status in {401, 403}:
            raise AccessError(said, hint="`hf auth login`, or look at HF_TOKEN")
        raise NetworkError(said, hint="look at HF_ENDPOINT")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TransportError as error:
            said = str(error) or type(error).__name__
            # A hub that was never there seldom comes; a line that broke does.
            unreachable = isinstance(error, httpx2.ConnectError | httpx2.UnsupportedProtocol)
            raise Transient(
                NetworkError(
                    f"{self.endpoint} cannot be reached: {said}",
                    hint="look at the network connection and at HF_ENDPOINT; what was read so far "
                    "is kept",
                ),
                tries=2 if unreachable else None,
            ) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise NetworkError(
                f"{self.endpoint} cannot be read: {error}", hint="look at HF_ENDPOINT"
            ) from error


def _following(link: str) -> str:
    """The query of a `Link`. Its host is not looked at: a mirror may name the hub it mirrors."""
    return urlencode([(name, value) for name, value in parse_qsl(urlsplit(link).query)
                      if name != "limit"])  # fmt: skip


def _asked_to_wait(headers: httpx2.Headers) -> float | None:
    limits = parse_ratelimit_headers(headers)
    if limits is not None and limits.remaining == 0:
        return float(limits.reset_in_seconds)
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    return None
