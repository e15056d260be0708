"""Reads the index, and what words mean in it: tasks, names, synonyms, starts of words, typos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tantivy
from tantivy import Occur, Query

from catalog import index as indexes
from catalog.record import ModelRecord, decode
from catalog.synonyms import (
    LANGUAGES,
    LONGEST_PHRASE,
    STOP_WORDS,
    TASK_PHRASES,
    WORD_SYNONYMS,
    singular,
)
from catalog.words import compact, parts, words

_CANDIDATES = 200


@dataclass(frozen=True)
class Wording:
    """A text as queries: all of ``tasks`` must match, and of ``words`` as many as possible."""

    tasks: tuple[Query, ...]
    words: tuple[Query, ...]
    boosts: tuple[Query, ...]
    ignored: tuple[str, ...]


class Reader:
    """Reads an index, and words as queries that it can answer."""

    def __init__(self, schema: tantivy.Schema, searcher: tantivy.Searcher) -> None:
        self._schema = schema
        self._searcher = searcher

    def record(self, address: tantivy.DocAddress) -> ModelRecord:
        """The record at an address of the index."""
        return decode(indexes.stored(self._searcher, address))

    def count(self, query: Query) -> int:
        """How many records a query matches."""
        found: Any = self._searcher.search(query, 1)  # the stub has no `count`
        return int(found.count)

    def hits(self, query: Query, limit: int) -> list[tantivy.DocAddress]:
        """Where the best matches are, best first."""
        return [address for _, address in self._searcher.search(query, limit, count=False).hits]

    def understand(self, text: str) -> Wording:
        """What ``text`` asks for; the word of a typo is the nearest that the catalog has."""
        rest = words(text)
        whole = compact(text)
        tasks, found, ignored, boosts = [], [], [], []
        if whole:
            boosts.append(self._exactly(whole, 6.0))
        if len(rest) > 1:
            as_said = Query.phrase_query(self._schema, "name", list(rest))
            boosts.append(Query.const_score_query(as_said, 1.0))
        while rest:
            length, named = _task_phrase(rest)
            if length:
                said, rest = rest[:length], rest[length:]
                tasks.append(self._tasks(named))
                boosts += [self._meant(named[0]), *self._said(said)]
                continue
            word = rest.pop(0)
            if word in STOP_WORDS:
                continue
            for length in self._joined(word, rest):
                word += "".join(rest[:length])
                rest = rest[length:]
            known = self._known(word)
            if known is None:
                ignored.append(word)
            else:
                found.append(self._as_written(known))
                boosts.append(self._exactly(known, 3.0))
        return Wording(tuple(tasks), tuple(found), tuple(boosts), tuple(ignored))

    def _joined(self, word: str, rest: list[str]) -> list[int]:
        """How many words go on with this one: `efficient net`, `resnet 50`, `mask r cnn`."""
        lengths = [2] if len(rest) > 1 and len(rest[0]) == 1 and rest[1].isalpha() else []
        lengths += [1] if rest and len(word) > 1 else []
        joined = ("".join([word, *rest[:length]]) for length in lengths)
        return [
            n
            for n, name in zip(lengths, joined, strict=True)
            if self.count(self.term("name", name))
        ][:1]

    def _exactly(self, word: str, worth: float) -> Query:
        return Query.const_score_query(self.term("exact", word), worth)

    def _meant(self, kind: str) -> Query:
        return Query.const_score_query(self.term("kind", kind), 3.0)

    def _said(self, said: list[str]) -> list[Query]:
        """A task in words says more where the model's name or a tag has these very words."""
        queries = [
            Query.phrase_query(self._schema, field, list(said))
            if len(said) > 1
            else self.term(field, said[0])
            for field in ("name", "text")
        ]
        queries.append(self.term("kind", "-".join(said)))
        return [Query.const_score_query(query, 1.0) for query in queries]

    def _tasks(self, names: tuple[str, ...]) -> Query:
        return Query.const_score_query(Query.term_set_query(self._schema, "kind", list(names)), 1.0)

    def _known(self, word: str) -> str | None:
        """The word itself or, if it is found nowhere, the one it must be a typo of."""
        return word if self.count(self._as_written(word)) else self._respelt(word)

    def _as_written(self, word: str) -> Query:
        forms = {word: 1.0, singular(word): 1.0}
        forms |= dict.fromkeys(WORD_SYNONYMS.get(singular(word), ()), 0.7)
        if word in LANGUAGES:
            forms[LANGUAGES[word]] = 1.0
        either = []
        for form, weight in forms.items():
            pieces = parts(form)
            either.append(Query.const_score_query(self.term("kind", form), 3.0 * weight))
            for field, boost in (("name", 3.0), ("text", 1.0)):
                exactly = [(self.term(field, form), boost * weight)]
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
        records = [self.record(hit) for hit in self.hits(any_of(near), _CANDIDATES)]
        found = {token for r in records for token in indexes.vocabulary(r)}
        alike = {token: SequenceMatcher(None, word, token).ratio() for token in found}
        best = max(alike.values(), default=0.0)
        nearest = [token for token in alike if alike[token] == best]
        if len(nearest) < 2:
            return nearest[0] if nearest else None
        return max(nearest, key=lambda token: (self.count(self._as_written(token)), token))

    def term(self, field: str, value: str) -> Query:
        """A query for one whole value of a field."""
        return Query.term_query(self._schema, field, value)


def _task_phrase(rest: list[str]) -> tuple[int, tuple[str, ...]]:
    """How many words at the start name a task, and which tasks; the longest phrase wins."""
    for length in range(min(LONGEST_PHRASE, len(rest)), 0, -1):
        for last in (rest[length - 1], singular(rest[length - 1])):
            named = TASK_PHRASES.get(" ".join([*rest[: length - 1], last]))
            if named:
                return length, named
    return 0, ()


def any_of(queries: list[Query]) -> Query:
    """A query that matches what any of these matches."""
    return Query.boolean_query([(Occur.Should, query) for query in queries])
