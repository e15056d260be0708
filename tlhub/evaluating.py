"""A classifier, measured on labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings

if TYPE_CHECKING:
    from converters.session import Device
    from finetuning.data.options import Options
    from finetuning.evaluate import Measured


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    options: Options | None = None,
    split: str = "auto",
    device: Device = "auto",
    settings: Settings | None = None,
    progress: Progress = silent,
) -> Measured:
    """How a classifier does on labelled data: the figures of a run's report, for any model.

    ``split`` is `auto`, `test`, `all`, or a split that was written; see
    `finetuning.evaluate.evaluate`.

    Raises:
        DataError: the data cannot be used as they are.
        UsageError: the model has no classes, or not those of the data.
    """
    from finetuning.data.reading import check_place
    from finetuning.evaluate import evaluate as measure
    from tlhub.api import converted

    settings = settings or Settings.load()
    check_place(Path(data), options, learns=False)
    return measure(
        converted(str(model), settings, progress),
        Path(data),
        options=options,
        split=split,
        device=device,
        progress=lambda step: progress(Event(step)),
    )
