"""What is drawn in a report, in the coordinates of its SVG: a template has but to write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from catalog.axes import axis
from finetuning.cut import Tried
from finetuning.scores import Bin

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 20, 20, 44
_SQUARE = 320


@dataclass(frozen=True)
class Dot:
    """A point, what it is called, and what to say of it."""

    x: float
    y: float
    label: str
    title: str
    chosen: bool = False
    low: float = 0.0  # y of the ends of its interval
    high: float = 0.0
    size: float = 4.0  # radius


@dataclass(frozen=True)
class Plot:
    """Points on a grid; ``series`` by name, each in its order."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    ups: tuple[tuple[float, str], ...]  # y and text of the lines across
    acrosses: tuple[tuple[float, str], ...]  # x and text below
    series: Mapping[str, tuple[Dot, ...]]

    def line(self, name: str) -> str:
        """The points of a polyline through a series."""
        return " ".join(f"{dot.x},{dot.y}" for dot in self.series[name])


def profile(cuts: Sequence[Tried], stages: Sequence[str], *, plain: bool) -> Plot | None:
    """How well features of each stage serve, from the input to the output of the network.

    Stages side by side are drawn where the last of them is; ``plain`` scores are no shares. None
    where there is but one stage.
    """
    singles = [item for item in cuts if len(item.stages) == 1]
    if len(singles) < 2:
        return None
    scale = axis([item.score for item in cuts], percent=True)
    place = {item.stages[0]: n for n, item in enumerate(singles)}
    step = (WIDTH - _LEFT - _RIGHT - 48) / (len(singles) - 1)

    def told(score: float) -> str:
        return f"{score:.3f}" if plain else f"{100 * score:.1f} %"

    def dot(item: Tried) -> Dot:
        name = " + ".join(item.stages)
        cost = f"{100 * item.share:.0f} % of the computation"
        return Dot(
            x=round(_LEFT + 24 + place[item.stages[-1]] * step, 1),
            y=round(HEIGHT - _BOTTOM - scale.at(item.score) * (HEIGHT - _TOP - _BOTTOM), 1),
            label=item.stages[-1],
            title=f"{name}: {told(item.score)}, loss {item.loss:.3f}, {cost}",
            chosen=item.stages == tuple(stages),
        )

    alone = tuple(map(dot, singles))
    every = max(1, round(len(alone) / 8))  # labels that fit
    return Plot(
        width=WIDTH,
        height=HEIGHT,
        left=_LEFT,
        right=_RIGHT,
        top=_TOP,
        bottom=_BOTTOM,
        ups=tuple(
            (
                round(HEIGHT - _BOTTOM - scale.at(tick) * (HEIGHT - _TOP - _BOTTOM), 1),
                f"{tick:g}" if plain else f"{100 * tick:g} %",
            )
            for tick in scale.ticks
        ),
        acrosses=tuple(
            (point.x, _short(point.label))
            for n, point in enumerate(alone)
            if n % every == 0 or point.chosen
        ),
        series={
            "single": alone,
            "together": tuple(dot(item) for item in cuts if len(item.stages) > 1),
        },
    )


def reliability(after: Sequence[Bin], before: Sequence[Bin]) -> Plot:
    """How often answers are right by their probability, in a square from 0 to 1."""
    inner = _SQUARE - _LEFT - _RIGHT
    most = max((item.count for item in [*after, *before]), default=1)

    def y(value: float) -> float:
        return round(_TOP + (1 - value) * inner, 1)

    def dots(bins: Sequence[Bin]) -> tuple[Dot, ...]:
        return tuple(
            Dot(
                x=round(_LEFT + item.confidence * inner, 1),
                y=y(item.accuracy),
                label=str(item.count),
                title=f"{item.count} answers of about {100 * item.confidence:.0f} %: "
                f"{100 * item.accuracy:.0f} % are right",
                low=y(item.interval[0]),
                high=y(item.interval[1]),
                size=round(2.5 + 4.5 * (item.count / most) ** 0.5, 1),
            )
            for item in bins
        )

    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    return Plot(
        width=_SQUARE,
        height=_TOP + inner + _BOTTOM,
        left=_LEFT,
        right=_RIGHT,
        top=_TOP,
        bottom=_BOTTOM,
        ups=tuple((y(tick), f"{100 * tick:.0f} %") for tick in ticks),
        acrosses=tuple((round(_LEFT + t * inner, 1), f"{100 * t:.0f} %") for t in ticks),
        series={"after": dots(after), "before": dots(before)},
    )


def _short(name: str, letters: int = 12) -> str:
    """The end of a long name, which tells layers apart."""
    return name if len(name) <= letters else "…" + name[1 - letters :]
