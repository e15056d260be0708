"""`tlhub data`: check and split."""

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

app = typer.Typer(
    help="Check labelled data and split them, before anything is learned.", no_args_is_help=True
)

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Class folders, a table, an archive, shards, or a saved data set.",
    ),
]


@app.command()
def check(
    data: Data,
    *,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Compare sizes with its input: a uid or a model folder."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit code 1 if something needs a look.")
    ] = False,
    image_column: options.ImageColumn = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumns = None,
    group_column: options.GroupColumn = None,
    kind: options.Kind = None,
    split: options.SplitFile = None,
    progress: options.ShowProgress = ProgressMode.auto,
    json: options.Json = False,
) -> None:
    """Find what is wrong with labelled images or texts, and say what is done about it."""
    from finetuning.data.options import Options
    from tlhub import checking

    labels = tuple(label_column or ())
    chosen = Options(image_column, text_column, labels, group_column, kind, split)
    with output.progress(progress) as report:
        found = checking.check_data(data, model=model, options=chosen, progress=report)
    if json:
        output.emit({**_summary(found), "findings": [vars(item) for item in found.items]})
    else:
        _print(found)
    if strict and found.serious:
        raise typer.Exit(1)


@app.command()
def split(
    data: Data,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The CSV to write: name, part, sha256.")],
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of the draw.")] = 0,
    test_fraction: Annotated[
        float, typer.Option("--test-fraction", help="Share held out, if DATA do not say.")
    ] = 0.25,
    image_column: options.ImageColumn = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumns = None,
    group_column: options.GroupColumn = None,
    kind: options.Kind = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    progress: options.ShowProgress = ProgressMode.auto,
    json: options.Json = False,
) -> None:
    """Draw who is held out, of each class alike and what belongs together on one side."""
    from catalog.errors import UsageError
    from finetuning.data import splits
    from finetuning.data.options import Options
    from tlhub import checking

    if out.exists() and not force:
        raise UsageError(f"{out} exists already", hint="choose another place, or --force")
    labels = tuple(label_column or ())
    chosen = Options(image_column, text_column, labels, group_column, kind)
    with output.progress(progress) as report:
        cleaned = checking.check_data(data, options=chosen, progress=report).cleaned()
    sides = splits.split(cleaned, seed=seed, test_fraction=test_fraction)
    splits.write(out, cleaned, sides)
    if json:
        value = {"path": str(out), "train": len(sides.train), "test": len(sides.test)}
        output.emit({**value, "given": sides.given, "skipped": len(cleaned.skipped)})
        return
    said = "as the data say" if sides.given else f"seed {seed}"
    output.line(f"{len(sides.train):,} to learn from, {len(sides.test):,} held out, {said}")
    output.line(str(out))


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
    counts = sizes.values()
    of = f", {len(sizes):,} classes of {min(counts):,} to {max(counts):,}" if sizes else ""
    rate = len(data.examples) / max(found.seconds, 1e-3)
    output.line(
        f"{data.kind} of {len(data.examples):,} {data.modality}s{of}; "
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
