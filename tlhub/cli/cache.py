"""`tlhub cache`: list, verify, prune and path."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from catalog.errors import IntegrityError, UsageError
from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tlhub.keeping import Kept, Pruned

app = typer.Typer(help="See, check and tidy what is kept on this machine.", no_args_is_help=True)

Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", help="model, hf, hub, blob, features or index; can be repeated."),
]
_KINDS = ("model", "hf", "hub", "blob", "features", "index")


@app.command("list")
def list_(
    *,
    kind: Kinds = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """List what is kept: size, last use, and what needs it."""
    from tlhub.keeping import inventory
    from tlhub.settings import Settings

    for name in kind or ():
        if name not in _KINDS:
            raise UsageError(f"--kind {name} is none", hint=f"one of {', '.join(_KINDS)}")
    kept = [k for k in inventory(Settings.load()) if not kind or k.item.kind in kind]
    kept.sort(key=lambda k: (_KINDS.index(k.item.kind), -k.item.size_bytes, k.item.name))
    if json:
        items = [document(k) for k in kept]
        output.emit({"items": items, "size_bytes": sum(k.item.size_bytes for k in kept)})
    elif quiet:
        for k in kept:
            output.line(str(k.item.path))
    else:
        table(kept)


@app.command()
def path(*, json: options.Json = False) -> None:
    """Print where things are kept."""
    from tlhub.keeping import paths
    from tlhub.settings import Settings

    found = paths(Settings.load())
    if json:
        output.emit({name: str(folder) for name, folder in found.items()})
    else:
        output.line(str(found["home"]))


@app.command()
def prune(
    *,
    older_than: Annotated[
        str | None, typer.Option("--older-than", help="Also what was not used for so long: 30d.")
    ] = None,
    keep_size: Annotated[
        str | None,
        typer.Option("--keep-size", help="Also the least recently used, down to so much: 20GB."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Remove what nothing needs; never what a lock file names or a running process uses."""
    from tlhub import keeping
    from tlhub.cli.amounts import bytes_of, seconds_of
    from tlhub.cli.figures import megabytes
    from tlhub.settings import Settings

    settings = Settings.load()
    older_than_s = None if older_than is None else seconds_of(older_than)
    keep_bytes = None if keep_size is None else bytes_of(keep_size)
    if not (yes or dry_run):
        if json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(
                "prune removes files, and nobody can be asked here",
                hint="--yes removes them, --dry-run only lists them",
            )
        planned = keeping.prune(
            settings, older_than_s=older_than_s, keep_bytes=keep_bytes, dry_run=True
        )
        if not planned.removed:
            output.note("nothing to remove")
            return
        table(planned.removed)
        if not output.confirm(f"remove {megabytes(planned.size_bytes)}?"):
            raise typer.Exit(1)
    done = keeping.prune(
        settings, older_than_s=older_than_s, keep_bytes=keep_bytes, dry_run=dry_run
    )
    report(done, quiet=quiet, json=json, would=dry_run, listed=not (yes or dry_run))


@app.command()
def verify(
    *,
    repair: Annotated[
        bool,
        typer.Option("--repair/--no-repair", help="Whether what is damaged is fetched again."),
    ] = True,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Hash everything again; fetch or make again what is damaged."""
    from tlhub import mending
    from tlhub.cli.figures import megabytes
    from tlhub.settings import Settings

    settings = Settings.load(offline=offline or None)
    with output.progress(progress, quiet=quiet) as show:
        checked = mending.verify(settings, repair=repair, progress=show)
    if json:
        faults = [
            {**document(f.kept), "fault": f.said, "outcome": f.outcome} for f in checked.faults
        ]
        output.emit({"files": checked.files, "size_bytes": checked.size_bytes, "faults": faults})
    elif quiet:
        for fault in checked.faults:
            output.line(str(fault.kept.item.path))
    else:
        for fault in checked.faults:
            output.line(f"{fault.outcome}  {fault.kept.uid or fault.kept.item.name}: {fault.said}")
        output.line(f"{checked.files} files, {megabytes(checked.size_bytes)} hashed")
    damaged = [fault for fault in checked.faults if fault.outcome == "damaged"]
    if damaged and json:
        raise typer.Exit(IntegrityError.exit_code)
    if damaged:
        names = ", ".join(fault.kept.uid or fault.kept.item.name for fault in damaged)
        raise IntegrityError(
            f"damaged: {names}",
            hint="run it without --offline to mend it, or `tlhub rm` it",
        )


def report(
    done: Pruned, *, quiet: bool, json: bool, would: bool = False, listed: bool = False
) -> None:
    """Say what was removed, or would be; ``listed``: it was shown before."""
    from tlhub.cli.figures import megabytes

    if json:
        output.emit(
            {
                "removed": [document(k) for k in done.removed],
                "spared": [document(k) for k in done.spared],
                "size_bytes": done.size_bytes,
                "dry_run": would,
            }
        )
        return
    if quiet:
        for k in done.removed:
            output.line(str(k.item.path))
        return
    if done.removed and not listed:
        table(done.removed)
    output.note(f"{'would free' if would else 'freed'} {megabytes(done.size_bytes)}")
    for k in done.spared:
        output.note(f"left {k.item.name}: it was used meanwhile")


def document(kept: Kept) -> dict[str, Any]:
    """One thing under ``--json``."""
    from datetime import UTC, datetime

    item = kept.item
    used = datetime.fromtimestamp(item.used_at, UTC).isoformat(timespec="seconds")
    return {
        "kind": item.kind,
        "name": item.name,
        "uid": kept.uid,
        "path": str(item.path),
        "size_bytes": item.size_bytes,
        "used": used,
        "models": list(kept.models),
        "locks": [str(lock) for lock in kept.locks],
        "processes": list(kept.used_by),
    }


def table(kept: Sequence[Kept]) -> None:
    """Things and their total, for people."""
    from datetime import UTC, datetime

    from rich.table import Table

    from tlhub.cli.figures import ago, megabytes

    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("kind")
    grid.add_column("name", overflow="fold")
    grid.add_column("size", justify="right", no_wrap=True)
    grid.add_column("last use", justify="right", no_wrap=True)
    grid.add_column("needed by", overflow="fold")
    now = datetime.now(UTC).timestamp()
    for k in kept:
        name = k.uid or k.item.name
        if k.item.kind in {"blob", "features"}:
            name = name[: len("sha256:") + 12]
        needed = [*k.models, *map(str, k.locks), *(f"process {pid}" for pid in k.used_by)]
        grid.add_row(
            k.item.kind,
            name,
            megabytes(k.item.size_bytes),
            ago(now - k.item.used_at),
            ", ".join(needed),
        )
    grid.add_row("", "[bold]total", megabytes(sum(k.item.size_bytes for k in kept)), "", "")
    output.show(grid)
