"""One page of what is found: the best matches first, or in the order of a figure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from heapq import merge
from itertools import compress, groupby, islice, product
from math import inf, log2
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import tantivy
from tantivy import Occur, Query

from catalog.document import COLUMNS, STEPPED, column, figures
from catalog.query import Direction, Range
from catalog.reader import Reader, Wording, all_of, any_of

if TYPE_CHECKING:
    from catalog.record import ModelRecord


_BROAD = 20_000  # records; fewer are scored one by one in no time
_AROUND = 100  # hits looked at on either side of a page
_ROUNDING = 1e-6  # of a score of 32 bits
_SPLITS = 3  # into how many parts at most what is worth the same: two by the power of it


class _Hit(NamedTuple):
    value: Any  # None: unknown
    address: tantivy.DocAddress


def by_likeness(
    reader: Reader, conditions: list[Query], found: Wording, limit: int, offset: int
) -> tuple[int, list[ModelRecord]]:
    """How many match all ``conditions``, and of the best matches those from ``offset`` on.

    A match is worth 1 for each task and word, and more where a word is in the name, all times how
    well known the weights are. One by one only those are scored that have something rare to them;
    all others are worth the same as those with the same broad things, and sorted as such.
    """
    worth = float(len(found.tasks) + len(found.words))
    more = [word.named for word in found.words]
    more += [(named,) for named in (*found.meant, *found.boosts)]
    each = {id(named.query): named for either in more for named in either}.values()
    broad = sorted((n for n in each if n.records > _BROAD), key=lambda n: -n.records)[:_SPLITS]
    few = [named.query for named in each if named not in broad]
    rare = any_of(few)
    certain = [word.found for word in found.words if all(one in word.sure for one in few)]
    query = all_of([one for one in conditions if one not in certain])
    scored = [(Occur.Must, _worth(query, worth)), (Occur.Must, _worth(rare, 0.0))]
    scored += [
        (Occur.Should, Query.disjunction_max_query([_worth(n.query, n.worth) for n in either]))
        for either in more
    ]
    first = reader.searcher.search(
        Query.boolean_query(scored), limit + offset, count=False, weight_by_field="prior"
    )
    seen = {(at.segment_ord, at.doc) for _, at in first.hits}
    total = 0
    tied: dict[float, list[list[tantivy.DocAddress]]] = defaultdict(list)
    for score, run in groupby(first.hits, key=itemgetter(0)):
        tied[score].append([address for _, address in run])
    for there in product((True, False), repeat=len(broad)):
        has = list(compress(broad, there))
        certain = [word.found for word in found.words if any(n.query in word.sure for n in has)]
        same = [(Occur.Must, one) for one in conditions if one not in certain]
        same += [(Occur.Must if n in has else Occur.MustNot, n.query) for n in broad]
        value = worth + sum(
            max((n.worth for n in either if n in has), default=0) for either in more
        )
        # To leave out what has something rare takes longer than to see that it is there twice.
        known: Any = reader.searcher.search(  # the stub has no `count`
            Query.boolean_query(same), limit + offset + len(seen), order_by_field="prior"
        )
        total += int(known.count)
        for prior, run in groupby(known.hits, key=itemgetter(0)):
            new = [at for _, at in run if not seen or (at.segment_ord, at.doc) not in seen]
            tied[value * log2(2 + prior)].append(new)
    page: list[ModelRecord] = []
    for runs in _equal(tied):
        here = sum(map(len, runs))
        if offset < here:
            equal = merge(*runs, key=lambda at: (at.segment_ord, at.doc))
            page += map(reader.record, islice(equal, offset, offset + limit - len(page)))
        if len(page) == limit:
            break
        offset = max(offset - here, 0)
    return total, page


def _equal(tied: dict[float, list[list[Any]]]) -> Iterator[list[list[Any]]]:
    """What is worth the same but for the engine's 32 bits, best first."""
    runs: list[list[Any]] = []
    last = inf
    for score in sorted(tied, reverse=True):
        if runs and score < last * (1 - _ROUNDING):
            yield runs
            runs = []
        runs += tied[score]
        last = score
    yield runs


def _worth(query: Query, worth: float) -> Query:
    return Query.const_score_query(query, worth)


def by_figure(
    reader: Reader, query: Query, order: tuple[str, Direction], limit: int, offset: int
) -> tuple[int, list[ModelRecord]]:
    """How many a query finds, and those from ``offset`` on: ties by uid, the unknown last."""
    field, direction = order
    find = _by_column if field in COLUMNS else _by_metric
    if reader.searcher.num_segments == 1 or field in {"uid", "prior"}:
        total, hits = find(reader, query, field, direction, limit, offset)
        return total, [reader.record(hit.address) for hit in hits]
    # Segments have ties in the order of their own uids. Where a tie reaches over the edge of the
    # page, its rest is among the hits around the page, or else asked for.
    before = min(offset, _AROUND)
    total, hits = find(reader, query, field, direction, limit + before + _AROUND, offset - before)
    whole = offset == before, len(hits) < limit + before + _AROUND
    records: list[ModelRecord] = []
    start = 0
    for value, run in groupby(hits, key=lambda hit: hit.value):
        tied = [hit.address for hit in run]
        first, start = start, start + len(tied)
        # How many of the tie are on the page, and after how many of it.
        left, wanted = max(before - first, 0), min(start, before + limit) - max(first, before)
        if wanted <= 0:
            continue
        if (first or whole[0]) and (start < len(hits) or whole[1]):
            there = sorted((reader.record(address) for address in tied), key=lambda r: r.uid)
            records += there[left : left + wanted]
            continue
        if not first and not whole[0]:
            left = offset - reader.count(_better(reader, query, field, direction, value))
        same = _same(reader, query, field, value)
        _, there_ = _by_column(reader, same, "uid", "asc", wanted, left)
        records += [reader.record(hit.address) for hit in there_]
    return total, records


def _by_column(
    reader: Reader, query: Query, field: str, direction: Direction, limit: int, offset: int
) -> tuple[int, list[_Hit]]:
    order = tantivy.Order.Asc if direction == "asc" else tantivy.Order.Desc
    near, passed = query, 0
    if query is reader.everything and field in STEPPED and reader.intact():
        near, passed = _steps(reader, field, direction, limit, offset)
    found: Any = reader.searcher.search(  # the stub has no `count`
        near, limit, offset=offset - passed, order_by_field=field, order=order
    )
    total = reader.searcher.num_docs if query is reader.everything else int(found.count)
    return total, [_Hit(value, address) for value, address in found.hits]


def _steps(
    reader: Reader, field: str, direction: Direction, limit: int, offset: int
) -> tuple[Query, int]:
    """The steps of all records that a page is on, and how many records come before them."""
    passed = here = 0
    on: list[int] = []
    for number, records in sorted(reader.steps(field).items(), reverse=direction == "desc"):
        if passed + records <= offset and not on:
            passed += records
            continue
        on.append(number)
        here += records
        if passed + here >= offset + limit:
            return reader.on_steps(field, on), passed
    return reader.everything, 0  # the page has records whose figure is unknown


def _by_metric(
    reader: Reader, query: Query, field: str, direction: Direction, limit: int, offset: int
) -> tuple[int, list[_Hit]]:
    """By a column that the schema does not name, which the engine sorts only in aggregations."""
    known, unknown = all_of([query, _known(field)]), _unknown(query, field)
    measured = reader.count(known)
    hits: list[_Hit] = []
    if offset < measured:  # beyond them the engine panics
        top = {
            "size": limit,
            "from": offset,
            "sort": [{column(field): direction}],
            "docvalue_fields": ["uid"],  # not the figure: a segment without its column panics
        }
        rows = reader.searcher.aggregate(known, {"first": {"top_hits": top}})["first"]["hits"]
        uids = [row["docvalue_fields"]["uid"][0] for row in rows]
        places = [reader.hits(reader.term("uid", uid), 1)[0] for uid in uids]
        hits = [_Hit(figures(reader.record(place))[field], place) for place in places]
    left = max(offset - measured, 0)
    others, more = _by_column(reader, unknown, "uid", "asc", max(limit - len(hits), 1), left)
    hits += [_Hit(None, hit.address) for hit in more]
    return measured + others, hits[:limit]


def _same(reader: Reader, query: Query, field: str, value: float | None) -> Query:
    if value is None:
        return _unknown(query, field)
    return all_of([query, reader.between(field, Range(value, value))])


def _better(
    reader: Reader, query: Query, field: str, direction: Direction, value: float | None
) -> Query:
    if value is None:
        return all_of([query, _known(field)])
    beyond = (
        Range(None, value, with_high=False)
        if direction == "asc"
        else Range(value, None, with_low=False)
    )
    return all_of([query, reader.between(field, beyond)])


def _unknown(query: Query, field: str) -> Query:
    return Query.boolean_query([(Occur.Must, query), (Occur.MustNot, _known(field))])


def _known(field: str) -> Query:
    return Query.exists_query(column(field))
