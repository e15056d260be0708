"""`tlhub pull --locked` and `tlhub pull --from`: sets of models, down to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import UsageError
from tlhub.cli import output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from tlhub.locking import Reproduced
    from tlhub.settings import Settings


@dataclass(frozen=True)
class Show:
    """How to report."""

    progress: ProgressMode
    quiet: bool
    json: bool


def reproduce(
    arguments: Sequence[str],
    bundle: Path | None,
    settings: Settings,
    show: Show,
    *,
    choosing: bool,
    trust: bool,
) -> None:
    """Take in a bundle, or pull what a lock file names: all of it, or the uids in ``arguments``.

    One argument may be the lock file; else it is `tlhub.lock` here.
    """
    from tlhub import bundling, locking

    if choosing:
        raise UsageError("--locked and --from take no option that chooses files or a place")
    with output.progress(show.progress, quiet=show.quiet) as report:
        if bundle is None:
            path, uids = _lock_of(arguments)
            done = locking.pull_locked(path, uids, trust=trust, settings=settings, progress=report)
        elif arguments:
            raise UsageError("--from takes in all of a bundle", hint="tlhub pull --from FILE")
        else:
            done = bundling.pull_bundle(bundle, settings=settings, progress=report)
    _report(done, show)


def _is_file(name: str) -> bool:
    from tlhub.user_paths import here

    path = here(name)
    return path is not None and path.is_file()


def _lock_of(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    from hub_client.lockfile import LOCK

    files = [name for name in arguments if name.endswith(".lock") or _is_file(name)]
    if len(files) > 1:
        raise UsageError(f"--locked takes one lock file, not {' and '.join(files)}")
    return Path(files[0] if files else LOCK), [name for name in arguments if name not in files]


def _report(done: Reproduced, show: Show) -> None:
    if show.json:
        models = [{"uid": f.manifest.uid, "path": str(f.path)} for f in done.folders]
        output.emit({"models": models, "notes": list(done.notes)})
        return
    for folder in done.folders:
        output.line(str(folder.path) if show.quiet else f"{folder.manifest.uid}  {folder.path}")
    for note in done.notes:
        output.note(f"note: {note}")
