"""What the index holds of a record: words to find it by, fields to filter and sort by, its JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import tantivy

from catalog.phrases import SAID_BY_NAME
from catalog.record import ModelRecord, encode
from catalog.shown import SHOWN
from catalog.synonyms import STEMS
from catalog.tasks import TASKS
from catalog.well_known import CALLED, WELL_KNOWN
from catalog.words import compact, tokens, words

# Raise it when the fields below or what goes into them change.
INDEX_VERSION = 6
FACETS = ("task", "framework", "source", "license")
_KEYWORDS = (*FACETS, "kind", "modality", "dataset", "language", "commercial", "shape")
# Fields of numbers, and the uid; figures of any other metric are in columns of their own.
COLUMNS = frozenset(["uid", "params", "gmacs", "size", "side", "top1", "prior"])
# Figures that are in so many steps too: most of an interval is found by whole steps.
STEPPED = ("params", "size", "gmacs")
LAST_STEP = 64 * 8
_LEAST = frozenset(["test", "quantized"])  # tags of weights that few mean
_WRITES = frozenset(["text-generation", "image-text-to-text"])
_TAUGHT = frozenset(["chat", "instruct"])  # to answer, and not merely to go on
# What names say of the kind of weights in other words.
INFERRED = frozenset(["chat", *SAID_BY_NAME.values()])
_PIECES = ("-decoder", "-encoder")
_SMALL = 25e6  # parameters: what runs on a phone without haste
_MANY = 5  # languages
_SHORT = 5  # words in the name of weights that are no variant of others
_PLAIN = "r50"  # the backbone that detectors and the like are shown with first


def schema() -> tantivy.Schema:
    """The fields: what is searched, what is filtered, counted and sorted by, and the record."""
    fields = tantivy.SchemaBuilder()
    fields.add_text_field("uid", tokenizer_name="raw", fast=True, index_option="basic")
    # Uids in lower case, other homes too; names without separators.
    for name in ("key", "exact"):
        fields.add_text_field(name, tokenizer_name="raw", index_option="basic")
    fields.add_text_field("name", tokenizer_name="whitespace")
    fields.add_text_field("text", tokenizer_name="whitespace")
    fields.add_text_field("step", tokenizer_name="raw", index_option="basic")
    # Every word once, wherever it stands: starts of words and typos are looked up in one place.
    fields.add_text_field("word", tokenizer_name="whitespace", index_option="basic")
    for name in _KEYWORDS:
        fields.add_text_field(name, tokenizer_name="raw", fast=True, index_option="basic")
    # All facets of a record as one value: counting one column gives the counts of all.
    fields.add_text_field("facets", tokenizer_name="raw", fast=True, index_option="basic")
    for name in ("params", "size", "side", "prior"):
        fields.add_unsigned_field(name, fast=True)
    for name in ("gmacs", "top1"):
        fields.add_float_field(name, fast=True)
    # Every other metric, whatever its name: one column each, made when it is first seen.
    fields.add_json_field("figure", fast=True, tokenizer_name="raw", index_option="basic")
    # The names of the metrics there are figures of, and of those less of which is better.
    for name in ("metric", "less"):
        fields.add_text_field(name, tokenizer_name="raw", index_option="basic")
    fields.add_bytes_field("record", stored=True)
    return fields.build()


def column(name: str) -> str:
    """Where the index has a number: a field, or the column of a metric."""
    # Letters and digits alone: what the engine's range queries can name.
    return name if name in COLUMNS else f"figure.m{name.encode().hex()}"


def step(figure: float) -> int:
    """On which of the steps, eight from a figure to its double, a positive figure is."""
    return math.floor(max(-LAST_STEP, min(8 * math.log2(figure), LAST_STEP - 1)))


def document(record: ModelRecord) -> tantivy.Document:
    """What the index holds of one record."""
    document = tantivy.Document()
    document.add_text("uid", record.uid)
    for home in (record.uid, *record.also):
        document.add_text("key", home.lower())
    found = words_of(record)
    for word in found.exact:
        document.add_text("exact", word)
    document.add_text("name", " ".join(found.name))
    document.add_text("text", " ".join(found.text))
    document.add_text("word", " ".join(found.all))
    keywords = _keywords(record)
    for field, values in keywords.items():
        for value in values:
            document.add_text(field, value)
    document.add_text("facets", "\n".join("\t".join(keywords[facet]) for facet in FACETS))
    counts = {
        "params": record.params,
        "size": record.size_bytes,
        "side": record.input_size[-1] if record.input_size else None,
        "prior": prior(record),
    }
    for field, count in counts.items():
        if count is not None:
            document.add_unsigned(field, count)
    for field, number in {**counts, "gmacs": record.gmacs}.items():
        if field in STEPPED and number is not None:
            document.add_text("step", f"{field} {step(number)}")
    _add_figures(document, record)
    document.add_bytes("record", encode(record))
    return document


class Words(NamedTuple):
    """The words of a record, by where they stand."""

    name: list[str]
    text: list[str]
    exact: list[str]  # names without separators
    all: list[str]  # every one of them once


def words_of(record: ModelRecord) -> Words:
    """The words under which a record is found."""
    # A short name says more than a long one: what follows the architecture is text.
    name = record.uid.partition("/")[2]
    base = record.architecture or ""
    rest = name.removeprefix(base) if base and name.startswith(base) else ""
    named = list(tokens(name.removesuffix(rest)))
    text = list(_text(record, rest))
    exact = _exact(record)
    return Words(named, text, exact, list(dict.fromkeys([*named, *text, *exact])))


def _keywords(record: ModelRecord) -> dict[str, list[str]]:
    """The values of each field, in lower case; a facet has one in every record, if only ``""``."""
    sources = {home.partition("/")[0] for home in (record.uid, *record.also)}
    found: dict[str, Iterable[str | None]] = {
        "task": [record.task],
        "framework": [record.framework],
        "source": sorted(sources),
        "license": [record.license.spdx if record.license else None],
        "commercial": [record.license.commercial if record.license else "unknown"],
        # What it does: the task, and what tags say beyond it or where there is none.
        "kind": sorted(_kinds(record)),
        "modality": [record.modality],
        "language": sorted(set(record.languages)),
        "dataset": sorted({dataset.id for dataset in record.source_datasets}),
        "shape": ["x".join(map(str, record.input_size))] if record.input_size else [],
    }
    return {
        field: [(value or "").lower() for value in values if value or field in FACETS]
        for field, values in found.items()
    }


def facets_of(combined: str) -> dict[str, list[str]]:
    """The values of each facet, of a value of the field ``facets``."""
    values = [part.split("\t") for part in combined.split("\n")]
    return dict(zip(FACETS, values, strict=True))


def _kinds(record: ModelRecord) -> set[str]:
    """The task, and what tags say beyond it or where there is none, or else the name."""
    said = {tag for tag in record.tags if not (record.task and tag in TASKS)}
    named = {SAID_BY_NAME[word] for word in tokens(record.uid) if word in SAID_BY_NAME}
    talks = {"chat"} if record.task in _WRITES and _TAUGHT & set(tokens(record.uid)) else set()
    return {kind for kind in (record.task, *said, *named, *talks) if kind}


def _add_figures(document: tantivy.Document, record: ModelRecord) -> None:
    measured = figures(record)
    for metric in measured:
        document.add_text("metric", metric)
    for metric in {item.metric_type.lower() for item in record.evals if not item.higher_is_better}:
        document.add_text("less", metric)
    for field, figure in (("gmacs", record.gmacs), ("top1", measured.pop("top1", None))):
        if figure is not None:
            document.add_float(field, figure)
    rest = {column(metric).partition(".")[2]: value for metric, value in measured.items()}
    rest.pop("", None)  # a metric that is called as a field of ours
    if rest:
        document.add_json("figure", rest)


def figures(record: ModelRecord) -> dict[str, float]:
    """What was measured: by ``metric@dataset``, and by ``metric`` alone what is listed first.

    ``top1`` and ``top5`` alone are those on ImageNet-1k.
    """
    found: dict[str, float] = {}
    for item in record.evals:
        metric = item.metric_type.lower()
        found.setdefault(f"{metric}@{item.dataset.lower()}", item.value)
        if metric not in {"top1", "top5"} or item.dataset == "imagenet-1k":
            found.setdefault(metric, item.value)
    return found


def _text(record: ModelRecord, rest: str) -> Iterator[str]:
    said = (
        *(rest, record.description, record.task, record.modality, record.framework),
        *(record.family, record.architecture, record.label_set, record.hf_hub_id),
        *(*record.tags, *record.also, *record.languages),
        *(dataset.id for dataset in record.source_datasets),
    )
    for part in said:
        if part:
            yield from tokens(part)
    yield from _derived(record)


def _derived(record: ModelRecord) -> Iterator[str]:
    """What people say of a model that its publisher does not: that it is small, what it was shown.

    ``distilbert`` is a ``bert`` too.
    """
    if record.params and record.params < _SMALL:
        yield "small"
    if len(set(record.languages)) >= _MANY:
        yield "multilingual"
    for dataset in record.source_datasets:
        yield from tokens(SHOWN.get(dataset.id, ""))
    for word in set(tokens(record.uid)):
        yield from (stem for stem in STEMS if word.endswith(stem) and word != stem)


def _exact(record: ModelRecord) -> list[str]:
    name = record.uid.partition("/")[2]
    names = (record.architecture, record.family, name, record.uid, *CALLED.get(record.uid, ()))
    return sorted({compact(said) for said in names if said})


def prior(record: ModelRecord) -> int:
    """How well known the weights are: the score is multiplied by ``log2(2 + prior)``."""
    if _LEAST & set(record.tags) or record.uid.endswith(_PIECES):
        return 0
    named = record.architecture in WELL_KNOWN
    default = "default" in record.tags or record.uid in CALLED
    said = words(record.uid.partition("/")[2])
    plain = (len(said) <= _SHORT) + (_PLAIN in said)
    return 4 * default * (1 + 2 * named) + (record.top1 is not None) + bool(record.also) + plain
