"""Estimators of scikit-learn, as they are in memory, to model folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.errors import UsageError
from tlhub.progress import Event, Progress

if TYPE_CHECKING:
    from converters.folder import ModelFolder


def convert_estimator(
    estimator: Any,
    sample: Any | None,
    out: str | Path | None,
    *,
    replace: bool,
    progress: Progress,
) -> ModelFolder:
    """The folder at ``out`` with the graph of a fitted estimator, checked on rows of ``sample``.

    Raises:
        UsageError: it is no fitted estimator, or ``out`` is missing or exists.
        ConversionError: skl2onnx cannot convert it, or the graph does not compute the same.
    """
    if out is None:
        raise UsageError("an estimator has no name to keep it under", hint="say where: out=")
    from converters import convert
    from converters.frameworks.sklearn import of_object

    found = of_object(estimator, sample)
    return convert.convert(
        found.record,
        {},
        Path(out).expanduser(),
        loaded=found,
        replace=replace,
        progress=lambda step: progress(Event(step)),
    )
