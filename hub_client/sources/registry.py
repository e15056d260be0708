"""Which module serves which URL scheme; listing them imports none."""

from __future__ import annotations

import importlib
from typing import cast

from catalog.errors import UsageError
from hub_client.sources.source import Job, Source

_SOURCES = {
    "az": "hub_client.sources.objects:ObjectSource",
    "file": "hub_client.sources.file:FileSource",
    "gs": "hub_client.sources.objects:ObjectSource",
    "hf": "hub_client.sources.hf:HuggingFaceSource",
    "http": "hub_client.sources.http:HttpSource",
    "https": "hub_client.sources.http:HttpSource",
    "hub+http": "hub_client.sources.hf:HuggingFaceSource",
    "hub+https": "hub_client.sources.hf:HuggingFaceSource",
    "pypi": "hub_client.sources.pypi:PyPISource",
    "s3": "hub_client.sources.objects:ObjectSource",
}
_LOCAL = frozenset({"file"})


def schemes() -> tuple[str, ...]:
    """The URL schemes that can be fetched."""
    return tuple(sorted(_SOURCES))


def is_local(url: str) -> bool:
    """Whether the URL can be fetched without a network."""
    return scheme_of(url) in _LOCAL


def scheme_of(url: str) -> str:
    """The scheme of a URL in lower case."""
    return url.partition(":")[0].lower()


def is_url(text: str) -> bool:
    """Whether ``text`` begins with a scheme that can be fetched."""
    return ":" in text and scheme_of(text) in _SOURCES


def open_source(scheme: str, job: Job) -> Source:
    """The source for a scheme.

    Raises:
        UsageError: there is none.
    """
    where = _SOURCES.get(scheme)
    if where is None:
        raise UsageError(
            f"no source for URLs that begin with {scheme}:",
            hint=f"tlhub knows {', '.join(schemes())}",
        )
    module, _, name = where.partition(":")
    return cast("Source", getattr(importlib.import_module(module), name)(job))
