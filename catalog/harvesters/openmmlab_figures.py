"""The figures in OpenMMLab's metafiles, as evaluations."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from catalog.harvesters.openmmlab_metafiles import text_of
from catalog.harvesters.openmmlab_names import dataset_in
from catalog.harvesters.openmmlab_terms import (
    DATASETS,
    KINDS,
    METRICS,
    NO_DATASET,
    PER_DATASET,
    TASKS,
)
from catalog.record import Evaluation, Modality


def dataset_of(said: Any) -> tuple[str | None, str | None]:
    """The identifier of a data set as a metafile writes it, and what it says in brackets."""
    name = re.sub(r"\[([^\]]*)\]\(.*\)$", r"\1", text_of(said).strip())
    match = re.fullmatch(r"(.*?)\s*\(([^)]*)\)", name)
    name, config = (match[1], match[2]) if match else (name, None)
    lower = name.lower().strip()
    if lower in NO_DATASET or lower.startswith("#"):
        return None, config
    return DATASETS.get(lower) or re.sub(r"[^a-z0-9.]+", "-", lower).strip("-"), config


def datasets_of(said: Any) -> list[str]:
    """All data sets of a metafile's `Training Data`, a list or a text with commas."""
    items = said if isinstance(said, list) else re.split(r",|\+(?! Aug)| and ", text_of(said))
    found = [dataset_of(item)[0] for item in items]
    return list(dict.fromkeys(item for item in found if item))


def evaluations(
    results: list[dict[str, Any]],
    name: str,
    *,
    fractions: bool,
    input_size: tuple[int, ...] | None,
    url: str | None,
) -> Iterator[Evaluation]:
    """Every figure of a model's results whose metric and data set are known, once.

    ``fractions``: this package writes percentages as fractions of 1, though not all of them.
    """
    seen: set[tuple[str, ...]] = set()
    for result in results:
        said = result.get("Dataset")
        dataset, condition = dataset_of(said)
        if dataset is None and text_of(said).startswith(
            "#"
        ):  # a heading of a table, not a data set
            dataset = dataset_in(name)
        task, _, tag = task_of(result.get("Task"))
        kind = task or tag
        for metric, figure, where, config in _figures(result.get("Metrics")):
            place = where or dataset
            if place is None or kind is None:
                continue
            meaning = _meaning(metric, place, task)
            value = _number(figure)
            if meaning is None or value is None:
                continue
            if fractions and meaning[1] == "%" and value <= 1:
                value = round(value * 100, 6)
            config = _joined(condition, config)
            key = (place, meaning[0], config or "")
            if key in seen:
                continue
            seen.add(key)
            yield Evaluation(
                task_type=kind,
                dataset=place,
                config=config,
                metric_type=meaning[0],
                value=value,
                unit=meaning[1],
                higher_is_better=meaning[2],
                eval_input_size=input_size if task == "image-classification" else None,
                source_url=url,
            )


def task_of(said: Any) -> tuple[str | None, Modality | None, str | None]:
    """Pipeline tag, modality and tag of a metafile's `Task`; all None when it is new."""
    name = text_of(said).strip().lower()
    if name.endswith(("2d keypoint", "3d keypoint")):
        kind = "pose-3d" if "3d" in name else None
        return "keypoint-detection", "image", kind
    return TASKS.get(name, (None, None, None))


def _figures(metrics: Any) -> Iterator[tuple[str, Any, str | None, str | None]]:
    """Metric, figure, data set where the metric names one, and condition."""
    if not isinstance(metrics, Mapping):
        return
    noise = next((value for key, value in metrics.items() if "sigma" in text_of(key)), None)
    for key, figure in metrics.items():
        metric, config = _parted(re.sub(r"<br\s*/?>", " ", text_of(key)).strip())
        if isinstance(figure, Mapping):
            # `Vid4 (BIx4) PSNR/SSIM (Y)`; `P&R10k` has its figures under the wrong names.
            place, both, _ = re.sub(r"\s*/\s*", "/", metric).partition("PSNR/SSIM")
            known, condition = dataset_of(place)
            if both or (known and re.fullmatch(r"[A-Za-z0-9-]+", place)):
                for inner in ("PSNR", "SSIM"):
                    yield inner, figure.get(inner), known, _joined(condition, config)
        elif noise is None:
            yield metric, figure, None, config
        else:
            yield metric, figure, None, _joined(config, f"sigma {noise:g}")


def _parted(text: str) -> tuple[str, str | None]:
    """A metric and what is said beside it: `mIoU(ms+flip)`, `FID50k`, `Whole AP`, `NME pose`."""
    for pattern in (
        r"(?P<metric>.*\S)\s*\((?P<config>[^()]*)\)",
        r"(?P<metric>FID|Precision|Recall)-?(?P<config>(?:Full-)?\d+[kK](?:-\w+)?)",
        r"(?P<config>Whole|Body|Face|Foot|Hand) (?P<metric>A[PR])",
        r"(?P<metric>NME) (?P<config>\w+)",
        r"(?P<metric>MPJPE)-(?P<config>\w+)",
    ):
        match = re.fullmatch(pattern, text)
        if match:
            return match["metric"], match["config"]
    return text, None


def _joined(*conditions: str | None) -> str | None:
    return "; ".join(dict.fromkeys(item for item in conditions if item)) or None


def _meaning(metric: str, dataset: str, task: str | None) -> tuple[str, str | None, bool] | None:
    lower = metric.lower()
    found = PER_DATASET.get((lower, dataset)) or METRICS.get(lower)
    if found is None:
        return None
    kind = KINDS.get(task or "")
    if kind and found[0].startswith(("map", "mar")) and found[0] != "map_at_10":
        return f"{kind}_{found[0]}", *found[1:]
    return found


def _number(figure: Any) -> float | None:
    """A figure; 0 stands for one that was never filled in."""
    if isinstance(figure, str):
        figure = figure.strip().removesuffix("%")
    try:
        value = float(figure)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) and value != 0 else None
