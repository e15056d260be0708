"""Records as rows of plain values, for data frames and for eyes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from catalog.record import ModelRecord

_SHOWN = ("uid", "task", "params", "gmacs", "top1", "license")


def row(record: ModelRecord) -> dict[str, Any]:
    """What a search result says of a record; unknown figures are None."""
    return {
        "uid": record.uid,
        "task": record.task,
        "framework": record.framework,
        "architecture": record.architecture,
        "input_size": record.input_size,
        "params": record.params,
        "gmacs": record.gmacs,
        "top1": record.top1,
        "license": record.license.spdx if record.license else None,
        "size_bytes": record.size_bytes,
    }


def as_text(records: Sequence[ModelRecord]) -> str:
    """An aligned table of the main columns."""
    rows = [_SHOWN, *map(_shown, records)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, cells, widths)).rstrip() for cells in rows)
    return "\n".join(lines)


def as_html(records: Sequence[ModelRecord]) -> str:
    """The same table in HTML, with all text escaped."""
    from html import escape

    head = "".join(f"<th>{name}</th>" for name in _SHOWN)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _shown(record)) + "</tr>"
        for record in records
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shown(record: ModelRecord) -> tuple[str, ...]:
    values = row(record)
    return tuple(_cell(values[name]) for name in _SHOWN)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
