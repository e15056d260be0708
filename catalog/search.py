"""Search over the records that ship with tlhub: words, filters, orders and facet counts.

Every word of a query must be found where that is possible: as a word of the name, as its letters
and digits apart, as a synonym, as the start of a word, or else with a typo. Words that are found
nowhere are left out and named in the result; a task named in plain words is never left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import tantivy
from tantivy import FieldType, Occur, Query

from catalog import index as indexes
from catalog import snapshot
from catalog.errors import NotFoundError
from catalog.index import FACETS
from catalog.query import TERMS, Metrics, Range, Request, check_page, encodable, parse, unknown
from catalog.reader import Reader, Wording, any_of
from catalog.record import ModelRecord
from catalog.table import as_html, as_text, row

_UNSIGNED = {"params", "size", "side"}
_LARGEST = 2**63  # more than any figure
_FACET_VALUES = 50
_TERM_VALUES = 10_000
_CLOSEST = 5
_CANDIDATES = 200


@dataclass(frozen=True, repr=False)
class SearchResult(Sequence[ModelRecord]):
    """One page of the records found; it is a sequence of them.

    ``facets`` counts all that were found: facet -> value -> number of records.
    """

    total: int
    items: tuple[ModelRecord, ...]
    facets: dict[str, dict[str, int]]
    ignored: tuple[str, ...] = ()  # words that are found nowhere in the catalog

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
    """The records of a snapshot with an index over them."""

    def __init__(self, cache_dir: Path, records: Path) -> None:
        self._records = records
        opened = indexes.open_index(cache_dir, records)
        self._schema = opened.index.schema
        self._searcher = opened.index.searcher()
        self._reader = Reader(self._schema, self._searcher)
        self.metrics: Metrics = opened.metrics

    @classmethod
    def open(cls, cache_dir: Path, records: Path = snapshot.SHIPPED) -> Catalog:
        """The catalog that ships with tlhub; its index is kept in ``cache_dir``.

        Raises:
            IntegrityError: the snapshot cannot be read.
        """
        return cls(cache_dir, records)

    def records(self) -> Iterator[ModelRecord]:
        """All records in the order of their uids."""
        return snapshot.read(self._records)

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
        alike = any_of([*found.words, *found.boosts])
        hits = [
            *self._reader.hits(Query.fuzzy_term_query(self._schema, "key", wanted, 2), _CANDIDATES),
            *self._reader.hits(_all([self._reader.term("source", source), alike]), _CANDIDATES),
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

        return sorted(known, key=likeness)[:_CLOSEST]

    def _search(self, request: Request, limit: int, offset: int) -> SearchResult:
        self._check_terms(request)
        understood = self._reader.understand(request.words)
        query = self._combined(understood, request)
        total = self._reader.count(query)
        page = min(limit, max(total - offset, 0))
        hits: list[tantivy.DocAddress] = []
        if page:
            order: dict[str, Any] = {"weight_by_field": "prior"}
            if request.order is not None:
                field, direction = request.order
                least = direction == "asc"
                order = {
                    "order_by_field": field,
                    "order": tantivy.Order.Asc if least else tantivy.Order.Desc,
                }
            found = self._searcher.search(query, page, count=False, offset=offset, **order)
            hits = [address for _, address in found.hits]
        return SearchResult(
            total=total,
            items=tuple(self._reader.record(hit) for hit in hits),
            facets=self._facets(query),
            ignored=understood.ignored,
        )

    def _combined(self, understood: Wording, request: Request) -> Query:
        """Everything asked for: conditions and tasks always, words as many as can be had."""
        must = [*understood.tasks]
        must += [Query.term_set_query(self._schema, name, list(v)) for name, v in request.terms]
        must += [self._between(name, interval) for name, interval in request.ranges]
        if not understood.words and understood.ignored and not understood.tasks:
            return Query.empty_query()
        if not understood.words:
            every = Query.const_score_query(Query.all_query(), 1.0)
            boosts = [(Occur.Should, boost) for boost in understood.boosts]
            return Query.boolean_query([(Occur.Must, q) for q in [*must, every]] + boosts)
        shown = Query.empty_query()
        for wanted in range(len(understood.words), 0, -1):
            shown = Query.boolean_query(
                [(Occur.Should, query) for query in understood.words],
                minimum_number_should_match=wanted,
            )
            # Whether the words go together is asked of the whole catalog: a filter that leaves
            # nothing is an answer, not a reason to drop a word.
            if self._reader.count(_all([*understood.tasks, shown])):
                break
        words_ = Query.boolean_query(
            [(Occur.Must, shown), *((Occur.Should, boost) for boost in understood.boosts)]
        )
        return _all([*(Query.const_score_query(query, 0.0) for query in must), words_])

    def _between(self, field: str, interval: Range) -> Query:
        kind = FieldType.Unsigned if field in _UNSIGNED else FieldType.Float
        low, high, with_low, with_high = interval
        if kind is FieldType.Unsigned:  # whole numbers: the bounds are made inclusive
            if low is not None:
                low = min(low, _LARGEST)
                low = int(low) + 1 if not with_low or low % 1 else int(low)
            if high is not None:
                high = min(high, _LARGEST)
                high = int(high) - 1 if not with_high and high % 1 == 0 else int(high)
                if high < (low or 0):
                    return Query.empty_query()
            with_low = with_high = True
        return Query.range_query(
            self._schema,
            field,
            kind,
            lower_bound=low,
            upper_bound=high,
            include_lower=with_low,
            include_upper=with_high,
        )

    def _facets(self, query: Query) -> dict[str, dict[str, int]]:
        terms = {f: {"terms": {"field": f, "size": _FACET_VALUES}} for f in FACETS}
        counts = self._searcher.aggregate(query, terms)
        return {
            facet: {bucket["key"]: int(bucket["doc_count"]) for bucket in counts[facet]["buckets"]}
            for facet in FACETS
        }

    def _check_terms(self, request: Request) -> None:
        for name, values in request.terms:
            for value in values if TERMS.get(name, ()) is None else ():
                if not self._reader.count(self._reader.term(name, value)):
                    raise unknown(name, value, self._values(name))

    def _values(self, name: str) -> list[str]:
        """The values that the records have of a field: sorted, or most records first if many."""
        terms = {name: {"terms": {"field": name, "size": _TERM_VALUES}}}
        counted = self._searcher.aggregate(Query.all_query(), terms)[name]["buckets"]
        values = [str(bucket["key"]) for bucket in counted]
        return sorted(values) if len(values) <= _FACET_VALUES else values


def _all(queries: list[Query]) -> Query:
    return Query.boolean_query([(Occur.Must, query) for query in queries])
