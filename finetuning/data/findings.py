"""What a check of data finds, and the data without what cannot be learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetuning.data.dataset import Dataset, Skipped


@dataclass(frozen=True)
class Finding:
    """One thing that was found, how often, and what is done about it."""

    code: str  # a stable name of the kind of thing
    text: str
    count: int
    names: tuple[str, ...]  # of what it was found in, the first few
    action: str
    serious: bool  # `--strict` stops at it

    @classmethod
    def of(
        cls, code: str, text: str, names: Sequence[str], action: str, *, serious: bool = True
    ) -> Finding:
        """A finding in these."""
        return cls(code, text, len(names), tuple(names[:5]), action, serious)


@dataclass(frozen=True)
class Findings:
    """All that was found in data."""

    data: Dataset  # every example that was read, with what it is nearly the same as
    items: tuple[Finding, ...]
    unreadable: tuple[Skipped, ...]
    leaked: tuple[Skipped, ...]  # to learn from, but nearly the same as something held out
    seconds: float

    @property
    def serious(self) -> bool:
        """Whether something was found that one should look at."""
        return any(item.serious for item in self.items)

    def cleaned(self) -> Dataset:
        """The data that can be learned from.

        Raises:
            DataError: so many cannot be read that it is no accident, or all of a class.
        """
        data = self.data.without(self.unreadable)
        gone = {item.name for item in self.leaked}
        left = tuple(example for example in data.examples if example.name not in gone)
        return replace(data, examples=left, skipped=(*data.skipped, *self.leaked))
