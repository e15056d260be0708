"""`tlhub compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.errors import UsageError
from tlhub.cli import card, options, output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.record import ModelRecord

_NOT_COMPARED = {"uid", "provenance"}
_NARROWEST = 18  # columns of the terminal that a model needs
_NAME = 22  # columns for the names of the lines, at most
_MARK = "*"


def compare(models: options.Uids, *, json: options.Json = False) -> None:
    """Show models side by side; lines that differ are bold and marked with a star."""
    from tlhub import api

    if len(models) < 2:
        raise UsageError("there is nothing to compare one model with", hint="name two or more uids")
    catalog = api.open_catalog()
    records = [catalog.get(uid) for uid in models]
    if json:
        import msgspec

        shown = [msgspec.to_builtins(record) for record in records]
        output.emit({"models": shown, "differences": _differences(records)})
        return
    rows = list(_rows(records))
    if output.console().width >= _NAME + _NARROWEST * len(records):
        _print_beside(records, rows)
    else:
        _print_below(records, rows)
    for number, record in enumerate(records):
        if record in records[:number]:
            output.note(f"{models[number]} is {record.uid}: the same weights")


def _differences(records: Sequence[ModelRecord]) -> list[str]:
    """The fields in which they differ; the uid and who said it are not compared."""
    return [
        field
        for field in records[0].__struct_fields__
        if field not in _NOT_COMPARED
        and any(getattr(record, field) != getattr(records[0], field) for record in records)
    ]


def _rows(records: Sequence[ModelRecord]) -> Iterator[tuple[str, list[str], bool]]:
    """Name, a value for each model (a dash where unknown) and whether they differ."""
    facts = [card.facts(record) for record in records]
    for name in dict.fromkeys(name for known in facts for name in known):
        values = [known.get(name, "-") for known in facts]
        yield name, values, len(set(values)) > 1


def _print_beside(
    records: Sequence[ModelRecord], rows: Sequence[tuple[str, list[str], bool]]
) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    longest = max(len(name) for name, *_ in rows)
    table.add_column("uid", overflow="fold", width=min(longest, _NAME))
    for record in records:
        table.add_column(Text(record.uid), overflow="fold")
    for name, values, differ in rows:
        style = "bold" if differ else ""
        cells = [_MARK if differ else "", name, *values]
        table.add_row(*(Text(cell, style=style) for cell in cells))
    output.show(table)


def _print_below(
    records: Sequence[ModelRecord], rows: Sequence[tuple[str, list[str], bool]]
) -> None:
    """One model below the other, by number: for a narrow terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for number, record in enumerate(records, 1):
        table.add_row(str(number), Text(record.uid))
    for name, values, differ in rows:
        table.add_row(_MARK if differ else "", Text(name, style="bold" if differ else ""))
        if not differ:
            table.add_row("", Text(values[0]))
            continue
        for number, value in enumerate(values, 1):
            table.add_row(str(number), Text(value))
    output.show(table)
