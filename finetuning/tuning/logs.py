"""The course of a training for TensorBoard, where that is asked for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from catalog.disk import writing
from catalog.errors import UsageError

Log = Callable[[str, float, int], None]  # name, value, step


def unlogged(_name: str, _value: float, _step: int) -> None:
    """Keep nothing."""


def told(progress: Callable[[str], None], log: Log, name: str) -> Callable[[int, int, float], None]:
    """What takes each step, of how many, and its loss: says one now and then, and logs them all."""
    last = time.monotonic()

    def say(step: int, of: int, loss: float) -> None:
        nonlocal last
        log(f"{name}/loss", loss, step)
        if time.monotonic() - last > 2 or step == of:
            last = time.monotonic()
            progress(f"step {step} of {of}, loss {loss:.3f}")

    return say


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
