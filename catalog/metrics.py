"""The metrics that the records of an index have figures of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from catalog.document import COLUMNS

if TYPE_CHECKING:
    from catalog.reader import Reader


class Metrics(Mapping[str, bool]):
    """The metrics that records have figures of, those of most first -> whether more is better."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or name in COLUMNS - {"top1"}:
            return False
        return self._reader.has("metric", name)

    def __getitem__(self, name: str) -> bool:
        if name not in self:
            raise KeyError(name)
        metric = name.partition("@")[0]
        count = self._reader.searcher.doc_freq
        return 2 * count("less", metric) <= count("metric", metric)

    def __iter__(self) -> Iterator[str]:
        return iter(self._reader.values("metric"))

    def __len__(self) -> int:
        return len(self._reader.values("metric"))

    def commonest(self, metric: str) -> str | None:
        """The data set that most figures of a metric are on, where they are on several."""
        found = self._reader.values("metric", f"{metric}@")
        return found[0] if len(found) > 1 else None
