"""What is there of a run already: finished, interrupted, or nothing; and what to do about it."""

from __future__ import annotations

from pathlib import Path

from catalog.errors import UsageError
from converters.folder import MANIFEST, ModelFolder
from finetuning.tuning.journal import Journal


def is_finished(out: Path, request: str, journal: Journal, *, resume: bool, replace: bool) -> bool:
    """Whether ``out`` is the very run that is to be resumed, and whole; the same for all ranks.

    Raises:
        UsageError: an interrupted run would be lost, or ``out`` is a run of something else.
    """
    first = journal.ranks.first
    return journal.ranks.agreed(
        first and _is_finished(out, request, journal, resume=resume, replace=replace)
    )


def _is_finished(out: Path, request: str, journal: Journal, *, resume: bool, replace: bool) -> bool:
    began = journal.began
    if not resume:
        if began is not None and not replace:
            raise UsageError(
                f"a run at {out} was interrupted: {began}",
                hint="the same command with --resume goes on from there, with --force starts anew",
            )
        return False
    if began is not None or not (out / MANIFEST).is_file():
        return False
    same = (ModelFolder.open(out).manifest.run or {}).get("request") == request
    if not same and not replace:
        raise UsageError(
            f"{out} is a finished run of something else, and there is nothing to resume",
            hint="choose another place, or --force",
        )
    return same
