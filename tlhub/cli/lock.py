"""`tlhub lock`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from hub_client.lockfile import LockedModel


def lock(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Uids or URIs to add to the lock file."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The lock file.")] = Path(
        "tlhub.lock"
    ),
    upgrade: Annotated[
        bool,
        typer.Option("--upgrade", help="Pin anew what the models, or those named, are now."),
    ] = False,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Write models down to the byte, so that a locked pull reproduces them anywhere."""
    from tlhub import locking
    from tlhub.cli.figures import megabytes
    from tlhub.settings import Settings

    settings = Settings.load(offline=offline or None)
    with output.progress(progress, quiet=quiet) as report:
        done = locking.lock(models or [], out, upgrade=upgrade, settings=settings, progress=report)
    if json:
        output.emit(
            {
                "path": str(done.path),
                "models": [_document(model) for model in done.lock.model],
                "added": list(done.added),
                "changed": list(done.changed),
            }
        )
        return
    if not quiet:
        for model in done.lock.model:
            mark = "+" if model.uid in done.added else "~" if model.uid in done.changed else " "
            size = megabytes(sum(file.size_bytes for file in model.file))
            at = f"  {model.revision}" if model.revision else ""
            output.line(f"{mark} {model.uid}  {size}{at}")
    output.line(str(done.path))


def _document(model: LockedModel) -> dict[str, Any]:
    import msgspec

    document: dict[str, Any] = msgspec.to_builtins(model)
    document["files"] = document.pop("file")
    return document
