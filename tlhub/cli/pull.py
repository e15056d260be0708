"""`tlhub pull`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from tlhub.cli.pulled import Result
    from tlhub.progress import Event, Progress


def pull(
    models: options.AnyModels = None,
    *,
    format: Annotated[  # noqa: A002 -- as the option is called
        Literal["onnx", "original"],
        typer.Option("--format", help="onnx converts; original keeps the files as they are."),
    ] = "onnx",
    include: Annotated[
        list[str] | None,
        typer.Option("--include", help="Only files that match this pattern; may be repeated."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", help="No files that match this pattern; may be repeated."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="Weights in fp16, int8, ... as the publisher has them."),
    ] = None,
    out: options.Copy = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be fetched, and leave it.")
    ] = False,
    force: options.Again = False,
    locked: Annotated[
        bool,
        typer.Option("--locked", help="What tlhub.lock names, or FILE.lock, exactly so."),
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Take in what `tlhub bundle` wrote."),
    ] = None,
    trust: options.Trust = False,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Fetch models, verify every byte, convert them to ONNX and prove it computes the same."""
    from catalog.errors import UsageError
    from tlhub import api, pulling
    from tlhub.cli.pulled import planned, pulled
    from tlhub.settings import Settings

    settings = Settings.load(offline=offline or None)
    if locked or source is not None:
        from tlhub.cli import reproduce

        choosing = format != "onnx" or any((include, exclude, precision, out, dry_run, force))
        show = reproduce.Show(progress, quiet=quiet, json=json)
        reproduce.reproduce(models or [], source, settings, show, choosing=choosing, trust=trust)
        return
    if not models:
        raise UsageError("no model is named", hint="`tlhub search` finds its uid")
    names = list(_each(models))
    if out is not None and len(names) != 1:
        raise UsageError(f"--out is for one model, not for {len(names)}")
    chosen = pulling.Options(format, tuple(include or ()), tuple(exclude or ()), precision)
    with output.progress(progress, quiet=quiet) as report:
        # All of them are looked up before the first is fetched: a typo costs no minutes.
        plans = [
            None if api.is_here(name) else pulling.plan(name, settings, chosen, progress=report)
            for name in names
        ]
        results = []
        for name, plan in zip(names, plans, strict=True):
            if dry_run:
                results.append(planned(name, plan, pulling.here(plan, settings) if plan else {}))
                continue
            count = _Count(report)
            folder = (
                pulling.pull(plan, settings, out=out, force=force, trust=trust, progress=count)
                if plan is not None
                else api.pull(
                    name,
                    format=format,
                    include=include or (),
                    exclude=exclude or (),
                    precision=precision,
                    out=out,
                    force=force,
                    settings=settings,
                    progress=count,
                )
            )
            results.append(pulled(folder, plan, count.figures()))
    _report(results, quiet=quiet, json=json, alone=len(models) == 1 and models != ["-"])


def _report(results: Sequence[Result], *, quiet: bool, json: bool, alone: bool) -> None:
    if json:
        documents = [result.document for result in results]
        output.emit(documents[0] if alone else {"models": documents})
    for result in results if not json else ():
        if quiet:
            output.line(result.name)
        else:
            result.show()


class _Count:
    """Passes progress on, and keeps count of bytes and time."""

    def __init__(self, report: Progress) -> None:
        self._report = report
        self._done: dict[str, int] = {}
        self._begun = time.monotonic()

    def __call__(self, event: Event) -> None:
        if event.done is not None:
            self._done[event.message] = event.done
        self._report(event)

    def figures(self) -> dict[str, float]:
        seconds = round(time.monotonic() - self._begun, 3)
        return {"fetched_bytes": sum(self._done.values()), "seconds": seconds}


def _each(models: Iterable[str]) -> Iterator[str]:
    """The models named; `-` stands for the lines of standard input."""
    for model in models:
        if model != "-":
            yield model
            continue
        for text in sys.stdin:
            line = text.partition(" #")[0].strip()
            if line and not line.startswith("#"):
                yield line
