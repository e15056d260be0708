"""One file over HTTP: resumed after any death, tried again, hashed on the way, checked before use.

What a server says about itself is never believed: a range that does not continue what is here
starts over, a length that is not the record's ends the transfer, and the digest has the last word.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import httpx2

from catalog.disk import check_space, writing
from catalog.errors import IntegrityError, NetworkError, StorageError
from catalog.record import Digest
from hub_client.network import Http, redact, split_credentials
from hub_client.partial import Origin, Partial
from hub_client.patience import Patience, Transient
from hub_client.progress import Progress, silent

log = logging.getLogger(__name__)

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True)
class Received:
    """A whole, verified file, flushed to disk, still at the place of its partial."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Wish:
    """What to fetch, and what is known of it beforehand."""

    url: str
    label: str
    digest: Digest | None = None
    size_bytes: int | None = None
    spare_bytes: int = 0  # what will be written besides, and must find room too


def download(
    wish: Wish,
    partial: Path,
    http: Http,
    *,
    progress: Progress = silent,
    patience: Patience | None = None,
) -> Received:
    """Bring the bytes of a URL to ``partial``, which the caller owns (`Store.partial`).

    After a kill or a network failure the partial stays, and the next call goes on from there.

    Raises:
        IntegrityError: the server has other bytes than these; the partial was removed.
        StorageError: no room, or no permission; the partial was removed.
        NetworkError, NotFoundError, AccessError: it could not be had.
    """
    if wish.digest is None:
        log.warning("%s has no published digest: only its length is checked", redact(wish.url))
    part = Partial(partial, wish.digest)
    # The name in the sidecar is without credentials.
    part.resume(split_credentials(wish.url)[0])
    started_over = False
    try:
        while True:
            (patience or Patience()).run(
                lambda: _pull(wish, part, http, progress), reached=lambda: part.size_bytes
            )
            if part.hasher.matches:
                part.finish()
                return Received(partial, part.hasher.sha256, part.size_bytes)
            if started_over or not part.resumed:
                raise _wrong_bytes(wish, part)
            log.warning("%s: what was resumed is wrong, starting over", redact(wish.url))
            started_over = True
            part.restart(None)
    except (IntegrityError, StorageError):
        part.discard()
        raise
    finally:
        part.close()


def _pull(wish: Wish, part: Partial, http: Http, progress: Progress) -> None:
    """One exchange: the rest of the file, or all of it."""
    have, origin = part.size_bytes, part.origin
    if have and origin is not None and origin.size_bytes == have and wish.digest is not None:
        return
    headers = {}
    if have and origin is not None:
        headers["Range"] = f"bytes={have}-"
        if origin.validator is not None:
            headers["If-Range"] = origin.validator
    with http.get(wish.url, headers) as response:
        _refuse_encoding(response, wish)
        if response.status_code == httpx2.codes.OK:
            part.restart(_origin(response, wish))
        elif not _continues(response, part):
            part.restart(None)
            raise Transient(NetworkError(f"{redact(wish.url)} sent a range that was not asked for"))
        else:
            part.resumed = True
        total = part.origin.size_bytes if part.origin is not None else None
        _refuse_size(total, wish, "announces")
        with writing(part.path):
            check_space(part.path.parent, (total or 0) - part.size_bytes + wish.spare_bytes)
        expected = wish.size_bytes if wish.size_bytes is not None else total
        progress(wish.label, part.size_bytes, expected)
        for chunk in response.iter_raw():
            part.write(chunk)
            if expected is not None and part.size_bytes > expected:
                _refuse_size(part.size_bytes, wish, "sent at least")
            progress(wish.label, part.size_bytes, expected)
    if total is not None and part.size_bytes < total:
        raise Transient(NetworkError(f"{redact(wish.url)} ended after {part.size_bytes} bytes"))
    _refuse_size(part.size_bytes, wish, "sent")


def _wrong_bytes(wish: Wish, part: Partial) -> IntegrityError:
    return IntegrityError(
        f"{wish.label} from {redact(wish.url)}: {part.hasher.mismatch()}; the partial file was "
        "deleted",
        hint="the file at this address was changed or damaged; try again, and report it to its "
        "publisher if it stays",
    )


def _origin(response: httpx2.Response, wish: Wish) -> Origin:
    etag = response.headers.get("etag", "")
    length = response.headers.get("content-length", "")
    return Origin(
        url=split_credentials(wish.url)[0],
        etag=etag if etag.startswith('"') else None,  # a weak one proves nothing about bytes
        last_modified=response.headers.get("last-modified"),
        size_bytes=int(length) if length.isdigit() else None,
    )


def _continues(response: httpx2.Response, part: Partial) -> bool:
    """Whether a 206 goes on exactly where, and in what, the partial stopped."""
    span = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
    if response.status_code != httpx2.codes.PARTIAL_CONTENT or span is None or part.origin is None:
        return False
    etag = response.headers.get("etag")
    same = part.origin.etag is None or etag is None or etag == part.origin.etag
    first, last, total = map(int, span.groups())
    return (
        same
        and first == part.size_bytes
        and last == total - 1
        and part.origin.size_bytes in {None, total}
    )


def _refuse_encoding(response: httpx2.Response, wish: Wish) -> None:
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in {"", "identity"}:
        raise NetworkError(
            f"{redact(wish.url)} came with Content-Encoding {encoding}, which was not asked for",
            hint="the server or a proxy changes files on the way; use another mirror",
        )


def _refuse_size(size: int | None, wish: Wish, verb: str) -> None:
    if wish.size_bytes is not None and size is not None and size != wish.size_bytes:
        raise IntegrityError(
            f"{wish.label} from {redact(wish.url)}: the server {verb} {size} bytes, expected "
            f"{wish.size_bytes}; nothing was kept",
            hint="the file at this address was changed or damaged",
        )
