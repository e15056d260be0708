"""One file over HTTP: resumed after any death, tried again, hashed on the way, checked before use.

What a server says about itself is never believed: a range that does not continue what is here
starts over, a length that is not the record's ends the transfer, and the digest has the last word.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from catalog.disk import reading, writing
from catalog.errors import (
    AccessError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    StorageError,
)
from catalog.record import Digest
from hub_client.digests import GitSha1, Hasher, hash_file
from hub_client.network import Http, Response, redact, split_credentials
from hub_client.partial import Partial, remove_partial
from hub_client.patience import Patience, Transient
from hub_client.progress import Progress, silent

log = logging.getLogger(__name__)

SMALL_BYTES = 1_000_000  # to start such a file over costs no more than to remember where it was


@dataclass(frozen=True)
class Received:
    """A whole, verified file, flushed to disk, still at the place of its partial."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Wish:
    """What to fetch, and what is known of it beforehand.

    ``headers`` go to the origin of ``url`` and nowhere else, whatever redirects say; they are
    never logged or kept.
    """

    url: str
    label: str
    digest: Digest | None = None
    size_bytes: int | None = None
    spare_bytes: int = 0  # what will be written besides, and must find room too
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    git_sha1: str | None = None  # git's name for the content

    @property
    def small(self) -> bool:
        """Whether it is fetched in one go, without a partial that could be resumed."""
        return self.size_bytes is not None and self.size_bytes <= SMALL_BYTES

    def hasher(self) -> Hasher:
        """What its bytes are given to; without the size, git's name is for the whole file."""
        git = None
        if self.git_sha1 is not None and self.size_bytes is not None:
            git = GitSha1(self.git_sha1, self.size_bytes)
        return Hasher(self.digest, git)


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
    A large file comes over several connections where that is faster.

    Raises:
        IntegrityError: the server has other bytes than these; the partial was removed.
        StorageError: no room, or no permission; the partial was removed.
        NetworkError, NotFoundError, AccessError: it could not be had.
    """
    patience = patience or Patience()
    with http.lanes:
        if wish.small:
            received = download_small(wish, partial, http, patience=patience)
            with writing(partial), partial.open("r+b") as file:
                os.fsync(file.fileno())
            progress(wish.label, received.size_bytes, wish.size_bytes)
            return received
        return _download(wish, partial, http, progress, patience)


def download_small(wish: Wish, partial: Path, http: Http, *, patience: Patience) -> Received:
    """As `download`, a file of few bytes: all of it or nothing, and not yet flushed."""
    size = wish.size_bytes or 0

    def attempt() -> bytes:
        with http.get(wish.url, private=wish.headers) as response:
            refuse_encoding(response)
            announced = response.length_bytes
            refuse_size(announced, wish, "announces")
            body = response.read(size, patience)
        if announced is not None and len(body) < announced:
            raise Transient(NetworkError(f"{redact(wish.url)} ended after {len(body)} bytes"))
        refuse_size(len(body), wish, "sent")
        return body

    hasher = wish.hasher()
    try:
        body = patience.run(attempt, sleep=http.sleep)
        hasher.update(body)
        if not hasher.matches:
            raise _wrong_bytes(wish, hasher)
        with writing(partial):
            partial.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(body)
    except (IntegrityError, StorageError):
        remove_partial(partial)
        raise
    return Received(partial, hasher.sha256, hasher.size_bytes)


def _download(
    wish: Wish, partial: Path, http: Http, progress: Progress, patience: Patience
) -> Received:
    from hub_client.ranges import Round  # here: it needs what is above

    if wish.digest is None and wish.git_sha1 is None:
        log.warning("%s has no published digest: only its length is checked", redact(wish.url))
    part = Partial(partial, wish.hasher())
    # The name in the sidecar is without credentials.
    part.resume(split_credentials(wish.url)[0])
    started_over = False
    try:
        while True:
            patience.run(
                lambda: Round(wish, part, http, progress, patience).run(),
                reached=lambda: part.size_bytes,
                sleep=http.sleep,
            )
            hasher = _hashed(part, wish)
            if hasher.matches:
                part.finish()
                progress(wish.label, hasher.size_bytes, hasher.size_bytes)
                return Received(partial, hasher.sha256, hasher.size_bytes)
            if started_over or not part.resumed:
                raise _wrong_bytes(wish, hasher)
            log.warning("%s: what was resumed is wrong, starting over", redact(wish.url))
            started_over = True
            part.restart(None)
    except (IntegrityError, StorageError):
        part.discard()
        raise
    except (NetworkError, NotFoundError, AccessError):
        if not part.size_bytes:  # nothing to go on from
            part.discard()
        raise
    finally:
        with contextlib.suppress(StorageError):  # what matters was raised before, or is flushed
            part.close()


def _hashed(part: Partial, wish: Wish) -> Hasher:
    """The hash of all that is here: git's too, which begins with the size."""
    hasher = part.hashed()
    if wish.git_sha1 is None or hasher.git is not None or not hasher.matches:
        return hasher
    with reading(part.path):
        return hash_file(part.path, Digest(algorithm="git-sha1", value=wish.git_sha1))


def refuse_encoding(response: Response) -> None:
    """Raise a `NetworkError` where the body is not the file itself."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in {"", "identity"}:
        raise NetworkError(
            f"{redact(response.url)} was sent packed with {encoding}, though it was asked for as "
            "it is: its bytes could be neither checked nor resumed, so nothing was kept",
            hint="its server, or a proxy on the way, is set up wrongly; name another place for it "
            "with TLHUB_MIRRORS",
        )


def refuse_size(size: int | None, wish: Wish, verb: str) -> None:
    """Raise an `IntegrityError` where ``size`` is not what it should be."""
    if wish.size_bytes is not None and size is not None and size != wish.size_bytes:
        raise IntegrityError(
            f"{wish.label} from {redact(wish.url)}: the server {verb} {size} bytes, expected "
            f"{wish.size_bytes}; nothing was kept",
            hint="the file at this address was changed or damaged",
        )


def _wrong_bytes(wish: Wish, hasher: Hasher) -> IntegrityError:
    return IntegrityError(
        f"{wish.label} from {redact(wish.url)}: {hasher.mismatch()}; the partial file was deleted",
        hint="the file at this address was changed or damaged; try again, and report it to its "
        "publisher if it stays",
    )
