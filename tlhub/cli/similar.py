"""`tlhub similar`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tlhub.cli import options, output
from tlhub.cli.figures import count

if TYPE_CHECKING:
    from catalog.similar import Similar


def similar(
    model: options.Uid,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many.")] = 10,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """List models one could use instead, the nearest first, with the reasons."""
    from catalog.similar import similar as find
    from catalog.table import row
    from tlhub import api

    catalog = api.open_catalog()
    record = catalog.get(model)
    found = find(record, catalog.records(), limit)
    if json:
        items = [{**row(s.record), "score": s.score, "reasons": s.reasons} for s in found]
        output.emit({"uid": record.uid, "items": items})
    elif quiet:
        for item in found:
            output.line(item.record.uid)
    elif found:
        _print(found)
    if not found:
        output.note(f"no other model does what {record.uid} does (task: {record.task})")


def _print(found: tuple[Similar, ...]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("score", justify="right")
    table.add_column("uid", overflow="fold", ratio=2)
    table.add_column("params", justify="right", no_wrap=True)
    table.add_column("why", ratio=3)
    for item in found:
        reasons = "; ".join(item.reasons)
        table.add_row(str(item.score), item.record.uid, count(item.record.params), reasons)
    output.show(table)
