"""`tlhub rm`."""

from __future__ import annotations

from typing import Annotated

import typer

from tlhub.cli import options, output


def rm(
    uids: Annotated[
        list[str], typer.Argument(metavar="UID...", help="Models that are here, or their folders.")
    ],
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Even if a lock file or a running process needs it.")
    ] = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Remove models from this machine, and the files that nothing else needs."""
    from tlhub import keeping
    from tlhub.cli.cache import report
    from tlhub.settings import Settings

    done = keeping.rm(uids, Settings.load(), force=force)
    report(done, quiet=quiet, json=json)
    for folder in sorted({folder for kept in done.removed for folder in kept.repos}):
        if folder.is_dir():
            repo = keeping.repo_of(folder)
            output.note(
                f"{repo} stays in {folder.parent}: "
                f"`hf cache rm model/{repo} --cache-dir {folder.parent}` removes it"
            )
