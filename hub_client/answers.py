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
    etag = response.headers.get("etag", "")
    return Origin(
        url=split_credentials(wish.url)[0],
        etag=etag if etag.startswith('"') else None,  # a weak one proves nothing about bytes
        last_modified=response.headers.get("last-modified"),
        size_bytes=response.length_bytes,
    )


def continues(response: Response, span: Span, origin: Origin) -> bool:
    """Whether a 206 is of the same object, and of exactly the bytes that were asked for."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
    if response.status != PARTIAL_CONTENT or found is None:
        return False
    etag = response.headers.get("etag")
    same = origin.etag is None or etag is None or etag == origin.etag
    first, last, total = map(int, found.groups())
    return (
        same
        and first == span.at
        and last == (span.end if span.end is not None else total) - 1
        and origin.size_bytes in {None, total}
    )


def total_of(response: Response) -> int:
    """The length of the whole file, by a partial answer."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
    return int(found[3]) if found is not None else 0
