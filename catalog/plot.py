"""A scatter plot of models as one SVG file that needs nothing else: what to pay, what to get."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from catalog.axes import Axis, axis
from catalog.disk import replacing
from catalog.record import ModelRecord
from catalog.scatter import COSTS, Point, Scatter

WIDTH, HEIGHT = 960, 600
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 24, 68, 64  # margins around the points
_LETTER, _LINE = 6.3, 13.0  # of a label, in px: an upper bound for a sans serif of 11 px
_LONGEST = 30  # letters of a label

_XMLNS = "http://www.w3.org/2000/svg"

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.paper { fill: #ffffff; } .title { font-size: 17px; font-weight: 600; }
.quiet { fill: #59636e; } .grid { stroke: #d8dee4; stroke-width: 1; }
.point { fill: #0a6bd6; fill-opacity: .35; }
.front { fill: none; stroke: #b93a00; stroke-width: 1.5; }
.best { fill: #b93a00; stroke: #ffffff; stroke-width: 1; }
.lead { stroke: #59636e; stroke-width: .7; }
.label { font-size: 11px; paint-order: stroke; stroke: #ffffff; stroke-width: 3px;
  stroke-linejoin: round; pointer-events: none; }
a:hover circle, a:focus circle { fill-opacity: 1; stroke: #1f2328; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .paper { fill: #0d1117; } .quiet { fill: #9198a1; }
  .grid { stroke: #2b323b; } .point { fill: #58a6ff; } .front { stroke: #ffa657; }
  .best { fill: #ffa657; stroke: #0d1117; } .lead { stroke: #9198a1; }
  .label { stroke: #0d1117; }
  a:hover circle, a:focus circle { stroke: #e6edf3; }
}
"""


def save(svg: str, path: Path) -> None:
    """Write the plot; after any failure ``path`` is what it was before.

    Raises:
        StorageError: it cannot be written.
    """
    with replacing(path) as stream:
        stream.write(svg.encode("utf-8"))


def draw(plot: Scatter) -> str:
    """The plot as SVG text."""
    across = axis([p.x for p in plot.points], percent=plot.units[0] == "%")
    up = axis([p.y for p in plot.points], percent=plot.units[1] == "%")
    places = {p.record.uid: _place(p, across, up) for p in plot.points}
    best = {p.record.uid for p in plot.front}
    names = ", ".join(p.record.uid for p in plot.front)
    heading = f"{_plain(plot.y, plot)} against {_plain(plot.x, plot)}"
    models = "1 model" if len(plot.points) == 1 else f"{len(plot.points):,} models"
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    best_of = f"on the line the {len(plot.front)} that no other beats in both"
    parts = [
        f'<svg xmlns="{_XMLNS}" {size} role="figure" aria-labelledby="title desc">',
        f'<title id="title">{_text(heading)}</title>',
        f'<desc id="desc">{_text(f"{models}. None is better in both than: {names}.")}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{_LEFT}" y="28">{_text(heading)}</text>',
        f'<text class="quiet" x="{_LEFT}" y="48">{models}; {best_of}</text>',
        *_grid(plot, across, up),
        *(_dot(p, places, plot, "point", 3) for p in plot.points if p.record.uid not in best),
        f'<path class="front" d="{_steps([places[p.record.uid] for p in plot.front])}"/>',
        *(_dot(p, places, plot, "best", 4.5) for p in plot.front),
        *_labels(plot, places),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _place(point: Point, across: Axis, up: Axis) -> tuple[float, float]:
    """Where a point is in px, from the upper left."""
    x = _LEFT + across.at(point.x) * (WIDTH - _LEFT - _RIGHT)
    y = HEIGHT - _BOTTOM - up.at(point.y) * (HEIGHT - _TOP - _BOTTOM)
    return round(x, 1), round(y, 1)


def _grid(plot: Scatter, across: Axis, up: Axis) -> Iterable[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    for tick in across.ticks:
        x = round(_LEFT + across.at(tick) * (right - _LEFT), 1)
        yield f'<path class="grid" d="M{x} {_TOP}V{bottom}"/>'
        yield f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{_number(tick, plot.x)}</text>'
    for tick in up.ticks:
        y = round(bottom - up.at(tick) * (bottom - _TOP), 1)
        yield f'<path class="grid" d="M{_LEFT} {y}H{right}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{_number(tick, plot.y)}</text>'
    middle_x, middle_y = (_LEFT + right) / 2, (_TOP + bottom) / 2
    name = _text(_axis_name(plot, 0, across))
    yield f'<text x="{middle_x}" y="{HEIGHT - 18}" text-anchor="middle">{name}</text>'
    name = _text(_axis_name(plot, 1, up))
    turned = f'transform="rotate(-90 20 {middle_y})"'
    yield f'<text x="20" y="{middle_y}" text-anchor="middle" {turned}>{name}</text>'


def _axis_name(plot: Scatter, which: int, scale: Axis) -> str:
    name, unit = (plot.x, plot.y)[which], plot.units[which]
    text = COSTS.get(name, f"{name} on {plot.dataset}") + (f" in {unit}" if unit else "")
    notes = ["logarithmic"] if scale.log else []
    notes += ["less is better"] if plot.lower_is_better[which] and name not in COSTS else []
    return f"{text} ({', '.join(notes)})" if notes else text


def _plain(name: str, plot: Scatter) -> str:
    return name if name in COSTS else f"{name} on {plot.dataset}"


def _dot(
    point: Point, places: dict[str, tuple[float, float]], plot: Scatter, kind: str, radius: float
) -> str:
    record, (x, y) = point.record, places[point.record.uid]
    units = [f" {unit}" if unit else "" for unit in plot.units]
    said = f"{plot.x} {_number(point.x, plot.x, 4)}{units[0]}, "
    said += f"{plot.y} {_number(point.y, plot.y, 4)}{units[1]}"
    title = f"<title>{_text(record.uid)}\n{_text(said)}</title>"
    dot = f'<circle class="{kind}" cx="{x}" cy="{y}" r="{radius}">{title}</circle>'
    url = record.origin_url or ""
    if not re.match(r"https?://", url):
        return dot
    stop = "" if kind == "best" else ' tabindex="-1"'  # thousands of stops would be a trap
    return f"<a href={quoteattr(_legal(url))}{stop}>{dot}</a>"


def _steps(places: Sequence[tuple[float, float]]) -> str:
    """The border of what is beaten: to be as good one pays up to the next point."""
    (x, y), *rest = places
    return f"M{x} {y}" + "".join(f"H{x}V{y}" for x, y in rest)


def _labels(plot: Scatter, places: dict[str, tuple[float, float]]) -> Iterable[str]:
    """Names beside the best, where there is room: none over a point, a line or another name."""
    corners = [places[point.record.uid] for point in plot.front]
    taken = [*places.values()]
    for (x, y), (next_x, next_y) in pairwise(corners):
        taken += [*_between((x, y), (next_x, y)), *_between((next_x, y), (next_x, next_y))]
    boxes: list[tuple[float, float, float, float]] = []
    side = -1 if plot.lower_is_better[0] else 1
    rise = 1 if plot.lower_is_better[1] else -1
    spots = [(side * far, rise * high) for far, high in _SPOTS]
    spots += [(-side * 9, -rise * 9), (-side * 9, rise * 9)]
    for (x, y), point in zip(corners, plot.front, strict=True):
        name = _name(point.record)
        width = len(name) * _LETTER
        for right, down in spots:
            at, level = x + right, y + down
            start = at if right > 0 else at - width
            box = (start, level - _LINE / 2, start + width, level + _LINE / 2)
            far = abs(right) + abs(down) > 20
            lead = _between((x, y), (at, level)) if far else []
            if (
                not _inside(box)
                or any(_meet(box, other) for other in boxes)
                or any(_holds(box, dot) for dot in taken)
                or any(_holds(other, dot) for other in boxes for dot in lead)
            ):
                continue
            boxes.append(box)
            taken += lead
            if far:
                yield f'<path class="lead" d="M{x} {y}L{at:.1f} {level:.1f}"/>'
            anchor = "start" if right > 0 else "end"
            yield (
                f'<text class="label" x="{at:.1f}" y="{level + 4:.1f}" '
                f'text-anchor="{anchor}">{_text(name)}</text>'
            )
            break


def _between(a: tuple[float, float], b: tuple[float, float]) -> list[tuple[float, float]]:
    """Points along a straight line, some 4 px apart, without its ends."""
    steps = int(max(abs(b[0] - a[0]), abs(b[1] - a[1])) / 4)
    return [
        (a[0] + (b[0] - a[0]) * i / steps, a[1] + (b[1] - a[1]) * i / steps)
        for i in range(1, steps)
    ]


# How far to the better side, and how far up, a name may be from its point; the nearest first.
_SPOTS = (
    *((8, 0), (8, 8), (10, 16), (16, 26), (4, 30), (24, 38), (5, 48), (34, 52), (6, 66), (46, 68)),
    *((60, 86), (8, 90)),
)


def _name(record: ModelRecord) -> str:
    name = record.architecture or record.uid.partition("/")[2]
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _inside(box: tuple[float, float, float, float]) -> bool:
    left, top, right, bottom = box
    return left >= _LEFT and right <= WIDTH - 8 and top >= _TOP - 9 and bottom <= HEIGHT - _BOTTOM


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _holds(box: tuple[float, float, float, float], dot: tuple[float, float]) -> bool:
    return box[0] - 3 < dot[0] < box[2] + 3 and box[1] < dot[1] < box[3]


def _number(value: float, name: str, digits: int = 6) -> str:
    for size, unit in _UNITS:
        if abs(value) >= size:
            letter = "B" if (name, unit) == ("params", "G") else unit
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def _legal(text: str) -> str:
    """The text without what XML cannot hold."""
    return re.sub(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


def _text(text: str) -> str:
    return escape(_legal(text))
