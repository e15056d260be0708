"""What the head of an answer says of the file behind it, and whether it is what was asked for."""

from __future__ import annotations

import re

from hub_client.network import Response, split_credentials
from hub_client.partial import Origin
from hub_client.spans import Span
from hub_client.transfer import Wish

OK, PARTIAL_CONTENT = 200, 206

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


def described(response: Response, wish: Wish) -> Origin:
    """The object that is sent, as it is known again later."""
    return Origin(
        url=split_credentials(wish.url)[0],
        etag=response.headers.get("etag"),
        last_modified=response.headers.get("last-modified"),
        size_bytes=response.length_bytes,
    )


def is_same(response: Response, origin: Origin) -> bool:
    """Whether an answer is of the object that was begun with, by all that it says of it."""
    etag, modified = response.headers.get("etag"), response.headers.get("last-modified")
    if etag is not None and origin.etag is not None:
        if etag != origin.etag:
            return False
        if etag.startswith('"'):  # the same bytes, whatever each server says of their age
            return True
    return modified is None or origin.last_modified in {None, modified}


def continues(response: Response, span: Span, origin: Origin) -> bool:
    """Whether a 206 is of the same object, and of exactly the bytes that were asked for."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
    if response.status != PARTIAL_CONTENT or found is None:
        return False
    first, last, total = map(int, found.groups())
    return (
        is_same(response, origin)
        and first == span.at
        and last == (span.end if span.end is not None else total) - 1
        and origin.size_bytes in {None, total}
    )


def total_of(response: Response) -> int:
    """The length of the whole file, by a partial answer."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
    return int(found[3]) if found is not None else 0
