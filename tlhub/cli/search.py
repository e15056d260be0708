"""`tlhub search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlhub.cli import options, output
from tlhub.cli.figures import count

if TYPE_CHECKING:
    from catalog.record import ModelRecord
    from catalog.search import SearchResult


def search(
    text: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Words to look for.")
    ] = None,
    *,
    task: Annotated[
        str | None, typer.Option("--task", help="A task as the Hugging Face hub names it.")
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="image, text, audio, ...")
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
        str | None, typer.Option("--sort", help="top1, params, gmacs, size or name.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = 20,
    offset: Annotated[int, typer.Option("--offset", min=0, max=10_000)] = 0,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Search the catalog that ships with tlhub; it needs no network."""
    from tlhub import api

    result = api.search(
        " ".join(text or ()),
        task=task,
        modality=modality,
        params=params,
        gmacs=gmacs,
        top1=top1,
        size=size,
        input_size=input_size,
        license=license_,
        framework=framework,
        source=source,
        dataset=dataset,
        sort=sort,
        limit=limit,
        offset=offset,
    )
    if json:
        output.emit(
            {
                "total": result.total,
                "items": [row(record) for record in result.items],
                "facets": result.facets,
            }
        )
    elif quiet:
        for record in result.items:
            output.line(record.uid)
    else:
        _print(result, offset)
    if not result.items:
        output.note("no model matches; fewer words or wider limits find more")


def row(record: ModelRecord) -> dict[str, Any]:
    """What a search result says of a record; unknown figures are None."""
    return {
        "uid": record.uid,
        "task": record.task,
        "framework": record.framework,
        "architecture": record.architecture,
        "input_size": record.input_size,
        "params": record.params,
        "gmacs": record.gmacs,
        "top1": record.top1,
        "license": record.license.spdx if record.license else None,
        "size_bytes": record.size_bytes,
    }


def _print(result: SearchResult, offset: int) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("uid", no_wrap=True)
    table.add_column("task", overflow="fold")
    table.add_column("input")
    table.add_column("params", justify="right")
    table.add_column("GMACs", justify="right")
    table.add_column("top-1 %\nImageNet-1k", justify="right")
    table.add_column("license", overflow="fold")
    for record in result.items:
        table.add_row(
            record.uid,
            record.task or "",
            "x".join(map(str, (record.input_size or ())[-2:])),
            count(record.params),
            "" if record.gmacs is None else f"{record.gmacs:.3g}",
            "" if record.top1 is None else f"{record.top1:.1f}",
            (record.license.spdx or "") if record.license else "",
        )
    if result.items:
        output.show(table)
    last = offset + len(result.items)
    output.note(f"{offset + 1}-{last} of {result.total:,}" if result.items else "0 models")
