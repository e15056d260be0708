"""`hf:owner/name@revision!path`: files of a Hugging Face hub, in the Hugging Face cache.

`huggingface_hub` brings them, with its own authentication, endpoint and layout, so that
`transformers` and `timm` find what tlhub fetched and the other way round. It does not hash what it
brings: that is done here, against the record and against the hub's own name for the content
(SHA-256 for LFS files, git's SHA-1 for the others). What is wrong is taken out of the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub as hub
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import tqdm as hub_bar  # type: ignore[attr-defined]

from catalog.errors import (
    AccessError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    OfflineError,
    StorageError,
    TlhubError,
    UnsafeError,
    UsageError,
)
from catalog.record import Artifact
from hub_client.archives import leaves_folder
from hub_client.digests import hash_file
from hub_client.patience import Patience, Transient
from hub_client.progress import Progress
from hub_client.sources.source import Job, Wanted

log = logging.getLogger(__name__)

_URL = re.compile(r"hf:(?P<repo>[^/@!]+/[^/@!]+)(@(?P<revision>[^!]+))?!(?P<path>.+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RepoFile:
    """What an `hf:` URL names."""

    repo: str
    revision: str
    path: str

    @classmethod
    def parse(cls, url: str) -> RepoFile:
        """Read the URL.

        Raises:
            UsageError: it is not of the form above.
            UnsafeError: the path leaves the repository.
        """
        found = _URL.fullmatch(url)
        if found is None:
            raise UsageError(f"{url} cannot be read", hint="write hf:owner/name@revision!path")
        if leaves_folder(found["path"]) or leaves_folder(found["revision"] or "main"):
            raise UnsafeError(f"{url} leads out of its repository")
        return cls(found["repo"], found["revision"] or "main", found["path"])


class HuggingFaceSource:
    """Files of the hub that `HF_ENDPOINT` names, or that ``endpoint`` does."""

    def __init__(self, job: Job, *, endpoint: str | None = None, cache: Path | None = None) -> None:
        self._job = job
        self._endpoint = endpoint
        self._cache = cache

    def find(self, wanted: Wanted) -> Path | None:
        """The file in the cache, where a digest or a commit says which one it has to be."""
        file = RepoFile.parse(wanted.url)
        if wanted.artifact.digest is None and not _COMMIT.fullmatch(file.revision):
            return None
        cached = hub.try_to_load_from_cache(
            file.repo, file.path, cache_dir=self._cache, revision=file.revision
        )
        if not isinstance(cached, str):
            return None
        path = Path(cached)
        return path if _fault(path, wanted.artifact, path.resolve().name) is None else None

    def group(self, url: str) -> str:
        """The URL itself."""
        return url

    def bring(self, wanted: Sequence[Wanted]) -> dict[str, Path]:
        """Let `huggingface_hub` download it, and hash it."""
        return {item.artifact.path: self._bring(item) for item in wanted}

    def close(self) -> None:
        """`huggingface_hub` keeps its connections to itself."""

    def _bring(self, item: Wanted) -> Path:
        file, artifact = RepoFile.parse(item.url), item.artifact
        metadata = Patience(tries=3).run(lambda: self._metadata(file))
        etag = metadata.etag or ""
        _refuse_other(artifact, file, etag, metadata.size)
        for force in (False, True):
            with _explained(file):
                path = Path(
                    hub.hf_hub_download(
                        file.repo,
                        file.path,
                        revision=file.revision,
                        cache_dir=self._cache,
                        endpoint=self._endpoint,
                        force_download=force,
                        tqdm_class=_bar(self._job.progress, artifact.path),
                    )
                )
            fault = _fault(path, artifact, etag)
            if fault is None:
                return path
            log.warning("%s: %s", path, fault)
            path.resolve().unlink()
            path.unlink(missing_ok=True)
        raise IntegrityError(
            f"{file.path} of {file.repo} at {file.revision}: {fault}; it was removed from the "
            "Hugging Face cache",
            hint="the file was changed or damaged on the way; try again or use another mirror",
        )

    def _metadata(self, file: RepoFile) -> hub.HfFileMetadata:
        url = hub.hf_hub_url(file.repo, file.path, revision=file.revision, endpoint=self._endpoint)
        try:
            with _explained(file):
                return hub.get_hf_file_metadata(url, endpoint=self._endpoint)
        except OfflineError:
            raise
        except NetworkError as error:
            raise Transient(error) from error


def git_sha1(path: Path) -> str:
    """The name git gives the content of a file: SHA-1 over a header and the bytes."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _refuse_other(artifact: Artifact, file: RepoFile, etag: str, size: int | None) -> None:
    """Refuse before a byte is fetched what the hub itself says is another file."""
    digest = artifact.digest
    said, expected = None, None
    if artifact.size_bytes is not None and size not in {None, artifact.size_bytes}:
        said, expected = f"{size} bytes", f"{artifact.size_bytes}"
    elif digest is not None and digest.algorithm == "sha256" and _SHA256.fullmatch(etag):
        value = digest.value.lower()
        if not (etag.startswith(value) if digest.prefix else etag == value):
            said, expected = f"sha256 {etag}", digest.value
    if said is not None:
        raise IntegrityError(
            f"{file.path} of {file.repo} at {file.revision} has {said} on the hub, expected "
            f"{expected}; nothing was downloaded",
            hint="the repository has changed: the record is of another revision",
        )


def _fault(path: Path, artifact: Artifact, etag: str) -> str | None:
    """What is wrong with a file of the cache; None where nothing is."""
    hasher = hash_file(path, artifact.digest)
    if artifact.size_bytes not in {None, hasher.size_bytes}:
        return f"it has {hasher.size_bytes} bytes, expected {artifact.size_bytes}"
    if not hasher.matches:
        return hasher.mismatch()
    if _SHA256.fullmatch(etag) and hasher.sha256 != etag:
        return f"expected sha256 {etag}, got {hasher.sha256}"
    if _COMMIT.fullmatch(etag) and git_sha1(path) != etag:
        return f"expected git sha1 {etag}, got {git_sha1(path)}"
    return None


@contextlib.contextmanager
def _explained(file: RepoFile) -> Iterator[None]:
    """Say what `huggingface_hub` raises in our own errors."""
    try:
        yield
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise _explain(error, file) from error


def _explain(error: BaseException, file: RepoFile) -> TlhubError:
    where = f"{file.repo} on the Hugging Face hub"
    for kind, make in _MEANINGS:
        if isinstance(error, kind):
            return make(where, file)
    # It wraps what went wrong in "not in the local cache", or "force download failed".
    if isinstance(error, hub_errors.LocalEntryNotFoundError | ValueError) and error.__cause__:
        return _explain(error.__cause__, file)
    if isinstance(error, hub_errors.HfHubHTTPError):
        status = error.response.status_code
        if status in {401, 403}:
            return AccessError(f"{where} answered {status}", hint="`hf auth login`")
        return NetworkError(f"{where} answered {status}", hint="try again later")
    if isinstance(error, OSError) and error.errno is not None:
        return StorageError(
            f"the Hugging Face cache cannot be written: {error}",
            hint="free some space, or set HF_HOME to a folder that can be written",
        )
    return NetworkError(
        f"{file.path} of {where} could not be had: {error}",
        hint="look at the network connection and at HF_ENDPOINT",
    )


# The first that fits: they inherit from each other.
_MEANINGS: tuple[tuple[type[Exception], Callable[[str, RepoFile], TlhubError]], ...] = (
    (
        hub_errors.HFValidationError,
        lambda _, file: UsageError(f"{file.repo} is no name of a Hugging Face repository"),
    ),
    (
        hub_errors.GatedRepoError,
        lambda where, _: AccessError(
            f"{where} is gated", hint="accept its terms on its page, then `hf auth login`"
        ),
    ),
    (
        hub_errors.RepositoryNotFoundError,
        lambda where, _: NotFoundError(
            f"there is no {where}, or it is private",
            hint="look at the name; for a private one, `hf auth login`",
        ),
    ),
    (
        hub_errors.RevisionNotFoundError,
        lambda where, file: NotFoundError(f"{where} has no revision {file.revision}"),
    ),
    (
        hub_errors.RemoteEntryNotFoundError,
        lambda where, file: NotFoundError(f"{where} has no {file.path} at {file.revision}"),
    ),
    (
        hub_errors.OfflineModeIsEnabled,
        lambda _, file: OfflineError(
            f"{file.path} of {file.repo} is not in the cache, and HF_HUB_OFFLINE is set",
            hint="unset HF_HUB_OFFLINE",
        ),
    ),
)


def _bar(progress: Progress, label: str) -> type[Any]:
    """A class in the place of `huggingface_hub`'s progress bar: it tells us, and shows nothing."""

    class Bar(hub_bar):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._seen = int(kwargs.get("initial") or 0)
            self._total = kwargs.get("total")
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            self._seen += int(n or 0)
            progress(label, self._seen, self._total)
            return None

    return Bar
