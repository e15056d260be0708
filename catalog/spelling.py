"""One spelling for the data sets that publishers write with other separators or capitals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import msgspec

from catalog.record import ModelRecord


def unify(records: Iterable[ModelRecord]) -> list[ModelRecord]:
    """The records with the commonest spelling of each data set, `imagenet-1k` for `imagenet1k`.

    Only separators and capitals are looked past; among equally common ones the first in the
    alphabet stands.
    """
    found = list(records)
    counts = Counter(name for record in found for name in _names(record))
    best: dict[str, str] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        best.setdefault(_letters(name), name)
    return [_spelled(record, best) for record in found]


def _names(record: ModelRecord) -> list[str]:
    return [item.id for item in record.source_datasets] + [item.dataset for item in record.evals]


def _letters(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).lower()


def _spelled(record: ModelRecord, best: dict[str, str]) -> ModelRecord:
    if all(best[_letters(name)] == name for name in _names(record)):
        return record
    replace = msgspec.structs.replace
    sources = [replace(d, id=best[_letters(d.id)]) for d in record.source_datasets]
    return replace(
        record,
        source_datasets=tuple(dict.fromkeys(sources)),
        evals=tuple(replace(e, dataset=best[_letters(e.dataset)]) for e in record.evals),
    )
