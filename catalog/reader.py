"""Reads the index, and what words mean in it: tasks, names, synonyms, starts of words, typos."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import tantivy
from tantivy import FieldType, Occur, Query

from catalog.document import COLUMNS, INFERRED, LAST_STEP, STEPPED, column, step, words_of
from catalog.languages import LANGUAGES
from catalog.phrases import IMAGES, LONGEST_PHRASE, PHRASED, TASK_PHRASES
from catalog.query import Range
from catalog.record import ModelRecord, decode
from catalog.synonyms import ARTICLES, STOP_WORDS, WORD_SYNONYMS, singular
from catalog.tasks import TASKS
from catalog.words import compact, parts, words

_CANDIDATES = 50
_FEW = 16  # words
_MOST_VALUES = 60_000  # the engine refuses more than 65,000
_UNSIGNED = {"params", "size", "side", "prior"}
_LARGEST = 2**63  # more than any count
_FARTHEST = 1e300  # more than any figure


class Named(NamedTuple):
    """What is worth more than another match, and in how many records it is, more or less."""

    query: Query
    worth: float
    records: int = 0


@dataclass(frozen=True)
class Word:
    """A word as queries: what it is found in, and where it says more about what is meant.

    What ``sure`` has of queries, of `named` and of `Wording.boosts`, matches nothing that ``found``
    does not.
    """

    found: Query
    named: tuple[Named, ...]
    sure: tuple[Query, ...] = ()


@dataclass(frozen=True)
class Wording:
    """A text as queries: all of ``tasks`` must match, and of ``words`` as many as possible.

    ``meant`` is what most mean by the tasks; ``boosts`` are what the whole text may be;
    ``respelt`` are words that are found nowhere, each with the one it was read as.
    """

    tasks: tuple[Query, ...]
    words: tuple[Word, ...]
    meant: tuple[Named, ...]
    boosts: tuple[Named, ...]
    ignored: tuple[str, ...]
    respelt: tuple[tuple[str, str], ...]


class Reader:
    """Reads an index, and words as queries that it can answer."""

    def __init__(self, index: tantivy.Index) -> None:
        self._index = index
        self._schema = index.schema
        self.searcher = index.searcher()
        self.everything = Query.all_query()

    def values(self, field: str, start: str = "") -> list[str]:
        """The values that records have of a field, those of most records first."""
        found = self.searcher.terms_with_prefix(field, start)
        return [value for value, _ in found if value]

    def record(self, address: tantivy.DocAddress) -> ModelRecord:
        """The record at an address of the index."""
        data: bytes = self.searcher.doc(address)["record"][0]
        return decode(data)

    def count(self, query: Query) -> int:
        """How many records a query matches."""
        counted = self.searcher.aggregate(query, {"all": {"value_count": {"field": "prior"}}})
        return int(counted["all"]["value"])

    def values_of(self, field: str, query: Query) -> dict[str, int]:
        """How many of the records that a query matches have each value of a field, most first."""
        terms = {"terms": {"field": field, "size": _MOST_VALUES}}
        found = self.searcher.aggregate(query, {"all": terms})["all"]
        return {bucket["key"]: int(bucket["doc_count"]) for bucket in found["buckets"]}

    def has(self, field: str, value: str) -> bool:
        """Whether a record has this value (or had it, and was replaced)."""
        return self.searcher.doc_freq(field, value) > 0

    def intact(self) -> bool:
        """Whether no record was replaced, so that the index's own counts of values hold."""
        said = self.searcher.terms_with_prefix("commercial", "")  # each record has one
        return sum(count for _, count in said) == self.searcher.num_docs

    def hits(self, query: Query, limit: int) -> list[tantivy.DocAddress]:
        """Where the best matches are, best first."""
        return [address for _, address in self.searcher.search(query, limit, count=False).hits]

    def term(self, field: str, value: str) -> Query:
        """A query for one whole value of a field."""
        return Query.term_query(self._schema, field, value)

    def terms(self, field: str, values: tuple[str, ...]) -> Query:
        """A query for any of these values of a field."""
        return Query.term_set_query(self._schema, field, list(values))

    def near(self, field: str, word: str, distance: int) -> Query:
        """A query for what is so many letters away from ``word``."""
        return Query.fuzzy_term_query(self._schema, field, word, distance)

    def steps(self, field: str) -> dict[int, int]:
        """How many records have a figure on each step; records that were replaced count too."""
        said = self.searcher.terms_with_prefix("step", f"{field} ")
        return {int(step_.rpartition(" ")[2]): records for step_, records in said}

    def on_steps(self, field: str, steps: Iterable[int]) -> Query:
        """A query for figures on some steps."""
        return self.terms("step", tuple(f"{field} {step_}" for step_ in steps))

    def between(self, field: str, interval: Range) -> Query:
        """A query for figures in an interval."""
        if field not in COLUMNS:
            return self._figures(column(field), interval)
        if field in STEPPED:
            return self._stepped(field, interval)
        return self._exact(field, interval)

    def _stepped(self, field: str, interval: Range) -> Query:
        """As `between`: figures are compared only on the steps where the interval ends."""
        low, high = (step(end) if end and end > 0 else None for end in interval[:2])
        ends = {end for end in (low, high) if end is not None}
        if not ends:
            return self._exact(field, interval)
        least = 0 if field in _UNSIGNED else -LAST_STEP
        inner = range(least if low is None else low + 1, LAST_STEP if high is None else high)
        at = self._exact(field, interval)
        either = [self.on_steps(field, inner)] if inner else []
        either += [all_of([self.term("step", f"{field} {n}"), at]) for n in sorted(ends)]
        return any_of(either)

    def _exact(self, field: str, interval: Range) -> Query:
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

    def _figures(self, field: str, interval: Range) -> Query:
        """As `between`, in a column that the schema does not name: the parser alone can say it."""
        low, high, with_low, with_high = interval
        sides = []
        if low is not None:  # one side at a time: the engine panics where two differ in their type
            sides.append(f"{field}:{'[' if with_low else '{'}{_digits(low)} TO *]")
        if high is not None:
            sides.append(f"{field}:[* TO {_digits(high)}{']' if with_high else '}'}")
        return all_of([self._index.parse_query(side) for side in sides])

    def understand(self, text: str) -> Wording:
        """What ``text`` asks for; the word of a typo is the nearest that the catalog has."""
        typed = [word for word in words(text) if word not in ARTICLES]
        rest = self._spelled(typed)
        respelt = tuple(pair for pair in zip(typed, rest, strict=True) if pair[0] != pair[1])
        tasks, found, ignored, meant = [], [], [], []
        boosts = self._in_the_name(rest)
        whole = compact(text)
        kept: list[str] = []
        while rest:
            length, named = _task_phrase(rest)
            if length:
                said, rest = rest[:length], rest[length:]
                tasks.append(self._tasks(named, said))
                meant.append(self._named("kind", named[0], 4.0))
                boosts += self._said(said)
                continue
            word = rest.pop(0)
            if word in STOP_WORDS:
                continue
            for length in self._joined(word, rest):
                apart, rest = [word, *rest[:length]], rest[length:]
                found += self._in_one(apart)
                kept.append("".join(apart))
                boosts.append(self._exactly(kept[-1], whole))
                word = ""
            if not word:
                continue
            if not self._known(word):
                ignored.append(word)
            else:
                exactly = self._exactly(word, whole)
                written = self._as_written(word)
                found.append(replace(written, sure=(*written.sure, exactly.query)))
                kept.append(word)
                boosts.append(exactly)
        if whole and whole not in kept:
            boosts.append(self._named("exact", whole, 6.0))
        if ignored and not tasks and all(len(word) == 1 for word in kept):
            ignored, found = [*ignored, *kept], []  # what is left says nothing: chest x-ray
        return Wording(
            tuple(tasks),
            tuple(found),
            tuple(meant),
            tuple(boosts),
            tuple(ignored),
            respelt,
        )

    def _in_the_name(self, said: list[str]) -> list[Named]:
        """What is worth more where all that was said is in the name."""
        boosts = [Named(self._phrase("name", said), 1.0)] if len(said) > 1 else []
        languages = [LANGUAGES[word] for word in said if word in LANGUAGES]
        if len(languages) > 1:  # from one to the other
            boosts.append(Named(self._phrase("name", languages), 1.0))
            boosts.append(self._named("exact", "".join(languages), 3.0))
        return boosts

    def _joined(self, word: str, rest: list[str]) -> list[int]:
        """How many words go on with this one: `efficient net`, `resnet 50`, `mask r cnn`."""
        lengths = [2] if len(rest) > 1 and len(rest[0]) == 1 and rest[1].isalpha() else []
        lengths += [1] if rest and len(word) > 1 else []
        return [n for n in lengths if self.has("word", "".join([word, *rest[:n]]))][:1]

    def _phrase(self, field: str, said: list[str], slop: int = 0) -> Query:
        return Query.phrase_query(self._schema, field, [*said], slop)

    def _in_one(self, apart: list[str]) -> list[Word]:
        """Words that some write as one: found as that, or each for itself."""
        one = self._as_written("".join(apart))
        each = [self._as_written(word) for word in apart]
        return [Word(any_of([w.found, one.found]), (*w.named, *one.named)) for w in each]

    def _exactly(self, word: str, whole: str) -> Named:
        """A word says more where it is a name by itself, and most if nothing else was said."""
        return self._named("exact", word, 9.0 if word == whole else 3.0)

    def _said(self, said: list[str]) -> list[Named]:
        """A task in words says more where the model's name or a tag has these very words."""
        name = self._phrase("name", said) if len(said) > 1 else self.term("name", said[0])
        return [Named(q, 1.0) for q in (name, self.term("kind", "-".join(said)))]

    def _tasks(self, names: tuple[str, ...], said: list[str]) -> Query:
        """One of these tasks or tags or, where a record has no task, the words themselves.

        `head pose` is so found. A tag alone says what few publishers do: all with the words too.
        """
        itself = [self.term("word", word) for word in said]
        if not TASKS.keys().isdisjoint(names):
            itself.append(self.term("task", ""))
        return any_of([self.terms("kind", names), all_of(itself)])

    def _spelled(self, typed: list[str]) -> list[str]:
        """The words, each that is known nowhere as the one it must be a typo of."""
        spelled = list(typed)
        for n, word in enumerate(typed):
            beside = ["".join(typed[at : at + 2]) for at in (n - 1, n) if at >= 0]
            if (
                singular(word) not in PHRASED
                and word not in STOP_WORDS
                and not any(self.has("word", both) for both in beside)
                and not self._known(word)
            ):
                spelled[n] = self._respelt(word) or word
        return spelled

    def _known(self, word: str) -> bool:
        """Whether a record has the word, or what means the same."""
        return self.has("word", word) or self.count(self._as_written(word).found) > 0

    def _as_written(self, word: str) -> Word:
        """A word as such, as its letters and digits apart, as its synonyms, as a start."""
        forms = {word: 1.0, singular(word): 1.0}
        forms |= dict.fromkeys(WORD_SYNONYMS.get(singular(word), ()), 0.7)
        if word in LANGUAGES:
            forms[LANGUAGES[word]] = 1.0
        short = len(word) < 3  # too short to be the start of words that are meant by it
        found, named, sure = [], [], []
        for form, weight in forms.items():
            pieces = parts(form)
            # Where it is found is what counts: how rare a word is, or how long the name around it,
            # says little about which weights are meant.
            for field in ("kind", "name"):
                if self.has(field, form):
                    named.append(self._named(field, form, 2.0 * weight))
                    if field == "name" or form not in INFERRED:
                        sure.append(named[-1].query)
            if len(pieces) > 1:
                apart = [self._phrase(field, pieces, 1) for field in ("name", "text")]
                named.append(Named(apart[0], 0.5 * weight))
                found += apart
            if self.has("word", form) and (short or not form.startswith(word)):
                found.append(self.term("word", form))
        if not short:
            found += self._starting(word)
        return Word(any_of(found), tuple(named), tuple(sure))

    def _starting(self, start: str) -> list[Query]:
        """Queries for the words that start so: if they are few one each, which can skip."""
        begun = self.searcher.terms_with_prefix("word", start, limit=_FEW + 1)
        if len(begun) > _FEW:
            return [Query.fuzzy_term_query(self._schema, "word", start, 0, prefix=True)]
        return [self.term("word", word) for word, _ in begun]

    def _named(self, field: str, value: str, worth: float) -> Named:
        return Named(self.term(field, value), worth, self.searcher.doc_freq(field, value))

    def _respelt(self, word: str) -> str | None:
        """The word of the catalog, or of a task, nearest to a misspelt one; None if none is."""
        if len(word) < 4:
            return None
        from difflib import SequenceMatcher

        for distance in (1,) if len(word) < 8 else (1, 2):
            near = Query.const_score_query(self.near("word", word, distance), 1.0)
            hits = self.searcher.search(
                near, _CANDIDATES, count=False, weight_by_field="prior"
            ).hits
            records = [self.record(address) for _, address in hits]
            found = {token for record in records for token in words_of(record).all} | PHRASED
            found = {token for token in found if abs(len(token) - len(word)) <= distance}
            alike = {token: SequenceMatcher(None, word, token).ratio() for token in found}
            best = max(alike.values(), default=0.0)
            if best < 1 - distance / len(word):
                continue
            nearest = [token for token in alike if alike[token] == best]
            if nearest:
                return max(nearest, key=lambda t: (self.searcher.doc_freq("word", t), t))
        return None


def _digits(figure: float) -> str:
    """A figure without an exponent, which the engine's parser reads as a word."""
    from decimal import Decimal

    return format(Decimal(repr(max(-_FARTHEST, min(float(figure), _FARTHEST)))), "f")


def _task_phrase(rest: list[str]) -> tuple[int, tuple[str, ...]]:
    """How many words at the start name a task, and which tasks; the longest phrase wins."""
    said = ["image" if singular(word) in IMAGES else word for word in rest[:LONGEST_PHRASE]]
    one = [singular(word) for word in said]
    for length in range(len(said), 0, -1):
        for form in (said[:length], [*said[: length - 1], one[length - 1]], one[:length]):
            named = TASK_PHRASES.get(" ".join(form))
            if named:
                return length, named
    return 0, ()


def any_of(queries: list[Query]) -> Query:
    """A query that matches what any of these matches: nothing, if there are none."""
    if not queries:
        return Query.empty_query()
    if len(queries) == 1:
        return queries[0]
    return Query.boolean_query([(Occur.Should, query) for query in queries])


def all_of(queries: list[Query]) -> Query:
    """A query that matches what all of these match: everything, if there are none."""
    if not queries:
        return Query.all_query()
    return Query.boolean_query([(Occur.Must, query) for query in queries])
