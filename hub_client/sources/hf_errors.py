"""What an `hf:` URL names, and what `huggingface_hub` raises over it in our own errors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

import httpx2
from huggingface_hub import errors as hub_errors

from catalog.errors import (
    AccessError,
    NetworkError,
    NotFoundError,
    OfflineError,
    StorageError,
    TlhubError,
    UnsafeError,
    UsageError,
)
from hub_client.archives import leaves_folder
from hub_client.network import without_credentials

_URL = re.compile(
    r"(?:hf:|hub\+(?P<endpoint>https?://[^/@!]+)/)(?P<repo>[^/@!]+/[^/@!]+)"
    r"(@(?P<revision>[^!]+))?(!(?P<path>.+))?"
)


@dataclass(frozen=True)
class RepoFile:
    """What an `hf:` or `hub+https:` URL names; without a path, the repository."""

    repo: str
    revision: str
    path: str
    endpoint: str | None = None

    @classmethod
    def parse(cls, url: str) -> RepoFile:
        """Read the URL.

        Raises:
            UsageError: it is not of such a form.
            UnsafeError: the path leaves the repository.
        """
        found = _URL.fullmatch(url.rstrip("/"))
        if found is None:
            raise UsageError(
                f"{without_credentials(url)} cannot be read",
                hint="write hf:owner/name@revision!path, or hub+https://host/owner/name for "
                "another hub than HF_ENDPOINT",
            )
        revision, path = found["revision"] or "main", found["path"] or ""
        if path == "" and "!" in url:
            raise UsageError(f"{url} names no file after the `!`")
        leads_out = leaves_folder(revision) or "\\" in path + revision
        if leads_out or (path and leaves_folder(path)) or ".." in found["repo"].split("/"):
            raise UnsafeError(f"{url} leads out of its repository")
        return cls(found["repo"], revision, path, found["endpoint"])

    @property
    def repo_url(self) -> str:
        """The address of the repository, without a revision."""
        return f"hub+{self.endpoint}/{self.repo}" if self.endpoint else f"hf:{self.repo}"


def file_url(endpoint: str, file: RepoFile) -> str:
    """Where a hub has the bytes of a file."""
    return f"{endpoint.rstrip('/')}/{quote(file.repo)}/resolve/{file.revision}/{quote(file.path)}"


@contextlib.contextmanager
def explained(file: RepoFile) -> Iterator[None]:
    """Say what `huggingface_hub` raises in our own errors."""
    try:
        yield
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise _explain(error, file) from error


def no_access(repo: str, *, gated: bool) -> AccessError:
    """A file of a repository is not given to us."""
    if gated:
        return AccessError(
            f"{repo} is gated", hint="accept its terms on its page, then `hf auth login`"
        )
    return AccessError(
        f"{repo} is private, or the token is not for it",
        hint="`hf auth login`, or look at HF_TOKEN",
    )


def _explain(error: BaseException, file: RepoFile) -> TlhubError:
    where = f"{file.repo} on {file.endpoint or 'the Hugging Face hub'}"
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
        f"{file.path or 'the list of files'} of {where} could not be had: {error}",
        hint="look at the network connection and at HF_ENDPOINT",
    )


# The first that fits: they inherit from each other.
_MEANINGS: tuple[tuple[type[Exception], Callable[[str, RepoFile], TlhubError]], ...] = (
    (
        hub_errors.HFValidationError,
        lambda _, file: UsageError(f"{file.repo} is no name of a Hugging Face repository"),
    ),
    (hub_errors.GatedRepoError, lambda where, _: no_access(where, gated=True)),
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
            f"{file.path or file.repo} of {file.repo} is not in the cache, and HF_HUB_OFFLINE is "
            "set",
            hint="unset HF_HUB_OFFLINE",
        ),
    ),
)
