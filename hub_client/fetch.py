"""From artifacts to verified local files: each of their places is tried in turn."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qs

import msgspec

from catalog.errors import NotFoundError, OfflineError, StorageError, TlhubError, UsageError
from catalog.record import Artifact, Digest
from hub_client.failures import Failure, combine
from hub_client.mirrors import Mirrors, mirrored
from hub_client.network import redact, split_url
from hub_client.progress import Progress, silent
from hub_client.sources.registry import is_local, open_source, scheme_of
from hub_client.sources.source import Job, Source, Wanted
from hub_client.store import Store

log = logging.getLogger(__name__)

_WITH_DIGEST = {"http", "https", "file"}  # `#sha256=` in these is the digest of the file itself


def fetch(
    artifacts: Sequence[Artifact],
    store: Store,
    *,
    mirrors: Mirrors = (),
    offline: bool = False,
    progress: Progress = silent,
) -> dict[str, Path]:
    """A local file for each artifact, by its ``path``; every one was hashed in this call.

    What is here and whole is used as it is, without any network. Nothing is ever left in place
    that is not what the digest says; an interrupted transfer goes on where it stopped.

    Raises:
        OfflineError: something is missing and ``offline`` rules the network out.
        IntegrityError, AccessError, NetworkError, NotFoundError: no place had the right bytes;
            the gravest of their reasons, all of which are in the message.
        StorageError: the store cannot be read or written.
    """
    with _Sources(Job(store, progress, mirrors)) as sources:
        todo = [_with_digest(artifact) for artifact in mirrored(artifacts, mirrors)]
        found: dict[str, Path] = {}
        for artifact in todo:
            path = sources.find(artifact)
            if path is not None:
                found[artifact.path] = path
        missing = [artifact for artifact in todo if artifact.path not in found]
        if missing and offline:
            missing = [_only_local(artifact, store) for artifact in missing]
        places = {artifact.path: iter(artifact.urls) for artifact in missing}
        failures: dict[str, list[Failure]] = {artifact.path: [] for artifact in missing}
        while missing:
            wanted = [_next_place(a, places[a.path], failures[a.path]) for a in missing]
            for group in sources.groups(wanted, failures):
                for item, answer in sources.bring(group):
                    if isinstance(answer, TlhubError):
                        log.info("%s: %s", redact(item.url), answer)
                        failures[item.artifact.path].append((item.url, answer))
                    else:
                        found[item.artifact.path] = answer
            missing = [artifact for artifact in missing if artifact.path not in found]
        return {artifact.path: found[artifact.path] for artifact in todo}


class _Sources:
    """The sources of one fetch, opened as they are needed."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._open: dict[str, Source] = {}

    def __enter__(self) -> _Sources:
        return self

    def __exit__(self, *_: object) -> None:
        for source in self._open.values():
            source.close()

    def open(self, url: str) -> Source:
        scheme = scheme_of(url)
        if scheme not in self._open:
            self._open[scheme] = open_source(scheme, self._job)
        return self._open[scheme]

    def bring(self, group: Sequence[Wanted]) -> Iterator[tuple[Wanted, Path | TlhubError]]:
        """What became of each file of a group; a disk that is full or closed ends it all."""
        try:
            answers = self.open(group[0].url).bring(group)
        except StorageError:
            raise
        except TlhubError as error:
            answers = dict.fromkeys((item.artifact.path for item in group), error)
        for item in group:
            answer = answers[item.artifact.path]
            if isinstance(answer, StorageError):
                raise answer
            yield item, answer

    def find(self, artifact: Artifact) -> Path | None:
        if not artifact.urls:
            return self._job.store.find(artifact)
        for url in artifact.urls:
            with contextlib.suppress(UsageError):  # a scheme of a later tlhub: another may do
                path = self.open(url).find(Wanted(artifact, url))
                if path is not None:
                    return path
        return None

    def groups(
        self, wanted: Sequence[Wanted], failures: dict[str, list[Failure]]
    ) -> Iterator[list[Wanted]]:
        groups: dict[tuple[str, str], list[Wanted]] = {}
        for item in wanted:
            try:
                key = (scheme_of(item.url), self.open(item.url).group(item.url))
            except TlhubError as error:
                failures[item.artifact.path].append((item.url, error))
            else:
                groups.setdefault(key, []).append(item)
        yield from groups.values()


def _with_digest(artifact: Artifact) -> Artifact:
    """The artifact with the digest that one of its URLs states, where it has none itself."""
    if artifact.digest is None:
        for url in artifact.urls:
            parts = split_url(url)
            stated = parse_qs(parts.fragment).get("sha256")
            if parts.scheme in _WITH_DIGEST and ".zip!" not in url and stated:
                digest = Digest(algorithm="sha256", value=stated[0], prefix=len(stated[0]) < 64)
                return msgspec.structs.replace(artifact, digest=digest)
    return artifact


def _only_local(artifact: Artifact, store: Store) -> Artifact:
    urls = tuple(url for url in artifact.urls if is_local(url))
    if not urls:
        raise OfflineError(
            f"{artifact.path} is not in {store.home}, and the network was ruled out",
            hint="run it once without --offline",
        )
    return msgspec.structs.replace(artifact, urls=urls)


def _next_place(artifact: Artifact, places: Iterator[str], failures: list[Failure]) -> Wanted:
    for url in places:
        return Wanted(artifact, url)
    if not failures:
        raise NotFoundError(f"no address is known for {artifact.path}")
    raise combine(artifact.path, failures)
