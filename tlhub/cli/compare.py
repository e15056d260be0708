"""`tlhub compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.errors import UsageError
from tlhub.cli import card, options, output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.record import ModelRecord
    from finetuning.runs import Run

_NOT_COMPARED = {"uid", "provenance"}
_NARROWEST = 18  # columns of the terminal that a model needs
_NAME = 22  # columns for the names of the lines, at most
_MARK = "*"

Row = tuple[str, list[str], bool]  # name, a value for each, and whether they differ


def compare(models: options.Compared, *, json: options.Json = False) -> None:
    """Show models, or runs, side by side; lines that differ are bold and marked with a star."""
    from tlhub import api

    if len(models) < 2:
        raise UsageError("there is nothing to compare one model with", hint="name two or more uids")
    found = [_run_at(model) for model in models]
    runs = [run for run in found if run is not None]
    if len(runs) == len(models):
        _compare_runs(runs, json=json)
        return
    catalog = api.open_catalog()
    records = [
        catalog.get(model) if run is None else run.folder.manifest.record
        for model, run in zip(models, found, strict=True)
    ]
    if json:
        import msgspec

        shown = [msgspec.to_builtins(record) for record in records]
        output.emit({"models": shown, "differences": _differences(records)})
        return
    rows = list(_rows(records))
    _print([record.uid for record in records], rows, "uid")
    for number, record in enumerate(records):
        if record in records[:number]:
            output.note(f"{models[number]} is {record.uid}: the same weights")


def _run_at(model: str) -> Run | None:
    """The run that ``model`` names, where it is the folder of one."""
    from tlhub.user_paths import here

    path = here(model)
    if path is None or here(path / "tlhub.json") is None:
        return None
    from converters.folder import ModelFolder
    from finetuning.runs import Run

    folder = ModelFolder.open(path)
    return Run(folder) if folder.manifest.kind == "run" else None


def _compare_runs(runs: Sequence[Run], *, json: bool) -> None:
    """Runs side by side, and how much better each is than the first."""
    from finetuning.runs import difference
    from tlhub.cli import run_facts

    over = [difference(run, runs[0]) for run in runs[1:]]
    rows = run_facts.rows(runs)
    if json:
        import msgspec

        output.emit(
            {
                "runs": [run_facts.document(run) for run in runs],
                "differences": [name for name, _, differ in rows if differ],
                "over_first": msgspec.to_builtins(over),
            }
        )
        return
    _print([str(run.path) for run in runs], rows, "run")
    for run, found in zip(runs[1:], over, strict=True):
        if found is not None:
            output.line(run_facts.said(run, runs[0], found))


def _differences(records: Sequence[ModelRecord]) -> list[str]:
    """The fields in which they differ; the uid and who said it are not compared."""
    return [
        field
        for field in records[0].__struct_fields__
        if field not in _NOT_COMPARED
        and any(getattr(record, field) != getattr(records[0], field) for record in records)
    ]


def _rows(records: Sequence[ModelRecord]) -> Iterator[Row]:
    """Name, a value for each model (a dash where unknown) and whether they differ."""
    facts = [card.facts(record) for record in records]
    for name in dict.fromkeys(name for known in facts for name in known):
        values = [known.get(name, "-") for known in facts]
        yield name, values, len(set(values)) > 1


def _print(names: Sequence[str], rows: Sequence[Row], what: str) -> None:
    if output.console().width >= _NAME + _NARROWEST * len(names):
        _print_beside(names, rows, what)
    else:
        _print_below(names, rows)


def _print_beside(names: Sequence[str], rows: Sequence[Row], what: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    longest = max(len(name) for name, *_ in rows)
    table.add_column(what, overflow="fold", width=min(longest, _NAME))
    for name in names:
        table.add_column(Text(output.shown(name)), overflow="fold")
    for name, values, differ in rows:
        style = "bold" if differ else ""
        cells = [_MARK if differ else "", name, *values]
        table.add_row(*(Text(cell, style=style) for cell in cells))
    output.show(table)


def _print_below(names: Sequence[str], rows: Sequence[Row]) -> None:
    """One model below the other, by number: for a narrow terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for number, name in enumerate(names, 1):
        table.add_row(str(number), Text(output.shown(name)))
    for name, values, differ in rows:
        table.add_row(_MARK if differ else "", Text(name, style="bold" if differ else ""))
        if not differ:
            table.add_row("", Text(values[0]))
            continue
        for number, value in enumerate(values, 1):
            table.add_row(str(number), Text(value))
    output.show(table)
