"""The course of a training for TensorBoard, where that is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from catalog.disk import writing
from catalog.errors import UsageError

Log = Callable[[str, float, int], None]  # name, value, step


def unlogged(_name: str, _value: float, _step: int) -> None:
    """Keep nothing."""


@contextlib.contextmanager
def logged(folder: Path | None) -> Iterator[Log]:
    """What writes values into ``folder`` as TensorBoard reads them; without one nothing.

    Raises:
        UsageError: TensorBoard's package is not installed.
        StorageError: the folder cannot be written.
    """
    if folder is None:
        yield unlogged
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            "TensorBoard is not installed", hint="pip install 'tlhub[tensorboard]'"
        ) from None
    with writing(folder):
        writer = SummaryWriter(str(folder))
    try:
        yield writer.add_scalar
    finally:
        writer.close()
