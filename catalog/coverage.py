"""How much the records know, by source and overall."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from catalog.record import ModelRecord


def _said(record: ModelRecord, *names: str) -> bool:
    """Whether a publisher said it: no provenance of these fields is marked derived."""
    return not any(
        item.derived for item in record.provenance for name in names if name in item.fields
    )


def _image(record: ModelRecord) -> bool:
    return record.modality == "image"


def _own_license(record: ModelRecord) -> bool:
    return record.license is not None and record.license.scope == "weights"


# What is counted, over which records, and whether it is there.
_EVERY: Callable[[ModelRecord], bool] = lambda _: True  # noqa: E731 - a row of the table below
FIELDS: dict[str, tuple[Callable[[ModelRecord], bool], Callable[[ModelRecord], bool]]] = {
    "task": (_EVERY, lambda r: r.task is not None),
    "task, as published": (_EVERY, lambda r: r.task is not None and _said(r, "task")),
    "input size of image models": (_image, lambda r: r.input_size is not None),
    "input size of image models, as published": (
        _image,
        lambda r: r.input_size is not None and _said(r, "input_size"),
    ),
    "source dataset": (_EVERY, lambda r: bool(r.source_datasets)),
    "source dataset, as published": (
        _EVERY,
        lambda r: bool(r.source_datasets) and _said(r, "source_datasets"),
    ),
    "params": (_EVERY, lambda r: r.params is not None),
    "params, as published": (_EVERY, lambda r: r.params is not None and _said(r, "params")),
    "MACs": (_EVERY, lambda r: r.gmacs is not None),
    "an evaluation": (_EVERY, lambda r: bool(r.evals)),
    "license of the weights": (_EVERY, _own_license),
    "license of the project": (_EVERY, lambda r: r.project_license is not None),
    "size": (_EVERY, lambda r: r.size_bytes is not None),
    "full digest": (
        _EVERY,
        lambda r: any(a.digest is not None and not a.digest.prefix for a in r.artifacts),
    ),
}


def measure(records: Iterable[ModelRecord]) -> dict[str, Any]:
    """``{"records", "sources": {source: {...}}, "coverage": {field: fraction}}``."""
    by_source: dict[str, list[ModelRecord]] = {}
    for record in records:
        by_source.setdefault(record.source, []).append(record)
    everything = [record for found in by_source.values() for record in found]
    return {
        "records": len(everything),
        "sources": {
            source: {"records": len(found), "coverage": _fractions(found)}
            for source, found in sorted(by_source.items())
        },
        "coverage": _fractions(everything),
    }


_PAGE = """\
# What the catalog knows

Counted over the snapshot that ships: this page is what `tlhub catalog stats --markdown` prints. A
cell is the share of the source's records that have the thing. A star: as its publisher says it,
without what was derived, from a name, by counting or from a configuration. A license of the weights
is their own; that of the project is counted apart, and a record may have both; "unknown" counts
as missing. An empty cell: no such records.

Parameters of OpenMMLab's models are added up from their configurations where every part of them
is known. Those of some others were counted in their publisher's own modules, built with random
weights; which, and with which packages, stands in `catalog/data/counts.tsv`. OPUS-MT publishes the
sizes of its translation models to a tenth of a million.

"""


def as_page(found: dict[str, Any]) -> str:
    """The figures as the page `docs/reference/coverage.md`."""
    return f"{_PAGE}{as_markdown(found)}\n"


def as_markdown(found: dict[str, Any]) -> str:
    """The figures as a table, a row for each source."""
    short = {name: name.replace(", as published", "*") for name in FIELDS}
    lines = [
        "| source | records | " + " | ".join(short.values()) + " |",
        "|---|" + "---:|" * (len(FIELDS) + 1),
    ]
    rows = {**found["sources"], "**all**": found}
    for source, figures in rows.items():
        cells = (_percent(figures["coverage"][name]) for name in FIELDS)
        lines.append(f"| {source} | {figures['records']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _fractions(records: list[ModelRecord]) -> dict[str, float | None]:
    fractions: dict[str, float | None] = {}
    for name, (counts, has) in FIELDS.items():
        counted = [record for record in records if counts(record)]
        share = sum(has(record) for record in counted) / len(counted) if counted else None
        fractions[name] = None if share is None else round(share, 4)
    return fractions


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
