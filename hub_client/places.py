"""What an address stands for, and which of its files are here already."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import msgspec

from catalog.errors import TlhubError, UsageError
from catalog.record import Artifact
from hub_client.failures import Failure, combine
from hub_client.mirrors import Mirrors, mirrored, on
from hub_client.sources.registry import open_source, scheme_of
from hub_client.sources.source import Job, Place, Source, Wanted
from hub_client.store import Store

# What a browser shows of a repository on the Hugging Face hub, and of a file in it.
_PAGE = re.compile(
    r"https://(?:huggingface\.co|hf\.co)/(?P<repo>(?!(?:api|datasets|docs|spaces)/)[^/#?]+/[^/#?]+)"
    r"(?:/(?:tree|blob)/(?P<revision>[^/#?]+)(?:/(?P<path>[^#?]+))?)?/?(?:\?[^#]*)?"
)
_LISTED = {"az", "gs", "hf", "hub+http", "hub+https", "s3"}  # somebody is asked what is there


def resolve(url: str, job: Job, *, offline: bool = False, mirrors: Mirrors = ()) -> Place:
    """What is at ``url``, asked of its mirrors first; addresses are the publisher's own.

    Raises:
        UsageError: the URL makes no sense.
        NotFoundError, AccessError, NetworkError: nothing is there, or it cannot be asked.
        OfflineError: only the network could tell, and it is ruled out.
        UnsafeError: what it lists would lie outside its folder.
    """
    page = _PAGE.fullmatch(url)
    if page:
        revision, path = page["revision"], unquote(page["path"] or "")
        url = f"hf:{page['repo']}{f'@{revision}' if revision else ''}{f'!{path}' if path else ''}"
    job = replace(job, mirrors=mirrors)
    failures: list[Failure] = []
    asked = [("", "")]
    if scheme_of(url) in _LISTED:
        asked = [*(mirror for mirror in mirrors if url.startswith(mirror[0])), *asked]
    for prefix, replacement in asked:
        address = on(url, prefix, replacement)
        with contextlib.closing(open_source(scheme_of(address), job)) as source:
            try:
                found = source.resolve(address, offline=offline)
            except TlhubError as error:
                failures.append((address, error))
                continue
        return _moved(found, replacement, prefix)
    raise combine(url, failures)


def find(artifacts: Iterable[Artifact], store: Store, mirrors: Mirrors = ()) -> dict[str, Path]:
    """Those artifacts that are on this machine, by their path; every byte is hashed."""
    here: dict[str, Path] = {}
    sources: dict[str, Source] = {}
    with contextlib.ExitStack() as opened:

        def source_of(url: str) -> Source:
            scheme = scheme_of(url)
            if scheme not in sources:
                source = open_source(scheme, Job(store, mirrors=mirrors))
                sources[scheme] = opened.enter_context(contextlib.closing(source))
            return sources[scheme]

        for artifact in mirrored(artifacts, mirrors):
            for url in artifact.urls:
                with contextlib.suppress(UsageError):  # a scheme of a later tlhub
                    path = source_of(url).find(Wanted(artifact, url))
                    if path is not None:
                        here[artifact.path] = path
                        break
    return here


def note(place: Place, job: Job) -> None:
    """Let stock clients find by its branch or tag what was fetched of ``place``."""
    if place.revision is not None:
        from hub_client.sources.hf import HuggingFaceSource

        with contextlib.closing(HuggingFaceSource(job)) as source:
            source.note(place)


def _moved(place: Place, prefix: str, replacement: str) -> Place:
    """The place with every address on ``replacement``, where it was on ``prefix``."""
    artifacts = tuple(
        msgspec.structs.replace(a, urls=tuple(on(url, prefix, replacement) for url in a.urls))
        for a in place.artifacts
    )
    return replace(place, url=on(place.url, prefix, replacement), artifacts=artifacts)
