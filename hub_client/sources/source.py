"""What every source can do, and what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from catalog.record import Artifact
from hub_client.progress import Progress, silent
from hub_client.store import Store


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


class Source(Protocol):
    """The places behind one URL scheme."""

    def find(self, wanted: Wanted) -> Path | None:
        """The file, if it is on this machine and every byte is right; without any network."""
        ...

    def group(self, url: str) -> str:
        """What one transfer brings: URLs of one group are brought together."""
        ...

    def bring(self, wanted: Sequence[Wanted]) -> dict[str, Path]:
        """All files of one group by artifact path, each verified; or an error, and none."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
