"""Search over the records that ship with tlhub: words, filters, orders and facet counts.

Every word of a query must be found where that is possible: as a word of the name, as its letters
and digits apart, as a synonym, as the start of a word, or else with a typo. Words that are found
nowhere are left out and named in the result; a task named in plain words is never left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tantivy
from tantivy import FieldType, Occur, Query

from catalog import index as indexes
from catalog import snapshot
from catalog.errors import NotFoundError, UsageError
from catalog.index import FACETS
from catalog.query import Filters, Range, check_page, parse_filters, parse_sort
from catalog.record import ModelRecord, decode
from catalog.synonyms import LONGEST_PHRASE, STOP_WORDS, TASK_PHRASES, WORD_SYNONYMS, singular
from catalog.words import compact, parts, words

_FLOATS = {"gmacs", "top1"}
_CLOSED = ("framework", "source")  # filters whose values the catalog knows all of
_FACET_VALUES = 50
_CLOSEST = 5
_CANDIDATES = 200


@dataclass(frozen=True)
class SearchResult:
    """One page of the records found.

    ``facets`` counts all that were found: facet -> value -> number of records.
    """

    total: int
    items: tuple[ModelRecord, ...]
    facets: dict[str, dict[str, int]]
    ignored: tuple[str, ...] = ()  # words that are found nowhere in the catalog


@dataclass(frozen=True)
class _Words:
    """A text as queries: all of ``tasks`` must match, and of ``words`` as many as possible."""

    tasks: tuple[Query, ...]
    words: tuple[Query, ...]
    boosts: tuple[Query, ...]
    ignored: tuple[str, ...]


class Catalog:
    """The records of a snapshot with an index over them."""

    def __init__(self, cache_dir: Path, records: Path) -> None:
        self._records = records
        self._schema = indexes.schema()
        self._searcher = indexes.open_index(cache_dir, records).searcher()

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
        hits = self._hits(self._term("key", uid.strip().lower()), 1)
        if hits:
            return self._record(hits[0])
        close = self._closest(uid)
        hint = f"did you mean {', '.join(close)}?" if close else "`tlhub search` finds models"
        raise NotFoundError(f"no model {uid!r} in the catalog", hint=hint)

    def search(
        self,
        text: str = "",
        *,
        task: str | None = None,
        modality: str | None = None,
        params: str | float | None = None,
        gmacs: str | float | None = None,
        top1: str | float | None = None,
        size: str | float | None = None,
        input_size: str | int | None = None,
        license: str | None = None,  # noqa: A002  (the word users know)
        framework: str | None = None,
        source: str | None = None,
        dataset: str | None = None,
        sort: str | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> SearchResult:
        """Records that match ``text`` and every filter.

        ``params``, ``gmacs``, ``top1`` (percent on ImageNet-1k), ``size`` (bytes to download) and
        ``input_size`` (pixels of the last side) are comparisons as in `catalog.query.parse_range`:
        ``'<10M'``, ``'>=1.5G'``, ``'5M..10M'``. ``sort`` is one of `catalog.query.SORTS`; without
        it the best match comes first. Ties are broken by uid; a record whose figure is unknown
        matches no comparison on it and is sorted last.

        Raises:
            UsageError: an unknown task, modality, framework, source or sort (with the valid
                names), a comparison that is none, or a page out of bounds.
        """
        check_page(limit, offset)
        order = parse_sort(sort) if sort is not None else None
        filters = parse_filters(
            task=task,
            modality=modality,
            license=license,
            framework=framework,
            source=source,
            dataset=dataset,
            input_size=input_size,
            params=params,
            gmacs=gmacs,
            top1=top1,
            size=size,
        )
        return self._search(text, filters, order, limit, offset)

    def _record(self, address: tantivy.DocAddress) -> ModelRecord:
        return decode(indexes.stored(self._searcher, address))

    def _closest(self, uid: str) -> list[str]:
        """The uids most like this one: by their words first, then by their letters."""
        from difflib import SequenceMatcher

        found = self._understood(uid.rpartition("/")[2])
        queries = [*found.words, *found.boosts, Query.fuzzy_term_query(self._schema, "key", uid, 2)]
        hits = self._hits(_any(queries), _CANDIDATES)
        records = [self._record(hit) for hit in hits]
        known = {home: "default" in r.tags for r in records for home in (r.uid, *r.also)}
        wanted = uid.lower()

        def likeness(other: str) -> tuple[int, bool, float, str]:
            """`timm/resnet50` means one of its weights first, the publisher's choice before all."""
            rest = other.lower().removeprefix(wanted)
            starts = len(rest) < len(other)
            nearness = 2 - starts - (starts and not rest[0].isalnum())
            ratio = SequenceMatcher(None, wanted, other.lower()).ratio()
            return nearness, starts and not known[other], -ratio, other

        return sorted(known, key=likeness)[:_CLOSEST]

    def _search(
        self,
        text: str,
        filters: Filters,
        order: tuple[str, str] | None,
        limit: int,
        offset: int,
    ) -> SearchResult:
        self._check_closed(filters)
        understood = self._understood(text)
        query = self._combined(understood, filters)
        total = self._count(query)
        last = max(total - offset, 0)
        page = min(limit, last)
        hits: list[tantivy.DocAddress] = []
        if page:
            if order is None:
                found = self._searcher.search(
                    query, page, count=False, offset=offset, weight_by_field="prior"
                )
            else:
                found = self._searcher.search(
                    query,
                    page,
                    count=False,
                    offset=offset,
                    order_by_field=order[0],
                    order=tantivy.Order.Asc if order[1] == "asc" else tantivy.Order.Desc,
                )
            hits = [address for _, address in found.hits]
        return SearchResult(
            total=total,
            items=tuple(self._record(hit) for hit in hits),
            facets=self._facets(query),
            ignored=understood.ignored,
        )

    def _combined(self, understood: _Words, filters: Filters) -> Query:
        """Everything asked for: filters and tasks always, words as many as can be had."""
        must = [*understood.tasks, *(self._term(n, v) for n, v in filters.terms.items())]
        must += [self._between(name, interval) for name, interval in filters.ranges.items()]
        if not understood.words and understood.ignored and not understood.tasks:
            return Query.empty_query()
        if not understood.words:
            return _all([*must, Query.const_score_query(Query.all_query(), 1.0)])
        shown = Query.empty_query()
        for wanted in range(len(understood.words), 0, -1):
            shown = Query.boolean_query(
                [(Occur.Should, query) for query in understood.words],
                minimum_number_should_match=wanted,
            )
            # Whether the words go together is asked of the whole catalog: a filter that leaves
            # nothing is an answer, not a reason to drop a word.
            if self._count(_all([*understood.tasks, shown])):
                break
        words_ = Query.boolean_query(
            [(Occur.Must, shown), *((Occur.Should, boost) for boost in understood.boosts)]
        )
        return _all([*(Query.const_score_query(query, 0.0) for query in must), words_])

    def _understood(self, text: str) -> _Words:
        rest = words(text)
        whole = compact(text)
        tasks, found, ignored, boosts = [], [], [], []
        if whole:
            boosts.append(Query.boost_query(self._term("exact", whole), 8.0))
        while rest:
            length, named = _task_phrase(rest)
            if length:
                tasks.append(self._tasks(named))
                rest = rest[length:]
                continue
            word = rest.pop(0)
            if word in STOP_WORDS:
                continue
            if rest and len(word) > 2 and self._count(self._term("name", word + rest[0])):
                word += rest.pop(0)  # `efficient net`, `resnet 50`
            known = self._known(word)
            if known is None:
                ignored.append(word)
            else:
                found.append(self._as_written(known))
                boosts.append(Query.boost_query(self._term("exact", known), 4.0))
        return _Words(tuple(tasks), tuple(found), tuple(boosts), tuple(ignored))

    def _tasks(self, names: tuple[str, ...]) -> Query:
        return Query.const_score_query(Query.term_set_query(self._schema, "task", list(names)), 1.0)

    def _known(self, word: str) -> str | None:
        """The word itself or, if it is found nowhere, the one it must be a typo of."""
        return word if self._count(self._as_written(word)) else self._respelt(word)

    def _as_written(self, word: str) -> Query:
        forms = {word: 1.0, singular(word): 1.0}
        forms |= dict.fromkeys(WORD_SYNONYMS.get(singular(word), ()), 0.7)
        either = []
        for form, weight in forms.items():
            pieces = parts(form)
            for field, boost in (("name", 3.0), ("text", 1.0)):
                exactly = [(self._term(field, form), boost * weight)]
                if len(pieces) > 1:
                    phrase = Query.phrase_query(self._schema, field, list(pieces), 1)
                    exactly.append((phrase, boost * weight / 2))
                # Where it is found is what counts: how rare a word is, or how long the name
                # around it, says little about which weights are meant.
                either += [Query.const_score_query(query, worth) for query, worth in exactly]
        if len(word) >= 3:
            for field, boost in (("name", 0.5), ("text", 0.3), ("exact", 0.5)):
                start = Query.fuzzy_term_query(self._schema, field, word, 0, prefix=True)
                either.append(Query.const_score_query(start, boost))
        return Query.disjunction_max_query(either)

    def _respelt(self, word: str) -> str | None:
        """The word of the catalog that is nearest to a misspelt one; None if none is near."""
        if len(word) < 4:
            return None
        from difflib import SequenceMatcher

        distance = 1 if len(word) < 8 else 2
        near = [
            Query.fuzzy_term_query(self._schema, field, word, distance)
            for field in ("name", "text", "exact")
        ]
        records = [self._record(hit) for hit in self._hits(_any(near), _CANDIDATES)]
        found = {token for r in records for token in indexes.vocabulary(r)}

        def likeness(token: str) -> tuple[float, str]:
            return SequenceMatcher(None, word, token).ratio(), token

        return max(found, key=likeness, default=None)

    def _term(self, field: str, value: str) -> Query:
        return Query.term_query(self._schema, field, value)

    def _between(self, field: str, interval: Range) -> Query:
        kind = FieldType.Float if field in _FLOATS else FieldType.Unsigned
        low, high, with_low, with_high = interval
        if kind is FieldType.Unsigned:  # whole numbers: the bounds are made inclusive
            if low is not None:
                low = int(low) + 1 if not with_low or low % 1 else int(low)
            if high is not None:
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

    def _check_closed(self, filters: Filters) -> None:
        for name in _CLOSED:
            value = filters.terms.get(name)
            if value is not None and not self._count(self._term(name, value)):
                valid = sorted(self._facets(Query.all_query())[name])
                raise UsageError(f"unknown {name} {value!r}", hint=f"one of: {', '.join(valid)}")

    def _count(self, query: Query) -> int:
        found: Any = self._searcher.search(query, 1)  # the stub has no `count`
        return int(found.count)

    def _hits(self, query: Query, limit: int) -> list[tantivy.DocAddress]:
        return [address for _, address in self._searcher.search(query, limit, count=False).hits]


def _task_phrase(rest: list[str]) -> tuple[int, tuple[str, ...]]:
    """How many words at the start name a task, and which tasks; the longest phrase wins."""
    for length in range(min(LONGEST_PHRASE, len(rest)), 0, -1):
        for last in (rest[length - 1], singular(rest[length - 1])):
            named = TASK_PHRASES.get(" ".join([*rest[: length - 1], last]))
            if named:
                return length, named
    return 0, ()


def _all(queries: list[Query]) -> Query:
    return Query.boolean_query([(Occur.Must, query) for query in queries])


def _any(queries: list[Query]) -> Query:
    return Query.boolean_query([(Occur.Should, query) for query in queries])
