"""`report.html`: what a run found, in one file that works offline."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
from PIL import Image

from converters.folder import Manifest
from finetuning import card, drawing
from finetuning.data.dataset import Dataset, Example, classes_of, printable
from finetuning.evaluation import BASELINES, CurvePoint, Metrics
from finetuning.results.classes import ClassMetrics
from finetuning.results.embedding import Confused, EmbeddingMetrics
from finetuning.results.labels import LabelMetrics, LabelMistake
from finetuning.results.numbers import NumberMetrics, NumberMistake
from finetuning.scores import TITLES, Answer, confusions

AnyMistake = Answer | LabelMistake | NumberMistake | Confused

# What is made small, and how cuts are judged.
_LOSSES = {"regression": "squared error", "embedding": "1 - mAP@R"}
_JUDGES = {"embedding": "within-class whitening"}

MISTAKES = 12
NEIGHBORS = 3  # training examples beside each of them
_THUMBNAIL, _SMALL = 176, 96  # pixels
_LETTERS, _FEW_LETTERS = 300, 140  # of a text
_MATRIX = 40  # classes; beyond, the confusion matrix is a list of the commonest confusions
_PAIRS = 20


@dataclass(frozen=True)
class Curve:
    """The learning curve in the coordinates of its SVG."""

    width: int
    height: int
    line: str  # points of a polyline
    band: str  # points of a polygon, from the worst draw to the best
    points: tuple[tuple[float, float, CurvePoint], ...]
    grid: tuple[tuple[float, float], ...]  # y, value


@cache
def environment() -> jinja2.Environment:
    """The templates of this package; in HTML every value is escaped."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"escaped": card.escaped, "fenced": card.fenced}
    env.filters["percent"] = lambda value: "n/a" if value is None else f"{100 * value:.1f} %"
    env.filters["figure"] = lambda value: "n/a" if value is None else f"{value:.4g}"
    env.filters["judged"] = lambda value, tuning: (
        f"{100 * value:.1f} %" if tuning.is_share else f"{value:.4g}"
    )
    env.filters["score"] = card.score
    env.filters["gain"] = card.gain
    return env


def write(file: Path, out: Path, manifest: Manifest, metrics: Metrics, data: Dataset) -> None:
    """The report of the run at ``out``, with its worst mistakes as small pictures inside."""
    examples = {example.name: example for example in data.examples}
    html = (
        environment()
        .get_template("report.html")
        .render(
            manifest=manifest,
            record=manifest.record,
            metrics=metrics,
            name=manifest.uid.removeprefix("run/"),
            folder=manifest.record.source_datasets[-1].id,
            names=BASELINES,
            best=metrics.gain.over,
            loss=_LOSSES.get(metrics.kind, "log loss"),
            judge=_JUDGES.get(metrics.kind, "ridge regression"),
            curve=curve(metrics.learning_curve),
            profile=drawing.profile(
                metrics.cuts, metrics.stages, plain=metrics.kind == "regression"
            ),
            nearest=_neighbors(metrics, data, examples),
            **_of_kind(metrics, examples),
            mistakes=[(item, shown(examples[item.file])) for item in _mistakes(metrics)],
            skipped=skipped(metrics),
            usage=card.usage(printable(str(out)), metrics.modality, metrics.kind),
            license=card.license_name(manifest.record.license),
            seconds=sum(metrics.seconds.values()),
        )
    )
    file.write_text(html, encoding="utf-8")


def curve(points: tuple[CurvePoint, ...], width: int = 640, height: int = 260) -> Curve:
    """Where the points of a learning curve go; images are spaced by doublings."""
    left, right, top, bottom = 48, 20, 26, 34
    first, last = points[0].n_train, points[-1].n_train
    floor = math.floor(min(point.lowest for point in points) * 10) / 10
    floor = max(min(floor, 0.9), 0.0)  # an R2 may lie below, where nothing was learned

    def x(point: CurvePoint) -> float:
        share = math.log(point.n_train / first) / math.log(last / first) if last > first else 0.5
        return round(left + share * (width - left - right), 1)

    def y(value: float) -> float:
        return round(top + (1 - max(value, floor)) / (1 - floor) * (height - top - bottom), 1)

    step = 0.1 if 1 - floor <= 0.5 else 0.2
    ticks = [1 - n * step for n in range(int((1 - floor) / step + 1e-6) + 1)]
    upper = [f"{x(point)},{y(point.highest)}" for point in points]
    lower = [f"{x(point)},{y(point.lowest)}" for point in reversed(points)]
    return Curve(
        width=width,
        height=height,
        line=" ".join(f"{x(point)},{y(point.score)}" for point in points),
        band=" ".join([*upper, *lower]),
        points=tuple((x(point), y(point.score), point) for point in points),
        grid=tuple((y(tick), tick) for tick in ticks),
    )


@dataclass(frozen=True)
class Scatter:
    """True and predicted numbers in the coordinates of their SVG, a square."""

    side: int
    points: tuple[tuple[float, float], ...]  # x: true, y: predicted
    least: float  # of both
    most: float


def scatter(pairs: Sequence[tuple[float, float]], side: int = 360) -> Scatter:
    """Where the points of true and predicted numbers go."""
    values = [value for pair in pairs for value in pair]
    least, most = min(values), max(values)
    scale = (side - 40) / ((most - least) or 1)

    def at(value: float) -> float:
        return round(20 + (value - least) * scale, 1)

    points = tuple((at(true), round(side - at(said), 1)) for true, said in pairs)
    return Scatter(side=side, points=points, least=least, most=most)


@dataclass(frozen=True)
class Neighbor:
    """A training example that is much like another, as it is shown."""

    name: str
    told: str  # what holds of it
    shown: str


def _neighbors(
    metrics: Metrics, data: Dataset, examples: Mapping[str, Example]
) -> dict[str, list[Neighbor]]:
    """By the name of a mistake the training examples that are most like it."""
    found: dict[str, list[Neighbor]] = defaultdict(list)
    for name, near in metrics.nearest.items():
        for item in near:
            other = examples[item.file]
            found[name].append(
                Neighbor(item.file, _told(other, data), shown(other, _SMALL, _FEW_LETTERS))
            )
    return found


def _told(example: Example, data: Dataset) -> str:
    """What holds of an example, in words."""
    labels = [data.classes[n] for n in classes_of(example.target)]
    if labels or data.kind != "regression":
        return " + ".join(labels) or "none"
    numbers = example.target if isinstance(example.target, tuple) else (example.target,)
    return ", ".join(f"{number:.4g}" for number in numbers)


def _of_kind(metrics: Metrics, examples: Mapping[str, Example]) -> dict[str, object]:
    """What only the report of this kind shows."""
    if isinstance(metrics, ClassMetrics):
        return {
            "matrix": len(metrics.classes) <= _MATRIX,
            "confusions": confusions(metrics.classes, metrics.confusion)[:_PAIRS],
            "titles": TITLES,
            "reliability": drawing.reliability(metrics.reliability, metrics.reliability_before),
            "sure": [(item, shown(examples[item.file])) for item in metrics.sure],
        }
    if isinstance(metrics, NumberMetrics):
        return {"scatters": [scatter(points) for points in metrics.points]}
    return {}


def _mistakes(metrics: Metrics) -> Sequence[AnyMistake]:
    if isinstance(metrics, (ClassMetrics, LabelMetrics, NumberMetrics, EmbeddingMetrics)):
        return metrics.mistakes[:MISTAKES]
    return ()


def skipped(metrics: Metrics) -> list[tuple[str, int, list[str]]]:
    """(reason, count, names) of what was left out, the commonest first."""
    names: dict[str, list[str]] = defaultdict(list)
    for item in metrics.skipped:
        names[item.reason].append(item.name)
    counts = Counter({reason: len(files) for reason, files in names.items()})
    return [(reason, count, names[reason]) for reason, count in counts.most_common()]


def shown(example: Example, size: int = _THUMBNAIL, letters: int = _LETTERS) -> str:
    """A text, cut where it is long, or a picture."""
    if not isinstance(example.content, str):
        return picture(example, size)
    text = printable(example.text)
    return text if len(text) <= letters else f"{text[:letters]}…"


def picture(photo: Example, size: int = _THUMBNAIL) -> str:
    """A small JPEG of an image as a data URI."""
    image = Image.fromarray(photo.image())
    image.thumbnail((size, size))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
