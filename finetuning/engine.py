"""What carries a run, whatever it learns: its processes, its journal, its log."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from finetuning.ranks import ALONE, Ranks
from finetuning.tuning.journal import Journal


class HelpedError(Exception):
    """This process did its share, and the first of them makes the run: no error at all."""


@dataclass(frozen=True)
class Engine:
    """How a run is carried."""

    ranks: Ranks = ALONE
    journal: Journal = field(default_factory=Journal)
    tensorboard: Path | None = None
    command: str = ""

    def part(self) -> Engine:
        """The engine of the first process alone, now that the others have done their share.

        Raises:
            HelpedError: this is another.
        """
        self.ranks.leave()
        if not self.ranks.first:
            raise HelpedError
        return replace(self, ranks=ALONE)
