"""`tlhub data`: check."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from finetuning.data.dataset import Dataset
    from finetuning.data.findings import Findings

app = typer.Typer(help="Look at labelled data before anything is learned.", no_args_is_help=True)

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Class folders, a table, an archive, shards, or a saved data set.",
    ),
]


@app.callback()
def _group() -> None:
    """Look at labelled data before anything is learned."""


@app.command()
def check(
    data: Data,
    *,
    model: Annotated[
        str | None, typer.Option("--model", help="Compare sizes with this model's input.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit code 1 if something needs a look.")
    ] = False,
    image_column: options.ImageColumn = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumns = None,
    group_column: options.GroupColumn = None,
    kind: options.Kind = None,
    progress: options.ShowProgress = ProgressMode.auto,
    json: options.Json = False,
) -> None:
    """Find what is wrong with labelled images or texts, and say what is done about it."""
    from finetuning.data.options import Options
    from tlhub import checking

    chosen = Options(image_column, text_column, tuple(label_column or ()), group_column, kind)
    with output.progress(progress) as report:
        found = checking.check_data(data, model=model, options=chosen, progress=report)
    if json:
        output.emit({**_summary(found), "findings": [vars(item) for item in found.items]})
    else:
        _print(found)
    if strict and found.serious:
        raise typer.Exit(1)


def _summary(found: Findings) -> dict[str, object]:
    return {
        "kind": found.data.kind,
        "modality": found.data.modality,
        "examples": len(found.data.examples),
        "classes": _sizes(found.data),
        "left_out": len(found.data.skipped) + len(found.unreadable) + len(found.leaked),
        "serious": found.serious,
        "seconds": round(found.seconds, 3),
    }


def _sizes(data: Dataset) -> dict[str, int]:
    """The examples of each class."""
    from finetuning.data.dataset import classes_of

    counts = Counter(n for example in data.examples for n in classes_of(example.target))
    return {name: counts[n] for n, name in enumerate(data.classes)}


def _print(found: Findings) -> None:
    from rich.markup import escape
    from rich.table import Table

    sizes = _sizes(found.data)
    data = found.data
    of = f", {len(sizes):,} classes of {min(sizes.values()):,} to {max(sizes.values()):,}"
    rate = len(data.examples) / max(found.seconds, 1e-3)
    output.line(
        f"{data.kind} of {len(data.examples):,} {data.modality}s{of if sizes else ''}; "
        f"looked at in {found.seconds:.1f} s ({rate:,.0f}/s)"
    )
    if not found.items:
        output.line("nothing odd was found")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("found")
    table.add_column("how many", justify="right")
    table.add_column("for example", overflow="fold")
    table.add_column("what is done")
    for item in found.items:
        example = output.shown(item.names[0]) if item.names else ""
        table.add_row(
            "!" if item.serious else "",
            escape(output.shown(item.text)),
            "" if item.code == "guessed" else f"{item.count:,}",
            escape(example),
            escape(item.action),
        )
    output.show(table)
    if found.serious:
        output.note("! needs a look; --strict makes it an error")
