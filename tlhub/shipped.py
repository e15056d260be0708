"""What the catalog that ships with tlhub has already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from catalog import snapshot


@dataclass(frozen=True)
class Shipped:
    """Its uids, and the uid of each repository of the Hugging Face hub; keys are in lower case."""

    uids: Mapping[str, str]
    repositories: Mapping[str, str]

    @classmethod
    def read(cls, path: Path = snapshot.SHIPPED) -> Shipped:
        """Those of a snapshot."""
        uids: dict[str, str] = {}
        repositories: dict[str, str] = {}
        for record in snapshot.read(path):
            uids.update((uid.lower(), record.uid) for uid in (record.uid, *record.also))
            if record.hf_hub_id:
                repositories.setdefault(record.hf_hub_id.lower(), record.uid)
        return cls(uids, repositories)

    def uid_of(self, repository: str) -> str:
        """The uid under which the catalog has, or would have, a repository."""
        return self.repositories.get(repository.lower(), f"hf/{repository}")
