"""`tlhub catalog`: sync, add, remove, build, stats and plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

app = typer.Typer(
    help="Add your own models to the catalog, build it, measure or plot what it knows.",
    no_args_is_help=True,
)


@app.command()
def sync(
    *,
    hub: Annotated[
        str,
        typer.Option("--from", metavar="HUB", help="hf, or https://host of another hub."),
    ],
    task: Annotated[str | None, typer.Option("--task", help="Only models of this task.")] = None,
    author: Annotated[
        str | None, typer.Option("--author", help="Only models of this user or organization.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only those that changed last, so many.")
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="HF_ENDPOINT is a mirror of huggingface.co.")
    ] = False,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    json: options.Json = False,
) -> None:
    """Put the models of a Hugging Face hub in your catalog: what changed since the last time."""
    from dataclasses import asdict

    from tlhub import syncing
    from tlhub.settings import Settings

    with output.progress(progress) as report:
        found = syncing.sync(
            hub,
            task=task,
            author=author,
            limit=limit,
            mirror=mirror,
            settings=Settings.load(offline=offline or None),
            progress=report,
        )
    if json:
        output.emit(asdict(found))
        return
    output.line(
        f"{found.new:,} new, {found.changed:,} changed, {found.unchanged:,} as before"
        f" of {found.read:,} models read from {found.hub}"
    )
    if found.known:
        output.note(f"{found.known:,} ship with tlhub already")
    if found.skipped:
        output.note(f"{found.skipped:,} make no sense and were left out")


@app.command()
def add(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="A model folder, a model card or its folder, JSON records, a URL, hf:owner/name.",
        ),
    ],
    *,
    uid: Annotated[
        str | None, typer.Option("--uid", help="What to call the one model there is.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also in the place of one that ships with tlhub.")
    ] = False,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Add your own models to your catalog: all of them, or none where one does not validate."""
    from dataclasses import asdict

    from tlhub import adding
    from tlhub.settings import Settings

    with output.progress(progress, quiet=quiet) as report:
        added = adding.add(
            *sources,
            uid=uid,
            force=force,
            settings=Settings.load(offline=offline or None),
            progress=report,
        )
    if json:
        output.emit(asdict(added))
        return
    for name in added.uids:
        output.line(name)
    if not quiet:
        output.note(f"{added.new:,} new, {added.changed:,} changed, {added.unchanged:,} as before")


@app.command()
def remove(
    uids: Annotated[
        list[str], typer.Argument(metavar="UID...", help="Uids that were added or synced.")
    ],
    *,
    json: options.Json = False,
) -> None:
    """Take models out of your catalog; what ships with tlhub stays."""
    from tlhub import adding

    adding.remove(*uids)
    if json:
        output.emit({"removed": uids})


@app.command()
def build(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The snapshot to write.")],
    *,
    inputs: Annotated[
        Path | None,
        typer.Option("--from", help="A folder with inputs that are here already."),
    ] = None,
    counts: Annotated[
        Path | None,
        typer.Option("--counts", help="Keeps counted parameters and MACs between builds."),
    ] = None,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    json: options.Json = False,
) -> None:
    """Harvest the listed packages and files again: the same inputs give the same bytes."""
    from tlhub import harvest
    from tlhub.settings import Settings

    settings = Settings.load(offline=offline or None)
    with output.progress(progress) as report:
        total = harvest.build(out, inputs, counts=counts, settings=settings, progress=report)
    if json:
        output.emit({"path": str(out), "records": total})
    else:
        output.line(f"{total:,} records")
        output.line(str(out))


@app.command()
def stats(
    *,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The page docs/reference/coverage.md.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Count, by source and overall, how many records know each thing."""
    from catalog import coverage, snapshot

    found = coverage.measure(snapshot.read())
    if json:
        output.emit(found)
    elif markdown:
        output.line(coverage.as_page(found).rstrip())
    else:
        output.line(coverage.as_markdown(found))


@app.command()
def plot(
    *,
    out: Annotated[Path, typer.Option("--out", help="The SVG file to write.")],
    x: Annotated[
        str, typer.Option("--x", help="params, gmacs, size or a metric of the data set.")
    ] = "params",
    y: Annotated[
        str, typer.Option("--y", help="params, gmacs, size or a metric of the data set.")
    ] = "top1",
    dataset: Annotated[
        str, typer.Option("--dataset", help="The data set of the metrics.")
    ] = "imagenet-1k",
    task: Annotated[str | None, typer.Option("--task", help="Only models of this task.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Only models that it publishes.")
    ] = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Plot one figure against another, with the models that no other beats in both."""
    from catalog import plot as plots
    from catalog.scatter import scatter
    from tlhub import api

    records = (
        record
        for record in api.catalog()
        if task in (None, record.task)
        and (source is None or any(u.startswith(f"{source}/") for u in (record.uid, *record.also)))
    )
    found = scatter(records, x, y, dataset)
    plots.save(plots.draw(found), out)
    if json:
        front = [{"uid": p.record.uid, "x": p.x, "y": p.y} for p in found.front]
        output.emit({"path": str(out), "models": len(found.points), "front": front})
        return
    if not quiet:
        if found.otherwise:
            output.note(f"{found.otherwise:,} models measured in another way are left out")
        for point in found.front:
            output.line(point.record.uid)
    output.line(str(out))
