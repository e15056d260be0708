"""Model folders with further precisions beside fp32: in place, or at another place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import ConversionError, NotFoundError, UsageError
from tlhub import originals
from tlhub.progress import Event, Progress

if TYPE_CHECKING:
    from converters.folder import ModelFolder


def with_variants(
    folder: ModelFolder,
    precisions: Sequence[str],
    *,
    calibrate: Path | None = None,
    data: Path | None = None,
    out: Path | None = None,
    force: bool = False,
    progress: Progress,
) -> ModelFolder:
    """``folder`` with these precisions, those made that it has not; at ``out`` a copy of it.

    Raises:
        ConversionError: one is not good enough; the others are there.
        DataError: ``calibrate`` or ``data`` cannot be used.
    """
    from converters import precision

    again = force or data is not None
    wanted = tuple(p for p in dict.fromkeys(precisions) if p != "fp32")
    missing = wanted if again else precision.missing(folder, wanted, calibrate)
    failures: dict[str, str] = {}
    if missing:
        place = folder.path if out is None else out
        folder, failures = precision.add(
            folder,
            missing,
            place,
            calibrate=calibrate,
            data=data,
            replace=out is None or force,
            progress=lambda step: progress(Event(step)),
        )
    elif out is not None:
        folder = originals.copy(folder, out, progress)
    if failures:
        raise ConversionError(
            f"not good enough and not kept: {precision.said(failures)}",
            hint=f"what is, {', '.join(['fp32', *folder.manifest.variants])}, is in {folder.path}",
        )
    return folder


def check(precisions: Sequence[str], out: Path | None, *, force: bool) -> None:
    """Raise early what would be raised after minutes of work.

    Raises:
        UsageError: there is no such precision, or ``out`` exists.
    """
    from converters.folder import MANIFEST, file_of

    for precision in precisions:
        file_of(precision)
    if out is not None and os.path.lexists(out) and not (force and (out / MANIFEST).is_file()):
        raise UsageError(f"{out} exists already", hint="choose another place, or --force")


def file_in(folder: ModelFolder, precision: str) -> Path:
    """The graph of this precision.

    Raises:
        NotFoundError: the folder does not have it.
    """
    from converters.folder import file_of

    name = file_of(precision)
    if precision != "fp32" and precision not in folder.manifest.variants:
        have = ", ".join(["fp32", *folder.manifest.variants])
        raise NotFoundError(
            f"{folder.path} has no {precision}: it has {have}",
            hint=f"tlhub convert {folder.path} --precision {precision}",
        )
    return folder.path / name
