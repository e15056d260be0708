"""Which models a plot of two figures shows, and which of them are best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from catalog.errors import UsageError
from catalog.record import Evaluation, ModelRecord

COSTS = {
    "params": "parameters",
    "gmacs": "GMACs (1e9 multiply-accumulates)",
    "size": "size of the download in bytes",
}


@dataclass(frozen=True)
class Point:
    """A model and its two figures."""

    record: ModelRecord
    x: float
    y: float


@dataclass(frozen=True)
class Scatter:
    """The models to plot, by uid, and which of them are best.

    ``front`` are those that no other beats in one figure without losing in the other, along x.
    ``otherwise`` counts the models left out because they were measured in another configuration.
    """

    x: str
    y: str
    dataset: str
    points: tuple[Point, ...]
    front: tuple[Point, ...]
    units: tuple[str | None, str | None]
    lower_is_better: tuple[bool, bool]
    otherwise: int = 0


def scatter(records: Iterable[ModelRecord], x: str, y: str, dataset: str) -> Scatter:
    """The models that know both ``x`` and ``y``, each one of `COSTS` or a metric on ``dataset``.

    Of a model with several figures the one at the input size of its MACs is taken, else the first.
    Where a metric was measured in several configurations (zero-shot, fine-tuned) the commonest is
    shown.

    Raises:
        UsageError: there are no records, or none knows both figures; the hint says what there is.
    """
    kept = list(records)
    if not kept:
        raise UsageError("there is no model to plot", hint="another --task or --source has some")
    figures: list[dict[str, float]] = []
    units: list[str | None] = []
    lower: list[bool] = []
    others = 0
    for name in (x, y):
        if name in COSTS:
            figures.append({r.uid: cost for r in kept if (cost := _cost(r, name)) is not None})
            units.append(None)
            lower.append(True)
            continue
        found = {r.uid: item for r in kept if (item := _evaluation(r, name, dataset))}
        if not found:
            raise _unknown(name, dataset, kept)
        (config, unit), _ = Counter((e.config, e.unit) for e in found.values()).most_common(1)[0]
        same = {uid: e for uid, e in found.items() if (e.config, e.unit) == (config, unit)}
        others += len(found) - len(same)
        figures.append({uid: item.value for uid, item in same.items()})
        units.append(unit)
        lower.append(not next(iter(same.values())).higher_is_better)
    xs, ys = figures
    points = tuple(Point(r, xs[r.uid], ys[r.uid]) for r in kept if r.uid in xs and r.uid in ys)
    if not points:
        raise UsageError(
            f"no model knows both {x} and {y}", hint="try --x params or another source"
        )
    return Scatter(
        x=x,
        y=y,
        dataset=dataset,
        points=points,
        front=_front(points, lower[0], lower[1]),
        units=(units[0], units[1]),
        lower_is_better=(lower[0], lower[1]),
        otherwise=others,
    )


def _cost(record: ModelRecord, name: str) -> float | None:
    return {"params": record.params, "gmacs": record.gmacs, "size": record.size_bytes}[name]


def _evaluation(record: ModelRecord, metric: str, dataset: str) -> Evaluation | None:
    found = [e for e in record.evals if e.metric_type == metric and e.dataset == dataset]
    counted = [e for e in found if record.gmacs_at and e.eval_input_size == record.gmacs_at]
    return next(iter(counted or found), None)


def _unknown(name: str, dataset: str, records: Sequence[ModelRecord]) -> UsageError:
    evals = [(e.metric_type, e.dataset) for record in records for e in record.evals]
    sets = Counter(where for metric, where in evals if metric == name).most_common(8)
    if sets:
        hint = f"{name} is known on {', '.join(where for where, _ in sets)}"
    else:
        metrics = Counter(metric for metric, where in evals if where == dataset).most_common(8)
        hint = f"one of: {', '.join([*COSTS, *(metric for metric, _ in metrics)])}"
    return UsageError(f"no model knows {name} on {dataset}", hint=hint)


def _front(points: Sequence[Point], lower_x: bool, lower_y: bool) -> tuple[Point, ...]:
    along, gain = (1 if lower_x else -1), (-1 if lower_y else 1)
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (along * p.x, -gain * p.y, p.record.uid)):
        if not front or gain * point.y > gain * front[-1].y:
            front.append(point)
    return tuple(sorted(front, key=lambda p: p.x))
