from __future__ import annotations

from typing import Any

import pytest

from catalog.model_index import evaluations


def found(*metrics: dict[str, Any], task: str = "image-classification", **dataset: str) -> Any:
    said: list[str] = []
    where = dataset or {"type": "imagenet-1k", "name": "ImageNet"}
    index = [{"results": [{"task": {"type": task}, "dataset": where, "metrics": list(metrics)}]}]
    return evaluations(index, lambda field, wrong: said.append(f"{field}: {wrong}")), said


@pytest.mark.parametrize(
    ("kind", "value", "metric", "figure", "unit"),
    [
        ("accuracy", 0.812, "top1", 81.2, "%"),
        ("Accuracy", 81.2, "top1", 81.2, "%"),
        ("accuracy", 1, "top1", 100.0, "%"),
        ("wer", 0.05, "wer", 5.0, "%"),
        ("wer", 12, "wer", 12.0, "%"),
        ("wer", "8.5 %", "wer", 8.5, "%"),
        ("mean_reward", "271.2 +/- 20.1", "mean_reward", 271.2, None),
        ("perplexity", 12.5, "perplexity", 12.5, None),
    ],
)
def test_a_figure_is_in_the_units_of_the_catalog(
    kind: str, value: object, metric: str, figure: float, unit: str | None
) -> None:
    (item,), said = found({"type": kind, "value": value})
    assert (item.metric_type, item.value, item.unit, said) == (metric, figure, unit, [])
    assert item.higher_is_better == (metric not in {"wer", "perplexity"})


@pytest.mark.parametrize(
    ("metric", "field"),
    [
        ({"type": "wer", "value": 1.2}, "value"),  # 1.2 % or 120 %
        ({"type": "accuracy", "value": 101}, "value"),
        ({"type": "accuracy", "value": -0.1}, "value"),
        ({"type": "accuracy", "value": True}, "value"),
        ({"type": "accuracy", "value": float("nan")}, "value"),
        ({"type": "loss", "value": 10**400}, "value"),
        ({"type": "loss", "value": "9" * 400}, "value"),
        ({"type": "loss", "value": "high"}, "value"),
        ({"type": "loss"}, "value"),
        ({"value": 1}, "type"),
        ({"type": "\x1b[2J", "value": 1}, "type"),
        ({"type": "...", "value": 1}, "type"),
        ({"type": "x" * 1000, "value": 1}, "type"),
    ],
)
def test_what_cannot_be_told_is_left_out_and_said(metric: dict[str, Any], field: str) -> None:
    items, said = found(metric)
    assert items == ()
    assert len(said) == 1
    assert said[0].startswith(f"model-index[0].results[0].metrics[0].{field}: ")


def test_a_data_set_is_its_name_where_its_type_is_a_kind() -> None:
    (item,), _ = found({"type": "accuracy", "value": 1}, type="imagefolder", name="ants and bees")
    assert "ants" in item.dataset
    items, said = found({"type": "accuracy", "value": 1}, type="csv")
    assert (items, len(said)) == ((), 1)


def test_the_main_figures_of_a_result_come_first() -> None:
    metrics = [{"type": f"m{n}", "value": n} for n in range(9)] + [{"type": "f1", "value": 0.5}]
    items, _ = found(*metrics)
    assert [item.metric_type for item in items] == ["f1", "m0", "m1", "m2"]
