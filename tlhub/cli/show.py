"""`tlhub show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlhub.cli import card, options, output

if TYPE_CHECKING:
    from catalog.record import ModelRecord


def show(model: options.Model, *, quiet: options.Quiet = False, json: options.Json = False) -> None:
    """Show all that is known about one model, who said it, and how to use it."""
    from tlhub import api

    record = api.record(model)
    if json:
        import msgspec

        output.emit(msgspec.to_builtins(record))
    elif quiet:
        output.line(record.uid)
    else:
        _print(record)


def _print(record: ModelRecord) -> None:
    from rich.table import Table
    from rich.text import Text

    from tlhub import snippets

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in card.lines(record):
        table.add_row(name, Text(value))
    output.show(table)
    for snippet in snippets.of(record):
        output.line()
        output.line(f"# {snippet.title}")
        output.line(snippet.code)
