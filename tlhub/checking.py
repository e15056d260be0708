"""A look at labelled data: what is odd about them, and what would be done about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings

if TYPE_CHECKING:
    from finetuning.data.findings import Findings
    from finetuning.data.options import Options


def check_data(
    data: str | Path,
    *,
    model: str | Path | None = None,
    options: Options | None = None,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> Findings:
    """What is odd about the labelled examples in ``data``, of any form that `finetune` reads.

    ``model`` is the one to be fine-tuned, whose input size they are compared with; it is not
    fetched. ``options`` say which column of a table is what.

    Raises:
        DataError: they cannot be read at all, or nothing can be learned from them.
        NotFoundError: there is no such model.
    """
    from converters.folder import ModelFolder
    from finetuning.data.check import check
    from finetuning.data.reading import read
    from tlhub.api import record

    progress(Event(f"reading {data}"))
    size = None
    if model is not None:
        here = Path(model).expanduser()
        known = (
            ModelFolder.open(here).manifest.record
            if here.is_dir()
            else record(str(model), settings=settings)
        )
        size = known.input_size[-1] if known.input_size and len(known.input_size) == 3 else None
    found = read(Path(data).expanduser(), options)
    return check(found, input_size=size, progress=lambda step: progress(Event(step)))
