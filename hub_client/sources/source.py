"""What every source can do, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from catalog.errors import TlhubError
from catalog.record import Artifact, ModelRecord
from hub_client.progress import Progress, silent
from hub_client.store import Store

if TYPE_CHECKING:
    from hub_client.mirrors import Mirrors


@dataclass(frozen=True)
class Wanted:
    """One file, and the one of its places to get it from."""

    artifact: Artifact
    url: str


@dataclass(frozen=True)
class Job:
    """What all sources of one fetch share."""

    store: Store
    progress: Progress = silent
    mirrors: Mirrors = ()


@dataclass(frozen=True)
class Place:
    """What is at an address that may stand for many files."""

    url: str  # as precise as it gets: a branch has become the commit it points at
    artifacts: tuple[Artifact, ...]
    record: ModelRecord | None = None  # what the place says of the model, without artifacts
    revision: str | None = None  # the branch or tag that was asked for


class Source(Protocol):
    """The places behind one URL scheme."""

    def resolve(self, url: str, *, offline: bool = False) -> Place:
        """What is at ``url``; offline, as far as this machine knows it.

        Raises:
            UsageError: the URL makes no sense.
            NotFoundError, AccessError, NetworkError: nothing is there, or it cannot be asked.
            OfflineError: only the network could tell.
            UnsafeError: what it lists would lie outside its folder.
        """
        ...

    def find(self, wanted: Wanted) -> Path | None:
        """The file, if it is on this machine and every byte is right; without any network."""
        ...

    def group(self, url: str) -> str:
        """What one transfer brings: URLs of one group are brought together."""
        ...

    def bring(self, wanted: Sequence[Wanted]) -> Mapping[str, Path | TlhubError]:
        """The files of one group by artifact path, each verified, or why it could not be had."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
