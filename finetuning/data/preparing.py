"""Data read, looked at, and without what cannot be learned from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from finetuning.data.check import check
from finetuning.data.dataset import Dataset, some
from finetuning.data.findings import Findings
from finetuning.data.options import Options
from finetuning.data.reading import read

_log = logging.getLogger(__name__)


def prepare(
    data: Path,
    options: Options | None = None,
    *,
    input_size: int | None = None,
    learns: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Dataset, Findings]:
    """The data that can be learned from, and all that was found odd about them.

    Where nothing ``learns``, a model is to be measured on them: one class will do. What needs a
    look is logged as a warning.

    Raises:
        DataError: they cannot be read, or too many of the examples cannot.
        UsageError: ``options`` name a column that is not there, or a package is missing.
    """
    findings = check(read(data, options, learns=learns), input_size=input_size, progress=progress)
    cleaned = findings.cleaned()
    for item in findings.items:
        if item.serious:
            names = f": {some(item.names)}" if item.names else ""
            _log.warning("%d %s (%s)%s", item.count, item.text, item.action, names)
        elif item.code == "guessed":
            _log.info("%s", item.text)
    return cleaned, findings
