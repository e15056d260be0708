"""The `model-index` of a model card -> evaluations in the catalog's units.

A card does not say whether 0.77 is a fraction or a percentage. Of the metrics that cannot be over
100 % (`_SHARES`) a value from 0 to 1 is taken as a fraction and multiplied by 100, one above as a
percentage already; error rates can be over 100 %, so that one just over 1 says nothing and is left
out. Every other metric is kept as it is written, without a unit.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from catalog.harvesters.datasets import dataset_of_hub
from catalog.record import Evaluation

Complain = Callable[[str, str], None]
"""Told the field and what is wrong with it; it may raise."""

_SHARES = frozenset(
    [
        *("accuracy", "top1", "top5", "f1", "f1_macro", "f1_micro", "f1_weighted", "precision"),
        *("recall", "exact_match", "map", "mean_iou", "auc", "roc_auc", "balanced_accuracy"),
        *("acc_norm", "pass@1", "dice"),
    ]
)
_ERROR_RATES = frozenset(["wer", "cer", "mer", "eer", "der", "ter"])
_UNCLEAR_UP_TO = 1.5  # an error rate between 1 and this is a good 1.2 % or a bad 120 %
_LOWER_IS_BETTER = re.compile(
    r"(?:^|_)(?:loss|error|perplexity|ppl|mse|rmse|mae|mape|fid|latency|distance|wil)(?:_|$)"
)
_SAME = {
    "acc": "accuracy",
    "top_1_accuracy": "top1",
    "top1_accuracy": "top1",
    "accuracy_top1": "top1",
    "top_5_accuracy": "top5",
    "top5_accuracy": "top5",
    "accuracy_top5": "top5",
    "f1_score": "f1",
    "mean_average_precision": "map",
    "miou": "mean_iou",
    "rocauc": "roc_auc",
    "squad_f1": "f1",
    "word_error_rate": "wer",
}
# What a reader looks for first, where a result has dozens of figures.
_MAIN = (
    *("main_score", "top1", "accuracy", "f1", "map", "mean_iou", "ndcg_at_10", "wer"),
    *("cos_sim_spearman", "v_measure", "exact_match", "bleu", "rouge_l", "top5"),
)
# Types of a data set that say how it is stored, not which it is.
_KINDS = {"imagefolder", "audiofolder", "csv", "json", "text", "custom", "private", "unknown", ""}
_LONGEST = 100  # characters of a name
_FIGURES = 4  # of one result
_EVALUATIONS = 100  # of one card; a few have thousands
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*(%?)\s*(?:(?:\+/-|±).*)?")


def evaluations(index: Any, complain: Complain) -> tuple[Evaluation, ...]:
    """The figures of a `model-index`, at most 4 of a result (the main ones) and 100 in all.

    What cannot be understood is left out after ``complain`` was told.
    """
    found: dict[tuple[Any, ...], Evaluation] = {}
    for item in _results(index, complain):
        found.setdefault((item.dataset, item.config, item.split, item.metric_type), item)
        if len(found) == _EVALUATIONS:
            break
    return tuple(found.values())


def _results(index: Any, complain: Complain) -> Iterator[Evaluation]:
    for i, entry in _items(index, "model-index", complain):
        for j, result in _items(entry.get("results"), f"model-index[{i}].results", complain):
            where = f"model-index[{i}].results[{j}]"
            task, dataset = result.get("task"), result.get("dataset")
            if not (isinstance(task, dict) and _text(task.get("type"))):
                complain(f"{where}.task.type", f"expected text, got {task!r:.60}")
                continue
            name = _dataset(dataset)
            if not name:
                complain(f"{where}.dataset", f"expected a type and a name, got {dataset!r:.60}")
                continue
            figures = [
                _evaluation(result, metric, name, f"{where}.metrics[{k}]", complain)
                for k, metric in _items(result.get("metrics"), f"{where}.metrics", complain)
            ]
            known = [figure for figure in figures if figure is not None]
            yield from sorted(known, key=_rank)[:_FIGURES]


def _items(value: Any, where: str, complain: Complain) -> Iterator[tuple[int, dict[str, Any]]]:
    if value is None:
        return
    if not isinstance(value, list):
        complain(where, f"expected a list, got {value!r:.60}")
        return
    for i, item in enumerate(value):
        if isinstance(item, dict):
            yield i, item
        else:
            complain(f"{where}[{i}]", f"expected fields, got {item!r:.60}")


def _rank(item: Evaluation) -> int:
    return _MAIN.index(item.metric_type) if item.metric_type in _MAIN else len(_MAIN)


def _dataset(said: Any) -> str | None:
    """The identifier of a data set: its type on the hub, or its name where the type is a kind."""
    if not isinstance(said, dict):
        return None
    kind, name = said.get("type"), said.get("name")
    generic = not isinstance(kind, str) or kind in _KINDS
    called = name if generic else kind
    if not isinstance(called, str) or len(called) > _LONGEST or not called.isprintable():
        return None
    return dataset_of_hub(called)


def _evaluation(
    result: dict[str, Any],
    metric: dict[str, Any],
    dataset: str,
    where: str,
    complain: Complain,
) -> Evaluation | None:
    kind = _text(metric.get("type"))
    if kind is None or not re.search("[a-z0-9]", kind.lower()):
        complain(f"{where}.type", f"expected a short text, got {metric.get('type')!r:.60}")
        return None
    figure = _figure(metric.get("value"))
    if figure is None:
        complain(f"{where}.value", f"expected a number, got {metric.get('value')!r:.60}")
        return None
    task = result["task"]["type"]
    name = _metric(kind, metric.get("name"), task)
    scaled = _scaled(name, *figure)
    if scaled is None:
        complain(f"{where}.value", f"{metric['value']!r} may be a fraction or a percentage")
        return None
    value, unit = scaled
    source = result.get("source")
    url = source.get("url") if isinstance(source, dict) else None
    return Evaluation(
        task_type=task,
        dataset=dataset,
        config=_text(result["dataset"].get("config")),
        split=_text(result["dataset"].get("split")),
        metric_type=name,
        value=value,
        unit=unit,
        higher_is_better=name not in _ERROR_RATES and not _LOWER_IS_BETTER.search(name),
        source_url=url if _is_link(url) else None,
    )


def _is_link(url: Any) -> bool:
    return isinstance(url, str) and bool(re.fullmatch(r"https://[!-~]{1,1000}", url))


def _text(value: Any) -> str | None:
    short = isinstance(value, str) and 0 < len(value.strip()) <= _LONGEST and value.isprintable()
    return value if short else None


def _metric(kind: str, name: Any, task: str) -> str:
    """The metric in the catalog's words: accuracy of an image classifier is its top-1."""
    plain = re.sub(r"[^a-z0-9@]+", "_", kind.strip().lower()).strip("_")
    plain = _SAME.get(plain, plain)
    if plain == "accuracy" and task == "image-classification":
        called = name.lower() if isinstance(name, str) else ""
        return "top5" if re.search(r"top[- ]?5", called) else "top1"
    return plain


def _figure(value: Any) -> tuple[float, bool] | None:
    """The number, and whether it was written with a percent sign: `85.2 %`, `271 +/- 20`."""
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value.strip()) if len(value) <= _LONGEST else None
        number, percent = (float(match[1]), bool(match[2])) if match else (math.nan, False)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return None
    else:
        number, percent = (float(value) if abs(value) <= sys.float_info.max else math.nan), False
    return (number, percent) if math.isfinite(number) else None


def _scaled(metric: str, value: float, percent: bool) -> tuple[float, str | None] | None:
    """The value and its unit; None where it cannot be told, or cannot be."""
    if percent:
        return value, "%"
    if metric in _ERROR_RATES:
        if value < 0 or 1 < value < _UNCLEAR_UP_TO:
            return None
        return (round(value * 100, 6) if value <= 1 else value), "%"
    if metric in _SHARES:
        if not 0 <= value <= 100:
            return None
        return (round(value * 100, 6) if value <= 1 else value), "%"
    return value, None
