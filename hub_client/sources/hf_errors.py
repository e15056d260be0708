"""What an `hf:` URL names, and what `huggingface_hub` raises over it in our own errors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

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

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

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


def repo_files(urls: Iterable[str]) -> list[RepoFile]:
    """What of these is on a hub.

    Raises:
        UsageError, UnsafeError: as `RepoFile.parse`.
    """
    return [RepoFile.parse(url) for url in urls if url.startswith(("hf:", "hub+"))]


def file_url(endpoint: str, file: RepoFile) -> str:
    """Where a hub has the bytes of a file."""
    return f"{endpoint.rstrip('/')}/{quote(file.repo)}/resolve/{file.revision}/{quote(file.path)}"


@contextlib.contextmanager
def explained(file: RepoFile) -> Iterator[None]:
    """Say what `huggingface_hub` raises in our own errors."""
    try:
        yield
    except Exception as error:
        from httpx2 import HTTPError  # here and below: slow to import, and most goes well

        if not isinstance(error, HTTPError | OSError | ValueError):
            raise
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
    from huggingface_hub import errors as hub_errors

    where = f"{file.repo} on {file.endpoint or 'the Hugging Face hub'}"
    if isinstance(error, hub_errors.HfHubHTTPError):
        return _refused(error, where, file)
    match error:
        case hub_errors.HFValidationError():
            return UsageError(f"{file.repo} is no name of a Hugging Face repository")
        case hub_errors.OfflineModeIsEnabled():
            return OfflineError(
                f"{file.path or file.repo} of {file.repo} is not in the cache, and "
                "HF_HUB_OFFLINE is set",
                hint="unset HF_HUB_OFFLINE",
            )
        case hub_errors.LocalEntryNotFoundError() | ValueError() if error.__cause__:
            # It wraps what went wrong in "not in the local cache", or "force download failed".
            return _explain(error.__cause__, file)
        case OSError() if error.errno is not None:
            return StorageError(
                f"the Hugging Face cache cannot be written: {error}",
                hint="free some space, or set HF_HOME to a folder that can be written",
            )
    return NetworkError(
        f"{file.path or 'the list of files'} of {where} could not be had: {error}",
        hint="look at the network connection and at HF_ENDPOINT",
    )


def _refused(error: HfHubHTTPError, where: str, file: RepoFile) -> TlhubError:
    """What a hub answered; the first that fits, as they inherit from each other."""
    from huggingface_hub import errors as hub_errors

    match error:
        case hub_errors.GatedRepoError():
            return no_access(where, gated=True)
        case hub_errors.RepositoryNotFoundError():
            return NotFoundError(
                f"there is no {where}, or it is private",
                hint="look at the name; for a private one, `hf auth login`",
            )
        case hub_errors.RevisionNotFoundError():
            return NotFoundError(f"{where} has no revision {file.revision}")
        case hub_errors.RemoteEntryNotFoundError():
            return NotFoundError(f"{where} has no {file.path} at {file.revision}")
    status = error.response.status_code
    if status in {401, 403}:
        return AccessError(f"{where} answered {status}", hint="`hf auth login`")
    return NetworkError(f"{where} answered {status}", hint="try again later")
