"""`tlhub evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from finetuning.evaluate import Measured
    from finetuning.scores import Measure, Scores

_MATRIX = 12  # classes; beyond, what is taken for what is a list
_PAIRS = 10


def evaluate(
    model: options.Model,
    *,
    data: Annotated[
        Path,
        typer.Option("--data", help="Labelled images or texts, of any form that finetune reads."),
    ],
    split: Annotated[
        str,
        typer.Option(
            "--split",
            help="`test`, `all`, or a split that was written, or a run's folder; `auto` is the "
            "data's own test part, or what the model did not learn from.",
        ),
    ] = "auto",
    image_column: options.ImageColumn = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumns = None,
    group_column: options.GroupColumn = None,
    kind: options.Kind = None,
    device: options.Device = "auto",
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    json: options.Json = False,
) -> None:
    """Measure a model on labelled images or texts, as the report of a run does."""
    from finetuning.data.options import Options
    from tlhub.evaluating import evaluate as measure
    from tlhub.settings import Settings

    labels = tuple(label_column or ())
    with output.progress(progress) as report:
        found = measure(
            model,
            data,
            options=Options(image_column, text_column, labels, group_column, kind),
            split=split,
            device=device,
            settings=Settings.load(offline=offline or None),
            progress=report,
        )
    if json:
        import msgspec

        facts = {"model": model, "data": str(data), "on": found.said}
        counts = {"examples": found.examples, "learned_from": found.learned_from}
        output.emit({**facts, **counts, **msgspec.to_builtins(found.scores)})
    else:
        _print(found)
    if found.learned_from and not json:
        output.note(
            f"the model learned from {found.learned_from:,} of these {found.modality}s: this is "
            "not how it does on new ones"
        )


def _print(found: Measured) -> None:
    from rich.table import Table

    from finetuning.scores import TITLES

    output.line(f"{found.examples:,} {found.modality}s: {found.said}")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    for name, measure in found.scores.measures.items():
        table.add_row(output.shown(TITLES.get(name, name)), *_figures(measure))
    output.show(table)
    if found.scores.classes:
        output.line()
        _print_classes(found)
        _print_confusion(found.scores)
    if found.skipped:
        output.note(f"{len(found.skipped):,} left out; `tlhub data check` says which and why")


def _figures(measure: Measure) -> tuple[str, str]:
    def shown(value: float) -> str:
        return f"{value:.1%}" if measure.is_share else f"{value:.3f}"

    if measure.interval is None:
        return shown(measure.value), ""
    low, high = measure.interval
    return shown(measure.value), f"95 % interval {shown(low)} to {shown(high)}"


def _print_classes(found: Measured) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class", overflow="fold")
    for name in (f"{found.modality}s", "found", "right when said"):
        table.add_column(name, justify="right")
    for item in found.scores.classes:
        if item.n_test or item.precision is not None:
            rates = (
                "-" if rate is None else f"{rate:.1%}" for rate in (item.recall, item.precision)
            )
            table.add_row(Text(output.shown(item.label)), f"{item.n_test:,}", *rates)
    output.show(table)


def _print_confusion(found: Scores) -> None:
    """A row for each true class; of many classes what is most often taken for what."""
    from rich.table import Table
    from rich.text import Text

    from finetuning.scores import confusions

    labels = [output.shown(item.label) for item in found.classes]
    pairs = confusions(found.classes, found.confusion)
    if not pairs:
        return
    output.line()
    if len(labels) > _MATRIX:
        for label, said, count in pairs[:_PAIRS]:
            output.line(f"{output.shown(label)} taken for {output.shown(said)}: {count:,}")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("is \\ said", overflow="fold")
    for n in range(len(labels)):
        table.add_column(str(n + 1), justify="right")
    for n, (label, counts) in enumerate(zip(labels, found.confusion, strict=True), 1):
        table.add_row(Text(f"{n} {label}"), *(str(count or ".") for count in counts))
    output.show(table)
