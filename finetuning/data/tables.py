"""Tables of examples: CSV, TSV, JSON lines, Parquet and Arrow, one row an example.

A table is columns of plain values, except that bytes of images stay where they are (`Cell`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from catalog.errors import DataError
from finetuning.data import texts
from finetuning.data.dataset import Skipped, Stored
from finetuning.data.files import Content, read_bytes, suffix

ENDINGS = frozenset({".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet"})
_FIELD_BYTES = 100 << 20


@dataclass(frozen=True)
class Table:
    """Columns of equal length by name, and what files of this form say of themselves."""

    label: str  # the table in messages
    rows: Sequence[str]  # a name for each
    columns: Mapping[str, Sequence[object]]
    blobs: Mapping[str, Sequence[Stored | None]] = field(default_factory=dict)  # images
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of columns of numbers
    skipped: Sequence[Skipped] = ()
    notes: Sequence[str] = ()


def is_table(name: str) -> bool:
    """Whether a file is a table by its name."""
    return suffix(name) in ENDINGS


def read(content: Content, name: str) -> Table:
    """The table in a file called ``name``.

    Raises:
        DataError: it is damaged, or has no rows.
        UsageError: it needs pyarrow, which is not installed.
    """
    ending = suffix(name)
    if ending == ".parquet":
        from finetuning.data import arrow

        table = arrow.read_parquet(content, name)
    else:
        text, encoding = texts.decode(read_bytes(content), name)
        table = _jsonl(text, name) if ending in {".jsonl", ".ndjson"} else _csv(text, name)
        if encoding not in {"utf-8", "utf-8-sig"}:
            said = f"{name} is not UTF-8 and was read as {encoding}"
            table = Table(**{**vars(table), "notes": (*table.notes, said)})
    if not table.rows:
        raise DataError(f"the table {name} has no rows")
    return table


def joined(tables: Sequence[Table]) -> Table:
    """Tables of the same columns under one another.

    Raises:
        DataError: their columns differ.
    """
    first = tables[0]
    for table in tables[1:]:
        if [*table.columns, *table.blobs] != [*first.columns, *first.blobs]:
            raise DataError(
                f"{first.label} and {table.label} have different columns",
                hint="name one of them, or give them the same columns",
            )
    return Table(
        first.label,
        [row for table in tables for row in table.rows],
        {name: [v for t in tables for v in t.columns[name]] for name in first.columns},
        {name: [v for t in tables for v in t.blobs[name]] for name in first.blobs},
        first.classes,
        [item for table in tables for item in table.skipped],
        list(dict.fromkeys(note for table in tables for note in table.notes)),
    )


def _csv(text: str, name: str) -> Table:
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, name))
    limit = csv.field_size_limit(_FIELD_BYTES)
    try:
        records = [record for record in lines if any(cell.strip() for cell in record)]
    except csv.Error as error:
        raise DataError(
            f"{name} is damaged in line {lines.line_num}: {error}", hint="is a quote missing?"
        ) from error
    finally:
        csv.field_size_limit(limit)
    if not records:
        raise DataError(f"the table {name} is empty")
    header, notes = [cell.strip() for cell in records[0]], []
    if _is_data(header):
        notes.append(f"{name} has no header: its columns are called 1, 2, ...")
        records.insert(0, header)
        header = [str(n) for n in range(1, len(header) + 1)]
    if len(set(header)) < len(header):
        raise DataError(f"{name} has two columns of one name: {', '.join(header)}")
    rows, skipped = [], []
    for n, record in enumerate(records[1:], 1):
        if len(record) == len(header):
            rows.append((f"{name}:{n}", record))
        else:
            said = f"has {len(record)} fields and not {len(header)}"
            skipped.append(Skipped(f"{name}:{n}", said))
    columns = {key: [record[i] for _, record in rows] for i, key in enumerate(header)}
    return Table(name, [row for row, _ in rows], columns, skipped=skipped, notes=notes)


def _delimiter(text: str, name: str) -> str:
    if suffix(name) in {".tsv", ".tab"}:
        return "\t"
    first = text.split("\n", 1)[0]
    return max(",;\t|", key=lambda mark: (first.count(mark), mark == ","))


def _is_data(header: Sequence[str]) -> bool:
    """Whether the first line of a table is a row: it holds the name of an image, or a number."""
    from converters.images import SUFFIXES

    return any(suffix(cell) in SUFFIXES for cell in header) or all(
        cell.replace(".", "", 1).isdigit() for cell in header
    )


def _jsonl(text: str, name: str) -> Table:
    rows: list[tuple[str, dict[str, object]]] = []
    skipped = []
    # Not by splitlines(), for which U+2028 inside a string ends a line.
    for n, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            rows.append((f"{name}:{n}", value))
        else:
            skipped.append(Skipped(f"{name}:{n}", "is no JSON object"))
    if len(skipped) > len(rows):
        raise DataError(
            f"most lines of {name} are no JSON objects", hint="one object a line is expected"
        )
    keys = dict.fromkeys(key for _, row in rows for key in row)
    columns = {key: [row.get(key) for _, row in rows] for key in keys}
    return Table(name, [row for row, _ in rows], columns, skipped=skipped)
