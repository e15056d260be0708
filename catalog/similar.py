"""Models one could use instead of another, each with the reasons it is one.

The score is the sum of what is alike, of 100: the architecture (30; of one family 20), the size
(30; none from four times up or down), the data they were trained on (20), the input size (10) and
the languages (10). What is unknown of the model asked about is left out of the sum and of the 100.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from catalog.record import Evaluation, ModelRecord
from catalog.words import compact

_FAMILY = 2 / 3  # how much of the architecture's worth a common family is
_FAR = 2.0  # powers of two in size at which nothing is alike


@dataclass(frozen=True)
class Similar:
    """A record and how near it is: ``score`` from 0 to 100, and why."""

    record: ModelRecord
    score: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Aspect:
    """How much of ``worth`` two records have in common, 0..1, and in words."""

    worth: int
    share: float
    reason: str = ""


def similar(
    asked: ModelRecord, records: Iterable[ModelRecord], limit: int = 10
) -> tuple[Similar, ...]:
    """The records nearest to ``asked`` of its task and modality, the nearest first.

    A tie goes to the better evaluation. Of several weights of one architecture and one size that a
    source publishes only the nearest is given.
    """
    homes = {asked.uid, *asked.also}
    ranked: list[tuple[float, float, str, Similar]] = []
    for record in records:
        alike = (record.task, record.modality) == (asked.task, asked.modality)
        if alike and homes.isdisjoint((record.uid, *record.also)):
            score, reasons = _weigh(asked, record)
            gain, words = _gain(asked, record)
            found = Similar(record, round(score), (*reasons, *words))
            ranked.append((-found.score, -gain, record.uid, found))
    chosen: dict[tuple[object, ...], Similar] = {}
    for *_, found in sorted(ranked, key=lambda item: item[:3]):
        chosen.setdefault(_kind(found.record), found)
    return tuple(chosen.values())[:limit]


def _kind(record: ModelRecord) -> tuple[object, ...]:
    if record.architecture is None or record.params is None:
        return (record.uid,)
    return record.source, record.architecture, record.params


def _weigh(asked: ModelRecord, other: ModelRecord) -> tuple[float, tuple[str, ...]]:
    aspects = list(_aspects(asked, other))
    worth = sum(aspect.worth for aspect in aspects)
    got = sum(aspect.worth * aspect.share for aspect in aspects)
    return 100 * got / worth if worth else 0.0, tuple(a.reason for a in aspects if a.reason)


def _aspects(asked: ModelRecord, other: ModelRecord) -> Iterator[_Aspect]:
    """What of ``asked`` is known, compared."""
    if asked.architecture:
        yield _architecture(asked, other)
    if asked.params or asked.gmacs or asked.size_bytes:
        yield _size(asked, other)
    if asked.source_datasets:
        mine, theirs = ({d.id for d in r.source_datasets} for r in (asked, other))
        both = sorted(mine & theirs)
        reason = f"trained on {', '.join(both)}" if both else ""
        yield _Aspect(20, len(both) / len(mine | theirs), reason)
    if asked.input_size:
        same = asked.input_size == other.input_size
        reason = f"same input size {asked.input_size[-1]}" if same else ""
        yield _Aspect(10, float(same), reason)
    if asked.languages:
        both = [language for language in asked.languages if language in other.languages]
        named = ", ".join(both) if len(both) <= 3 else str(len(both))
        reason = f"languages in common: {named}" if both else ""
        yield _Aspect(10, len(both) / len(asked.languages), reason)


def _architecture(asked: ModelRecord, other: ModelRecord) -> _Aspect:
    if compact(asked.architecture or "") == compact(other.architecture or ""):
        return _Aspect(30, 1.0, f"same architecture {other.architecture}")
    if asked.family and asked.family == other.family:
        return _Aspect(30, _FAMILY, f"same family {asked.family}")
    return _Aspect(30, 0.0)


def _size(asked: ModelRecord, other: ModelRecord) -> _Aspect:
    """By parameters and MACs where both are known to both; else by bytes to download."""
    pairs = [
        (name, theirs / mine)
        for name, mine, theirs in (
            ("parameters", asked.params, other.params),
            ("MACs", asked.gmacs, other.gmacs),
        )
        if mine and theirs
    ]
    if not pairs and asked.size_bytes and other.size_bytes:
        pairs = [("bytes", other.size_bytes / asked.size_bytes)]
    if not pairs:
        return _Aspect(30, 0.0)
    shares = [max(0.0, 1 - abs(math.log2(ratio)) / _FAR) for _, ratio in pairs]
    said = [f"{_times(ratio)} {name}" for name, ratio in pairs]
    return _Aspect(30, sum(shares) / len(shares), ", ".join(said))


def _times(ratio: float) -> str:
    return "as many" if abs(ratio - 1) < 0.05 else f"{ratio:.2g}x the"


def _gain(asked: ModelRecord, other: ModelRecord) -> tuple[float, tuple[str, ...]]:
    """How much better ``other`` is in the first evaluation that both have, and in words."""
    for mine in asked.evals:
        theirs = next((item for item in other.evals if _what(item) == _what(mine)), None)
        if theirs is not None:
            more = theirs.value - mine.value
            unit = f" {mine.unit}" if mine.unit else ""
            words = f"{mine.metric_type} {theirs.value:.4g}{unit} on {mine.dataset} ({more:+.2g})"
            return more if mine.higher_is_better else -more, (words,)
    return -math.inf, ()


def _what(item: Evaluation) -> tuple[object, ...]:
    return item.metric_type, item.dataset, item.config, item.split, item.unit
