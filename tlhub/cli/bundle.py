"""`tlhub bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode


def bundle(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Uids or URIs.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The tar to write.")],
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Put models in one file, for machines that have no network."""
    from tlhub import bundling
    from tlhub.cli.figures import megabytes
    from tlhub.settings import Settings

    settings = Settings.load(offline=offline or None)
    with output.progress(progress, quiet=quiet) as report:
        done = bundling.bundle(models, out, settings=settings, progress=report)
    if json:
        output.emit(
            {
                "path": str(done.path),
                "sha256": done.sha256,
                "size_bytes": done.size_bytes,
                "models": list(done.uids),
            }
        )
        return
    if not quiet:
        for uid in done.uids:
            output.line(uid)
        output.line(f"{megabytes(done.size_bytes)}  sha256 {done.sha256}")
    output.line(str(done.path))
