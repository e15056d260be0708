"""`tlhub show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlhub.cli import card, options, output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.record import ModelRecord
    from tlhub.benching import Measured


def show(model: options.Model, *, quiet: options.Quiet = False, json: options.Json = False) -> None:
    """Show all that is known about one model, who said it, and how to use it."""
    from tlhub import api

    record = api.record(model)
    measured = _measured(record.uid)
    if json:
        import msgspec

        timed = {"measured": msgspec.to_builtins(measured)} if measured else {}
        output.emit({**msgspec.to_builtins(record), **timed})
    elif quiet:
        output.line(record.uid)
    else:
        _print(record, measured)


def _measured(uid: str) -> Sequence[Measured]:
    """What `tlhub bench` found here; who never ran it waits for nothing."""
    from tlhub.settings import Settings

    settings = Settings.load()
    if not settings.measured.is_dir():
        return ()
    from tlhub import benching

    return benching.measured(uid, settings)


def _print(record: ModelRecord, measured: Sequence[Measured]) -> None:
    from rich.table import Table
    from rich.text import Text

    from tlhub import snippets

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in card.lines(record):
        table.add_row(name, Text(value))
    for item in measured:
        for number, t in enumerate(item.timings):
            said = (
                f"{t['engine']}, batch {t['batch']}, {t['threads']} threads: "
                f"{t['median_ms']:.3g} ms, {t['per_second']:.4g} a second"
            )
            where = "" if number else f" ({item.machine}, {item.date[:10]})"
            table.add_row("" if number else "measured here", Text(f"{said}{where}"))
    output.show(table)
    for snippet in snippets.of(record):
        output.line()
        output.line(f"# {snippet.title}")
        output.line(snippet.code)
