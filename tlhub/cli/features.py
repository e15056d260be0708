"""`tlhub features`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

_NAMED = 5


def features(
    model: options.Model,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder of images, or a text file of paths or texts, one a line; - is stdin.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The table: .npy, .csv or .parquet.")],
    layer: Annotated[
        str | None,
        typer.Option("--layer", help="A layer of `tlhub layers` instead of the embedding."),
    ] = None,
    no_pool: Annotated[
        bool, typer.Option("--no-pool", help="Keep maps and tokens instead of their mean.")
    ] = False,
    device: options.Device = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=1024, help="Threads of ONNX Runtime.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the table if it exists.")] = False,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Write the features of many images or texts to one table; a stopped run is taken up again."""
    from tlhub import extracting
    from tlhub.settings import Settings

    given = (
        [line for line in sys.stdin.read().splitlines() if line.strip()] if data == "-" else data
    )
    with output.progress(progress, quiet=quiet) as report:
        found = extracting.features(
            model,
            given,
            out,
            layer=layer,
            pool=not no_pool,
            device=device,
            threads=threads,
            force=force,
            settings=Settings.load(offline=offline or None),
            progress=report,
        )
    if json:
        skipped = [{"input": name, "reason": reason} for name, reason in found.skipped]
        shape = [found.rows, *found.shape]
        output.emit({"path": str(out), "shape": shape, "kept": found.kept, "skipped": skipped})
        return
    for name, reason in found.skipped[:_NAMED]:
        output.note(f"left out: {name}: {reason}")
    if len(found.skipped) > _NAMED:
        output.note(f"and {len(found.skipped) - _NAMED:,} more")
    if not quiet:
        output.line(f"{'x'.join(map(str, (found.rows, *found.shape)))} float32")
    output.line(str(out))
