"""Search over the records that ship with tlhub: words, filters, orders and facet counts.

Every word of a query must be found where that is possible: as a word of the name, as its letters
and digits apart, as a synonym, as the start of a word, or else with a typo. Words that are found
nowhere are left out and named in the result; a task named in plain words is never left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from tantivy import Occur, Query

from catalog import index as indexes
from catalog import snapshot
from catalog.document import COLUMNS, FACETS, facets_of
from catalog.errors import NotFoundError
from catalog.metrics import Metrics
from catalog.page import by_figure, by_likeness
from catalog.query import TERMS, Request, check_page, encodable, parse, unknown
from catalog.reader import Reader, Word, Wording, all_of, any_of
from catalog.record import ModelRecord, decode
from catalog.table import as_html, as_text, row
from catalog.words import words

_FACET_VALUES = 50
_CLOSEST = 5
_CANDIDATES = 200
_MAX_WORDS = 100  # of a text, in which nobody asks for as much
_ALIKE = 0.6  # of letters, for a uid to be what may have been meant


@dataclass(frozen=True, repr=False)
class SearchResult(Sequence[ModelRecord]):
    """One page of the records found; it is a sequence of them.

    ``notes`` says what one should know when reading it.
    """

    total: int
    items: tuple[ModelRecord, ...]
    ignored: tuple[str, ...] = ()  # words that are found nowhere in the catalog
    notes: tuple[str, ...] = ()
    _count: Callable[[], dict[str, dict[str, int]]] = dict

    @cached_property
    def facets(self) -> dict[str, dict[str, int]]:
        """Counts of all that were found, made when first asked: facet -> value -> records."""
        return self._count()

    def rows(self) -> list[dict[str, Any]]:
        """A dict of plain values for each record, as `pandas.DataFrame` takes them."""
        return [row(record) for record in self.items]

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> ModelRecord: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ModelRecord, ...]: ...
    def __getitem__(self, index: int | slice) -> ModelRecord | tuple[ModelRecord, ...]:
        return self.items[index]

    def __repr__(self) -> str:
        return f"{as_text(self.items)}\n{len(self):,} of {self.total:,} models"

    def _repr_html_(self) -> str:
        return f"{as_html(self.items)}<p>{len(self):,} of {self.total:,} models</p>"


class Catalog:
    """The records of a snapshot and one's own, with an index over them."""

    def __init__(self, cache_dir: Path, records: Path, overlay: Path | None) -> None:
        self._records = records
        self._overlay = overlay
        self._reader = Reader(indexes.open_index(cache_dir, records, overlay))
        self._counted: tuple[Query | None, dict[str, int]] = (None, {})
        self.metrics = Metrics(self._reader)

    @classmethod
    def open(
        cls, cache_dir: Path, records: Path = snapshot.SHIPPED, overlay: Path | None = None
    ) -> Catalog:
        """The catalog that ships with tlhub and, in ``overlay``, the user's own records.

        One's own record stands in the place of one that ships under its uid. The index is kept in
        ``cache_dir``.

        Raises:
            IntegrityError: the snapshot or the overlay is damaged.
            StorageError: the overlay cannot be read.
        """
        return cls(cache_dir, records, overlay)

    def records(self) -> Iterator[ModelRecord]:
        """All records in the order of their uids."""
        shipped = snapshot.read(self._records)
        if self._overlay is None or not self._overlay.exists():
            return shipped
        return _merged(shipped, self._overlay)

    def get(self, uid: str) -> ModelRecord:
        """The record with this uid, or with these weights under another home's uid.

        Raises:
            NotFoundError: there is none; the hint has the closest uids.
        """
        uid = encodable(uid.strip())
        hits = self._reader.hits(self._reader.term("key", uid.lower()), 1)
        if hits:
            return self._reader.record(hits[0])
        close = self._closest(uid)
        hint = f"did you mean {', '.join(close)}?" if close else "`tlhub search` finds models"
        raise NotFoundError(f"no model {uid!r} in the catalog", hint=hint)

    def search(
        self,
        text: str = "",
        *,
        task: str | None = None,
        modality: str | None = None,
        language: str | None = None,
        params: str | float | None = None,
        gmacs: str | float | None = None,
        top1: str | float | None = None,
        size: str | float | None = None,
        input_size: str | int | None = None,
        license: str | None = None,  # noqa: A002  (the word users know)
        commercial: str | None = None,
        framework: str | None = None,
        source: str | None = None,
        dataset: str | None = None,
        sort: str | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> SearchResult:
        """Records that match the words of ``text`` and every condition in it.

        ``text`` is as in `catalog.query`, ``resnet params:<30M sort:top1``; the keyword arguments
        say the same. ``params``, ``gmacs``, ``size`` (bytes to download), ``input_size`` (pixels
        of the last side) and every metric (``top1``: percent on ImageNet-1k) are comparisons as in
        `catalog.query.parse_range`: ``'<10M'``, ``'>=1.5G'``, ``'5M..10M'``. Without a ``sort``
        the best match comes first. Ties are broken by uid; a record whose figure is unknown
        matches no comparison on it and is sorted last.

        Raises:
            UsageError: an unknown field, value or sort (with the valid names), a comparison that
                is none, or a page out of bounds.
        """
        check_page(limit, offset)
        fields = {
            "task": task,
            "modality": modality,
            "language": language,
            "params": params,
            "gmacs": gmacs,
            "top1": top1,
            "size": size,
            "input_size": input_size,
            "license": license,
            "commercial": commercial,
            "framework": framework,
            "source": source,
            "dataset": dataset,
            "sort": sort,
        }
        return self._search(parse(text, fields, self.metrics), limit, offset)

    def _closest(self, uid: str) -> list[str]:
        """The uids most like this one: by their letters, those of the same source first."""
        from difflib import SequenceMatcher

        wanted = uid.lower()
        source, slash, name = wanted.rpartition("/")
        source = source.partition("/")[0]
        found = self._reader.understand(name)
        alike = any_of(
            [*(word.found for word in found.words), *(named.query for named in found.boosts)]
        )
        hits = [
            *self._reader.hits(self._reader.near("key", wanted, 2), _CANDIDATES),
            *self._reader.hits(all_of([self._reader.term("source", source), alike]), _CANDIDATES),
            *self._reader.hits(alike, _CANDIDATES),
        ]
        records = [self._reader.record(hit) for hit in hits]
        known = {home: "default" in r.tags for r in records for home in (r.uid, *r.also)}

        def likeness(other: str) -> tuple[int, bool, float, str]:
            """`timm/resnet50` means one of its weights first, the publisher's choice before all."""
            rest = other.lower().removeprefix(wanted)
            starts = len(rest) < len(other)
            nearness = 2 - starts - (starts and not rest[:1].isalnum())
            home, _, called = other.lower().partition("/")
            compared = other.lower() if slash else called
            ratio = SequenceMatcher(None, wanted, compared).ratio() + (home == source)
            return nearness, starts and not known[other], -ratio, other

        near = [other for other in known if likeness(other)[2] <= -_ALIKE or likeness(other)[0] < 2]
        return sorted(near, key=likeness)[:_CLOSEST]

    def _search(self, request: Request, limit: int, offset: int) -> SearchResult:
        self._check_terms(request)
        said = words(request.words)
        found = self._reader.understand(" ".join(said[:_MAX_WORDS]))
        ignored = found.ignored
        if not said and request.words not in {"", "*"}:
            ignored = tuple(request.words.split())  # signs, or a script that has no words here
        must = [self._reader.terms(name, values) for name, values in request.terms]
        must += [self._reader.between(name, interval) for name, interval in request.ranges]
        must += found.tasks
        conditions = [*must, *_some(found.words, len(found.words))]
        if ignored and not found.words and not found.tasks:
            conditions = [Query.empty_query()]
        query = all_of(conditions) if conditions else self._reader.everything
        total, items = self._page(query, conditions, found, request, limit, offset)
        notes = self._notes(request)
        notes += tuple(
            f"no model has {typed!r}: shown is {read!r}" for typed, read in found.respelt
        )
        if len(said) > _MAX_WORDS:
            notes += (f"only the first {_MAX_WORDS} words are looked for",)
        if not total and len(found.words) + len(found.tasks) > 1:
            together = self._together(found)
            conditions = [*must, *_some(found.words, together)]
            query = all_of(conditions)
            total, items = self._page(query, conditions, found, request, limit, offset)
            if total and together < len(found.words):
                notes += (_left_out(together, len(found.words)),)
        return SearchResult(
            total=total,
            items=tuple(items),
            ignored=ignored,
            notes=notes,
            _count=lambda: self._facets(query),
        )

    def _page(
        self,
        query: Query,
        conditions: list[Query],
        found: Wording,
        request: Request,
        limit: int,
        offset: int,
    ) -> tuple[int, list[ModelRecord]]:
        """How many match a query, which is all of ``conditions``, and those of one page."""
        if not limit:
            if query is self._reader.everything:
                return self._reader.searcher.num_docs, []
            return sum(self._combinations(query).values()), []
        if request.order is None and (found.words or found.tasks):
            return by_likeness(self._reader, conditions, found, limit, offset)
        # Without words nothing is a better match: the well known come first.
        return by_figure(self._reader, query, request.order or ("prior", "desc"), limit, offset)

    def _together(self, found: Wording) -> int:
        """How many of the words go together with the tasks somewhere in the catalog.

        Whether they do is asked of the whole catalog: a filter that leaves nothing is an answer,
        not a reason to drop a word.
        """
        for wanted in range(len(found.words), 0, -1):
            if self._reader.count(all_of([*found.tasks, *_some(found.words, wanted)])):
                return wanted
        return 0

    def _notes(self, request: Request) -> tuple[str, ...]:
        """What to know of the order: figures compare only on one data set."""
        name = request.order[0] if request.order else ""
        if not name or name in COLUMNS or "@" in name:
            return ()
        common = self.metrics.commonest(name)
        if common is None:
            return ()
        return (f"{name} is of several data sets; sort:{common} compares on one",)

    def _facets(self, query: Query) -> dict[str, dict[str, int]]:
        if query is self._reader.everything and self._reader.intact():
            words_ = self._reader.searcher.terms_with_prefix
            counts = {facet: dict(words_(facet, "", limit=_FACET_VALUES)) for facet in FACETS}
            return {f: {value: n for value, n in counts[f].items() if value} for f in FACETS}
        found: dict[str, Counter[str]] = {facet: Counter() for facet in FACETS}
        for combined, records in self._combinations(query).items():
            for facet, values in facets_of(combined).items():
                for value in filter(None, values):
                    found[facet][value] += records
        return {facet: dict(count.most_common(_FACET_VALUES)) for facet, count in found.items()}

    def _combinations(self, query: Query) -> dict[str, int]:
        """How many records have the same values of all facets; asked once where both need it."""
        asked, counted = self._counted
        if asked is not query:
            counted = self._reader.values_of("facets", query)
            self._counted = query, counted
        return counted

    def _check_terms(self, request: Request) -> None:
        for name, values in request.terms:
            for value in values if TERMS.get(name, ()) is None else ():
                if not self._reader.has(name, value):
                    raise unknown(name, value, self._values(name))

    def _values(self, name: str) -> list[str]:
        """The values that the records have of a field: sorted, or most records first if many."""
        values = self._reader.values(name)
        return sorted(values) if len(values) <= _FACET_VALUES else values


def _some(words_: Sequence[Word], wanted: int) -> list[Query]:
    """What every result must be for so many of the words to be found in it."""
    if wanted == len(words_):
        return [word.found for word in words_]
    if not wanted:
        return []
    either = [(Occur.Should, word.found) for word in words_]
    return [Query.boolean_query(either, minimum_number_should_match=wanted)]


def _left_out(together: int, of: int) -> str:
    """What to know of results that some words of the text were left out for."""
    if not together:
        return "no model of this task has any of the other words: they are left out"
    return f"no model has all of the words: shown is what has {together} of {of}"


def _merged(shipped: Iterator[ModelRecord], overlay: Path) -> Iterator[ModelRecord]:
    """Both in the order of uids, one's own in the place of a shipped one."""
    from heapq import merge

    from catalog.overlay import Overlay

    own = (decode(line) for line in Overlay.open(overlay).records())
    last = ""
    for record in merge(own, shipped, key=lambda record: record.uid):  # ties: one's own first
        if record.uid != last:
            yield record
        last = record.uid
