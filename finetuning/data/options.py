"""What a user can say of the data where it should not be guessed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetuning.data.dataset import Kind


@dataclass(frozen=True)
class Options:
    """Which column of a table is what, and what the labels are; None is guessed, and said."""

    image: str | None = None
    text: str | None = None
    labels: tuple[str, ...] = ()
    group: str | None = None
    kind: Kind | None = None
    split: Path | None = None  # who trains and who is held out, as `splits.write` wrote it
