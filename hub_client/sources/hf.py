"""`hf:owner/name@revision!path`: files of a Hugging Face hub, in the Hugging Face cache.

`huggingface_hub` knows who we are, where the hub is and how its cache is laid out, so that
`transformers` and `timm` find what tlhub fetched and the other way round; the bytes come by our
own transfer, which resumes and hashes them (SHA-256 for LFS files, git's SHA-1 for the others).
Large files that the hub offers by Xet come by that, and are hashed all the same.

`hub+https://host/owner/name` is the same on another hub than the one HF_ENDPOINT names, which is
not told who we are. It has a cache of its own, as its names are not those of the other, unless it
is a mirror of it.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import huggingface_hub as hub
from huggingface_hub import constants

from catalog.errors import (
    AccessError,
    IntegrityError,
    NotFoundError,
    StorageError,
    TlhubError,
)
from catalog.record import Artifact
from hub_client.digests import GitSha1, Hasher
from hub_client.mirrors import places
from hub_client.network import Http, origin_of
from hub_client.partial import own_path, sweep
from hub_client.sources.hf_cache import PARTIAL, RepoCache
from hub_client.sources.hf_errors import RepoFile, file_url, no_access
from hub_client.sources.hf_listing import (
    COMMIT,
    SHA256,
    Entry,
    Listing,
    Listings,
    headers_of,
)
from hub_client.sources.hf_xet import by_xet
from hub_client.sources.source import Job, Place, Wanted
from hub_client.store import file_name
from hub_client.transfer import SMALL_BYTES, Received, Wish
from hub_client.transfer_many import download_many

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20

Answers = dict[str, Path | TlhubError]


class HuggingFaceSource:
    """Files of the hub that `HF_ENDPOINT` names, or that ``endpoint`` or the URL does."""

    def __init__(self, job: Job, *, endpoint: str | None = None, cache: Path | None = None) -> None:
        self._job = job
        self._endpoint = endpoint or constants.ENDPOINT
        self._root = cache or Path(constants.HF_HUB_CACHE)
        self._known: dict[tuple[str | None, str, str], Listing] = {}

    @cached_property
    def _http(self) -> Http:
        return Http()

    def resolve(self, url: str, *, offline: bool = False) -> Place:
        """The repository at the commit that the URL's revision is now, or one file of it."""
        file = RepoFile.parse(url)
        listing = self._listing(file, offline=offline)
        found = listing.artifacts(file.repo_url)
        if file.path:
            found = tuple(a for a in found if a.path == file.path)
            if not found:
                raise _not_there(file)
        pinned = f"{file.repo_url}@{listing.commit}{f'!{file.path}' if file.path else ''}"
        record = listing.record(file.endpoint or self._endpoint)
        return Place(pinned, found, record, revision=file.revision)

    def note(self, place: Place) -> None:
        """Let stock clients find by its branch or tag what was fetched of ``place``."""
        file = RepoFile.parse(place.url)
        if place.revision and not COMMIT.fullmatch(place.revision):
            self.cache(file).note(place.revision, file.revision)

    def cache(self, file: RepoFile) -> RepoCache:
        """The cache of its repository: of another hub a place apart, but for mirrors."""
        root = self._root
        mirrors = places([f"hf:{file.repo}"], self._job.mirrors)
        if not self._is_own(file) and file.repo_url not in mirrors:
            root = self._job.store.home / "hubs" / file_name(file.endpoint or "")
        return RepoCache(root, file.repo)

    def find(self, wanted: Wanted) -> Path | None:
        """The file in the cache, where a digest or a commit says which one it has to be."""
        file, digest = RepoFile.parse(wanted.url), wanted.artifact.digest
        cache, commit = self.cache(file), file.revision
        if not COMMIT.fullmatch(commit):
            commit = (digest and cache.commit_of(commit)) or ""
        pointer = cache.pointer(commit, file.path) if commit else None
        if pointer is not None and fault(pointer, wanted.artifact) is None:
            return pointer
        if digest is None or digest.prefix or digest.algorithm not in {"sha256", "git-sha1"}:
            return None
        blob = cache.blobs / digest.value
        if _fault(blob, wanted.artifact, digest.value) is not None:
            return None
        with contextlib.suppress(StorageError):  # a cache that we may only read
            return cache.point(commit, file.path, digest.value) if commit else blob
        return blob

    def group(self, url: str) -> str:
        """The repository at a revision: one list of files serves them all."""
        file = RepoFile.parse(url)
        return f"{file.repo_url}@{file.revision}"

    def bring(self, wanted: Sequence[Wanted]) -> Mapping[str, Path | TlhubError]:
        """Download into the cache what another process has not brought by now."""
        first = RepoFile.parse(wanted[0].url)
        listing, cache = self._listing(first), self.cache(first)
        answers: Answers = {}
        todo: dict[str, list[tuple[Wanted, Entry]]] = {}  # files of the same content come once
        for item in wanted:
            file = RepoFile.parse(item.url)
            entry = listing.entries.get(file.path)
            wrong = _not_there(file) if entry is None else _refused(item.artifact, file, entry)
            if wrong is not None:
                answers[item.artifact.path] = wrong
            elif entry is not None:
                todo.setdefault(entry.etag, []).append((item, entry))
        cache.prepare()
        sweep(cache.blobs)
        large = {k: v for k, v in todo.items() if v[0][1].size_bytes > SMALL_BYTES}
        for etag, items in large.items():
            begun = any((cache.blobs / name).exists() for name in (etag, f"{etag}.{PARTIAL}"))
            if not begun:
                by_xet(
                    replace(first, revision=listing.commit, path=items[0][1].path),
                    items[0][1].size_bytes,
                    endpoint=first.endpoint or self._endpoint,
                    token=self._token(first),
                    cache=cache.root,
                    progress=self._job.progress,
                    http=self._http,
                )
        with cache.locked(large):
            self._bring(first, listing, cache, todo, answers)
        return answers

    def close(self) -> None:
        """Close the connections, if any were opened."""
        if "_http" in self.__dict__:
            self._http.close()

    def _bring(
        self,
        first: RepoFile,
        listing: Listing,
        cache: RepoCache,
        todo: Mapping[str, Sequence[tuple[Wanted, Entry]]],
        answers: Answers,
    ) -> None:
        def settle(etag: str) -> None:
            for item, entry in todo[etag]:
                answers[item.artifact.path] = cache.point(listing.commit, entry.path, etag)

        wishes: list[tuple[Wish, Path]] = []
        etags: dict[Path, str] = {}
        for etag, items in todo.items():
            item, entry = items[0]
            if _fault(cache.blobs / etag, item.artifact, etag) is None:
                settle(etag)
                continue
            large = entry.size_bytes > SMALL_BYTES
            partial = cache.blobs / f"{etag}.{PARTIAL}" if large else own_path(cache.blobs)
            etags[partial] = etag
            wishes.append((self._wish(first, listing, item.artifact, entry), partial))
        if not wishes:
            return
        places = {id(wish): partial for wish, partial in wishes}
        for wish, got in download_many(wishes, self._http, progress=self._job.progress):
            etag = etags[places[id(wish)]]
            wrong = got if isinstance(got, TlhubError) else _other(got, etag, wish.label)
            if wrong is None and isinstance(got, Received):
                cache.adopt(got.path, etag)
                settle(etag)
                continue
            if isinstance(wrong, AccessError):
                wrong = no_access(first.repo, gated=listing.gated)
            for item, _ in todo[etag]:
                answers[item.artifact.path] = wrong  # type: ignore[assignment]
        cache.settle()
        done = {
            _any_commit(wish.url)
            for wish, partial in wishes
            if isinstance(answers.get(todo[etags[partial]][0][0].artifact.path), Path)
        }
        cache.drop_outdated(lambda url: _any_commit(url) in done)

    def _wish(self, first: RepoFile, listing: Listing, artifact: Artifact, entry: Entry) -> Wish:
        stated = artifact.digest
        if stated is None or stated.algorithm == "git-sha1":
            stated = entry.digest if SHA256.fullmatch(entry.etag) else None
        return Wish(
            url=file_url(
                first.endpoint or self._endpoint,
                replace(first, revision=listing.commit, path=entry.path),
            ),
            label=artifact.path,
            digest=stated,
            git_sha1=entry.etag if COMMIT.fullmatch(entry.etag) else None,
            size_bytes=entry.size_bytes,
            headers=headers_of(self._token(first)),
        )

    def _listing(self, file: RepoFile, *, offline: bool = False) -> Listing:
        key = (file.endpoint, file.repo, file.revision)
        if key not in self._known:
            endpoint = file.endpoint or self._endpoint
            folder = self._job.store.home / "listings" / file_name(endpoint)
            listings = Listings(endpoint, self._token(file), folder, self._http)
            self._known[key] = listings.at(file, self.cache(file), offline=offline)
        return self._known[key]

    def _is_own(self, file: RepoFile) -> bool:
        """Whether it is of the hub that `HF_ENDPOINT` names."""
        return file.endpoint is None or origin_of(file.endpoint) == origin_of(self._endpoint)

    def _token(self, file: RepoFile) -> str | None:
        """The user's token as `huggingface_hub` finds it. It is for one hub, and no other."""
        own = self._is_own(file)
        return hub.get_token() if own and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else None


def _any_commit(url: str) -> str:
    """The URL of a file in a repository without the commit it is of."""
    return re.sub(r"/resolve/[0-9a-f]{40}/", "/resolve/-/", url, count=1)


def _not_there(file: RepoFile) -> NotFoundError:
    return NotFoundError(f"{file.repo} has no {file.path} at {file.revision}")


def _refused(artifact: Artifact, file: RepoFile, entry: Entry) -> IntegrityError | None:
    """What the hub itself says is another file than the record's, before a byte is fetched."""
    digest = artifact.digest
    said, expected = None, None
    if artifact.size_bytes not in {None, entry.size_bytes}:
        said, expected = f"{entry.size_bytes} bytes", f"{artifact.size_bytes}"
    elif digest is not None and digest.algorithm == entry.digest.algorithm:
        value = digest.value.lower()
        if not (entry.etag.startswith(value) if digest.prefix else entry.etag == value):
            said, expected = f"{digest.algorithm} {entry.etag}", digest.value
    if said is None:
        return None
    return IntegrityError(
        f"{file.path} of {file.repo} at {file.revision} has {said} on the hub, expected "
        f"{expected}; nothing was downloaded",
        hint="the repository has changed: the record is of another revision",
    )


def _other(got: Received, etag: str, label: str) -> IntegrityError | None:
    if not SHA256.fullmatch(etag) or got.sha256 == etag:
        return None
    got.path.unlink(missing_ok=True)
    return IntegrityError(f"{label}: expected sha256 {etag}, got {got.sha256}; it was removed")


def fault(pointer: Path, artifact: Artifact) -> str | None:
    """What is wrong with a file of a snapshot in a cache; None where nothing is."""
    return _fault(pointer, artifact, _etag_of(pointer))


def _fault(path: Path, artifact: Artifact, etag: str) -> str | None:
    """What is wrong with a file of the cache; None where nothing is."""
    try:
        size = path.stat().st_size
    except OSError:
        return "it is not here"
    if artifact.size_bytes not in {None, size}:
        return f"it has {size} bytes, expected {artifact.size_bytes}"
    digest = artifact.digest
    named = digest.value if digest is not None and digest.algorithm == "git-sha1" else etag
    git = GitSha1(named, size) if COMMIT.fullmatch(named) else None
    hasher = Hasher(None if digest and digest.algorithm == "git-sha1" else digest, git)
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                hasher.update(chunk)
    except OSError as error:
        return str(error)
    if not hasher.matches:
        return hasher.mismatch()
    if SHA256.fullmatch(etag) and hasher.sha256 != etag:
        return f"expected sha256 {etag}, got {hasher.sha256}"
    return None


def _etag_of(pointer: Path) -> str:
    """The name of the blob that a file of a snapshot is; empty for a copy."""
    try:
        return pointer.readlink().name
    except OSError:
        return ""
