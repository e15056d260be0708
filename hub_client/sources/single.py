"""One file by one URL, as an artifact."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from catalog.errors import UsageError
from catalog.record import Artifact, Digest
from hub_client.archives import leaves_folder
from hub_client.formats import kind_of
from hub_client.network import without_credentials
from hub_client.transfer import Wish

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # what could steer a terminal, or break a line


def single(name: str, url: str, digest: Digest | None, size_bytes: int | None = None) -> Artifact:
    """A file that stands alone, by the last part of its name.

    Raises:
        UsageError: it has none, or one that no file should have.
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    if not last or leaves_folder(last) or CONTROL.search(last):
        raise UsageError(f"{without_credentials(url)} names no file")
    kind = kind_of(last)
    return Artifact(
        path=last,
        format=kind.format,
        urls=(url,),
        precision=kind.precision if kind.is_weights else None,
        size_bytes=size_bytes,
        digest=digest,
        safe=kind.safe,
    )


def stated_digest(url: str) -> Digest | None:
    """The digest that a URL states behind `#sha256=`; a part of one counts as its beginning.

    Raises:
        UsageError: it is no SHA-256.
    """
    stated = parse_qs(url.partition("#")[2]).get("sha256")
    if not stated:
        return None
    value = stated[0].lower()
    if not re.fullmatch(r"[0-9a-f]{8,64}", value):
        raise UsageError(f"#sha256={stated[0]} is no SHA-256", hint="write its 64 hex digits")
    return Digest(algorithm="sha256", value=value, prefix=len(value) < 64)


def wish_for(artifact: Artifact, url: str) -> Wish:
    """An artifact as the transfer wants it said."""
    digest = artifact.digest
    git = digest is not None and digest.algorithm == "git-sha1"
    return Wish(
        url=url,
        label=artifact.path,
        digest=None if git else digest,
        git_sha1=digest.value if git and digest is not None else None,
        size_bytes=artifact.size_bytes,
    )
