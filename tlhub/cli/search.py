"""`tlhub search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from catalog.errors import UsageError
from tlhub.cli import options, output
from tlhub.cli.figures import count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from catalog.query import Metrics
    from catalog.search import SearchResult

# What `--json` and `--csv` say of every result, and what more `--columns` can ask for, beside any
# metric.
COLUMNS = (
    *("uid", "task", "framework", "architecture", "input_size", "params", "gmacs", "top1"),
    *("license", "size_bytes"),
)
FURTHER = (
    *("source", "modality", "family", "description", "tags", "languages", "num_classes"),
    *("embed_dim", "also", "hf_hub_id", "origin_url", "paper_ids", "base_model"),
)


def search(
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="Words, and conditions such as params:<10M."),
    ] = None,
    *,
    task: Annotated[
        str | None, typer.Option("--task", help="A task as the Hugging Face hub names it.")
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="image, text, audio, ...")
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="A language it knows: de, german, ...")
    ] = None,
    params: Annotated[
        str | None, typer.Option("--params", help="Parameters: '<10M', '5M..10M', ...")
    ] = None,
    gmacs: Annotated[
        str | None, typer.Option("--gmacs", help="1e9 multiply-accumulates: '<1', ...")
    ] = None,
    top1: Annotated[
        str | None, typer.Option("--top1", help="ImageNet-1k top-1 in percent: '>80', ...")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="Bytes to download: '<50M', ...")
    ] = None,
    input_size: Annotated[
        str | None, typer.Option("--input-size", help="Height of the images: 224, '<=256', ...")
    ] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="An SPDX identifier: apache-2.0, ...")
    ] = None,
    commercial: Annotated[
        str | None, typer.Option("--commercial", help="Commercial use: yes, no or unknown.")
    ] = None,
    framework: Annotated[
        str | None, typer.Option("--framework", help="What loads it: timm, torchvision, ...")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Who publishes it: the first part of a uid.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="A data set it was trained on.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option("--sort", help="top1, params, gmacs, size, input_size, name or any metric."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = 20,
    offset: Annotated[int, typer.Option("--offset", min=0, max=10_000)] = 0,
    facets: Annotated[
        bool, typer.Option("--facets", help="Count what was found instead of listing it.")
    ] = False,
    columns: Annotated[
        str | None, typer.Option("--columns", help="What to list: uid,params,mean_iou@ade20k,...")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Search the catalog that ships with tlhub; it needs no network."""
    from tlhub import api

    if json and csv:
        raise UsageError("--json and --csv are two forms of one answer", hint="keep one of them")
    catalog = api.open_catalog()
    result = catalog.search(
        " ".join(text or ()),
        task=task,
        modality=modality,
        language=language,
        params=params,
        gmacs=gmacs,
        top1=top1,
        size=size,
        input_size=input_size,
        license=license_,
        commercial=commercial,
        framework=framework,
        source=source,
        dataset=dataset,
        sort=sort,
        limit=0 if facets else limit,
        offset=offset,
    )
    if facets:
        _answer_facets(result, as_csv=csv, as_json=json)
    else:
        names = _names(columns, catalog.metrics) if columns else None
        _answer(result, names, as_csv=csv, as_json=json, quiet=quiet)
    if result.ignored:
        output.note(f"found nowhere and left out: {', '.join(result.ignored)}")
    for said in result.notes:
        output.note(said)
    if not (result.total if facets else result.items):
        output.note("no model matches; fewer words or wider limits find more")
    elif not (facets or csv or json or quiet):
        output.note(f"{offset + 1}-{offset + len(result.items)} of {result.total:,}")


def _answer(
    result: SearchResult, names: list[str] | None, *, as_csv: bool, as_json: bool, quiet: bool
) -> None:
    if as_json:
        items = _rows(result, names) if names else result.rows()
        output.emit({"total": result.total, "items": items, "facets": result.facets})
    elif as_csv:
        header = names or list(COLUMNS)
        output.line(_csv(header, [row.values() for row in _rows(result, header)]))
    elif quiet:
        for record in result.items:
            output.line(record.uid)
    elif names:
        _print_columns(names, _rows(result, names))
    else:
        _print(result)


def _names(columns: str, metrics: Metrics) -> list[str]:
    """The columns asked for."""
    names = [name.strip().lower() for name in columns.split(",")]
    for name in names:
        if name not in COLUMNS and name not in FURTHER and name not in metrics:
            plain = [metric for metric in metrics if "@" not in metric]
            from catalog.query import unknown

            raise unknown("column", name, [*COLUMNS, *FURTHER, *plain])
    return names


def _rows(result: SearchResult, names: list[str]) -> list[dict[str, Any]]:
    """These columns of every record; unknown figures are None."""
    from catalog.document import figures

    found = []
    for record, plain in zip(result.items, result.rows(), strict=True):
        known = {**figures(record), **{name: getattr(record, name) for name in FURTHER}, **plain}
        found.append({name: known.get(name) for name in names})
    return found


def _csv(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_text(value) for value in row] for row in rows)
    return text.getvalue().removesuffix("\n")


def _text(value: object) -> str:
    """A value in one cell: `3x224x224`, `en;de`, nothing where it is unknown."""
    if isinstance(value, tuple):
        separator = "x" if all(isinstance(part, int) for part in value) else ";"
        return separator.join(map(str, value))
    return "" if value is None else str(value)


def _answer_facets(result: SearchResult, *, as_csv: bool, as_json: bool) -> None:
    if as_json:
        output.emit({"total": result.total, "facets": result.facets})
        return
    rows = [
        (facet, value, number)
        for facet, counts in result.facets.items()
        for value, number in counts.items()
    ]
    if as_csv:
        output.line(_csv(("facet", "value", "count"), rows))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("facet")
    table.add_column("value", no_wrap=True)
    table.add_column("count", justify="right")
    for facet, value, number in rows:
        table.add_row(facet, value, f"{number:,}")
    if rows:
        output.show(table)


def _print_columns(names: list[str], rows: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=name == "uid", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_text(row[name])) for name in names))
    if rows:
        output.show(table)


_NARROW = 110  # columns; below, the table does without the task


def _print(result: SearchResult) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    narrow = output.console().width < _NARROW
    table.add_column("uid", overflow="fold", no_wrap=not narrow)
    if not narrow:
        table.add_column("task", no_wrap=True)
    table.add_column("input", no_wrap=True)
    table.add_column("params", justify="right", no_wrap=True)
    table.add_column("GMACs", justify="right", no_wrap=True)
    table.add_column("top-1 %\nImageNet-1k", justify="right", no_wrap=True)
    table.add_column("license", overflow="fold")
    for record in result.items:
        cells = [
            record.uid,
            record.task or "",
            "x".join(map(str, (record.input_size or ())[-2:])),
            count(record.params),
            "" if record.gmacs is None else f"{record.gmacs:.3g}",
            "" if record.top1 is None else f"{record.top1:.1f}",
            (record.license.spdx or "") if record.license else "",
        ]
        if narrow:
            del cells[1]
        table.add_row(*cells)
    if result.items:
        output.show(table)
