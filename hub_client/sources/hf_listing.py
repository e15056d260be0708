"""What a repository of a Hugging Face hub holds at a commit: asked once, then known.

One request brings every name, size and hash. A commit never changes, so the answer is kept beside
the store and serves offline; without one, what `hf download` left in the cache says what is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import msgspec
from huggingface_hub import constants

from catalog.disk import replacing, writing
from catalog.errors import IntegrityError, NetworkError, OfflineError, UnsafeError, UsageError
from catalog.hf_record import record_of
from catalog.record import UNREADABLE, Artifact, Digest, ModelRecord
from hub_client.archives import leaves_folder
from hub_client.formats import kind_of
from hub_client.network import Http, Response, origin_of
from hub_client.patience import Patience
from hub_client.sources.hf_cache import RepoCache
from hub_client.sources.hf_errors import RepoFile, explained
from hub_client.sources.single import CONTROL

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_NEXT = re.compile(r'<([^>]+)>;\s*rel="?next')
_HUGE = 50_000  # at so many a hub may have stopped to list them in one answer
_MOST_BYTES = 64 << 20  # of an answer: some 250,000 files
_PATIENCE = Patience(tries=4)
_MOST_PAGES = 2000  # of a thousand files each


@dataclass(frozen=True)
class Entry:
    """One file of a repository: in git itself, or in LFS and then known by its SHA-256."""

    path: str
    size_bytes: int
    etag: str  # SHA-256 or git's SHA-1, by its length

    @property
    def digest(self) -> Digest:
        """What its bytes are checked against."""
        is_sha256 = SHA256.fullmatch(self.etag)
        return Digest(algorithm="sha256" if is_sha256 else "git-sha1", value=self.etag)


@dataclass(frozen=True)
class Listing:
    """A repository at one commit."""

    repo: str
    commit: str
    entries: dict[str, Entry]
    said: dict[str, Any]  # what the hub says of it besides

    @property
    def gated(self) -> bool:
        """Whether its files are given only to those who accepted its terms."""
        return bool(self.said.get("gated"))

    def artifacts(self, repo_url: str) -> tuple[Artifact, ...]:
        """The files as artifacts at ``repo_url``, an address without a revision."""
        prefix = f"{repo_url}@{self.commit}!"
        return tuple(_artifact(e, prefix, gated=self.gated) for e in self.entries.values())

    def record(self, endpoint: str) -> ModelRecord:
        """What the hub says of the model, without artifacts."""
        plain = ModelRecord(
            uid=f"hf/{self.repo}", hf_hub_id=self.repo, origin_url=f"{endpoint}/{self.repo}"
        )
        if not self.said.get("id"):  # known from the cache alone
            return plain
        try:
            found = record_of(self.said, endpoint)
        except UsageError:  # it is pulled all the same
            return plain
        return msgspec.structs.replace(found, uid=plain.uid, artifacts=())


@dataclass(frozen=True)
class Listings:
    """The listings of one hub, kept in ``folder``."""

    endpoint: str
    token: str | None
    folder: Path
    http: Http

    def at(self, file: RepoFile, cache: RepoCache, *, offline: bool) -> Listing:
        """The listing of the repository and revision that ``file`` is of.

        Raises:
            OfflineError: it was ruled out to ask, and neither we nor the cache know.
            UnsafeError, IntegrityError: what the hub says cannot be.
            NotFoundError, AccessError, NetworkError: it cannot be had.
        """
        repo, revision = file.repo, file.revision
        commit = revision if COMMIT.fullmatch(revision) else None
        if offline and commit is None:
            commit = cache.commit_of(revision)
        if commit is not None:
            kept = self._kept(repo, commit)
            if kept is not None:
                return kept
        if offline:
            seen = _seen(cache.entries(commit)) if commit is not None else {}
            if commit is None or not seen:
                raise OfflineError(
                    f"what {repo} holds at {revision} is not known here, and the network was "
                    "ruled out",
                    hint="run it once without --offline",
                )
            return Listing(repo, commit, seen, {})
        said = self._ask(file)
        listing = _read(repo, said)
        if commit is not None and listing.commit != commit:
            raise IntegrityError(f"{repo} answers for {listing.commit}, asked for {commit}")
        if self._kept(repo, listing.commit) is not None:
            return listing
        place = self._file(repo, listing.commit)
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as stream:
            stream.write(msgspec.json.encode(said))
        return listing

    def _ask(self, file: RepoFile) -> dict[str, Any]:
        """The hub's own answer, with all files in it."""
        api = f"{self.endpoint}/api/models/{quote(file.repo)}"
        said, _ = self._get(f"{api}/revision/{quote(file.revision, safe='')}?blobs=true", file)
        if not isinstance(said, dict) or not isinstance(said.get("siblings"), list):
            raise NetworkError(
                f"{self.endpoint} does not answer as a Hugging Face hub does",
                hint="look at HF_ENDPOINT",
            )
        if len(said["siblings"]) >= _HUGE:
            tree = f"{api}/tree/{quote(str(said.get('sha')), safe='')}?recursive=true"
            said["siblings"] = list(self._tree(tree, file))
        return said

    def _tree(self, url: str, file: RepoFile) -> Iterator[dict[str, Any]]:
        """The same list in pages, as `siblings` would have it."""
        seen: set[str] = set()
        while url not in seen and len(seen) < _MOST_PAGES:
            seen.add(url)
            page, following = self._get(url, file)
            for item in page if isinstance(page, list) else ():
                if isinstance(item, dict) and item.get("type") == "file":
                    lfs = item.get("lfs")
                    if isinstance(lfs, dict):
                        lfs = {"sha256": lfs.get("oid"), "size": lfs.get("size")}
                    yield {
                        "rfilename": item.get("path"),
                        "size": item.get("size"),
                        "blobId": item.get("oid"),
                        "lfs": lfs,
                    }
            if following is None:
                return
            url = urljoin(url, following)
            if origin_of(url) != origin_of(self.endpoint):  # the token is for this hub alone
                break
        raise IntegrityError(
            f"{self.endpoint} lists {file.repo} without an end, or elsewhere",
            hint="look at HF_ENDPOINT",
        )

    def _get(self, url: str, file: RepoFile) -> tuple[Any, str | None]:
        """What the hub answers, and where the next page is."""
        with explained(file):
            if constants.HF_HUB_OFFLINE:
                from huggingface_hub.errors import OfflineModeIsEnabled

                raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
            answer, body = self.http.ask(
                url,
                {"User-Agent": "tlhub"},
                limit_bytes=_MOST_BYTES,
                patience=_PATIENCE,
                private=headers_of(self.token),
            )
            if not 200 <= answer.status < 300:
                _raise_for_status(answer, url, body)
            found = _NEXT.search(answer.headers.get("link", ""))
            return _decoded(body), found[1] if found else None

    def _file(self, repo: str, commit: str) -> Path:
        return self.folder / repo.replace("/", "--") / f"{commit}.json"

    def _kept(self, repo: str, commit: str) -> Listing | None:
        try:
            said = msgspec.json.decode(self._file(repo, commit).read_bytes(), type=dict[str, Any])
        except (OSError, *UNREADABLE):
            return None
        return _read(repo, said) if said.get("sha") == commit else None


def _raise_for_status(answer: Response, url: str, body: bytes) -> None:
    """As `huggingface_hub` does it: by what the hub says is wrong."""
    import httpx2
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    said = {k: v for k, v in answer.headers.items() if k.lower().startswith("x-error-")}
    request = httpx2.Request("GET", url)
    hf_raise_for_status(httpx2.Response(answer.status, headers=said, content=body, request=request))


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("it nests without reason") from None


def headers_of(token: str | None) -> dict[str, str]:
    """What tells a hub who asks.

    Not `build_hf_headers`: that asks the hub for a list of programs first, to say what we are.
    """
    known = {"Authorization": f"Bearer {token}"} if token else {}
    return {"User-Agent": "tlhub", **known}


def _artifact(entry: Entry, prefix: str, *, gated: bool) -> Artifact:
    kind = kind_of(entry.path)
    return Artifact(
        path=entry.path,
        format=kind.format,
        urls=(prefix + entry.path,),
        precision=kind.precision if kind.is_weights else None,
        size_bytes=entry.size_bytes,
        digest=entry.digest,
        safe=kind.safe,
        status="gated" if gated else None,
    )


def _read(repo: str, said: dict[str, Any]) -> Listing:
    """The hub's answer as a listing, each file with a place inside the repository.

    Raises:
        UnsafeError: a file has none.
        IntegrityError: a size or hash is none.
    """
    commit = _checked(COMMIT, said.get("sha"), f"the commit of {repo}")
    entries: dict[str, Entry] = {}
    siblings = said.get("siblings")
    if not isinstance(siblings, list):
        raise IntegrityError(f"the files of {repo} are said to be {siblings!r}")
    for item in siblings:
        path = item.get("rfilename") if isinstance(item, dict) else None
        if not isinstance(path, str) or leaves_folder(path) or _is_odd(path):
            odd = isinstance(path, str) and CONTROL.search(path)
            fault = "has characters that no name should have" if odd else "lies outside of it"
            raise UnsafeError(f"{repo} lists {path!r}, which {fault}", hint="do not trust this hub")
        if path in entries:
            raise UnsafeError(f"{repo} lists {path!r} twice", hint="do not trust this hub")
        lfs = item.get("lfs") or {}
        if not isinstance(lfs, dict):
            raise IntegrityError(f"{repo} says {path} is kept as {lfs!r}")
        size = lfs.get("size", item.get("size"))
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise IntegrityError(f"{repo} says {path} has {size!r} bytes")
        what = f"the hash of {path} in {repo}"
        etag = (
            _checked(SHA256, lfs.get("sha256", lfs.get("oid")), what)
            if lfs
            else _checked(COMMIT, item.get("blobId"), what)
        )
        entries[path] = Entry(path, size, etag)
    folders = {parent for path in entries for parent in _parents(path)}
    both = sorted(folders & set(entries))
    if both:
        raise UnsafeError(
            f"{repo} lists {both[0]!r} as a file and as a folder", hint="do not trust this hub"
        )
    return Listing(repo, commit, entries, {k: v for k, v in said.items() if k != "siblings"})


def _is_odd(path: str) -> bool:
    """Whether a path has parts that systems read in different ways, or that a terminal obeys."""
    return (
        "\\" in path
        or bool(CONTROL.search(path))
        or not {"", ".", ".."}.isdisjoint(path.split("/"))
    )


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _checked(pattern: re.Pattern[str], value: object, what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise IntegrityError(f"{what} is said to be {value!r}", hint="look at HF_ENDPOINT")
    return value


def _seen(files: Iterable[tuple[str, str, int]]) -> dict[str, Entry]:
    """Files of the cache by the names of their blobs."""
    return {
        path: Entry(path, size, etag)
        for path, etag, size in files
        if SHA256.fullmatch(etag) or COMMIT.fullmatch(etag)
    }
