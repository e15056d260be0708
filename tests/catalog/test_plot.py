from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest

from catalog import plot
from catalog.axes import axis
from catalog.errors import StorageError, UsageError
from catalog.record import Evaluation, ModelRecord
from catalog.scatter import scatter

SVG = "{http://www.w3.org/2000/svg}"


def top1(value: float, **more: object) -> Evaluation:
    said = {"task_type": "x", "dataset": "imagenet-1k", "metric_type": "top1", "unit": "%"}
    return Evaluation(value=value, **{**said, **more})  # type: ignore[arg-type]


def model(uid: str, params: int | None, value: float, **more: object) -> ModelRecord:
    said = {"params": params, "evals": (top1(value),), "architecture": uid[2:]}
    return ModelRecord(uid=uid, **{**said, **more})  # type: ignore[arg-type]


RECORDS = [
    model("a/tiny", 1_000_000, 60.0, origin_url="https://example.org/tiny?a=1&b=2"),
    model("a/worse", 2_000_000, 59.0),
    model("a/base", 20_000_000, 80.0),
    model("a/large", 300_000_000, 85.0, origin_url="javascript:alert(1)"),
    model("a/twice-as-large", 600_000_000, 85.0),
    model("a/unknown", None, 99.0),
]


def drawn(records: list[ModelRecord]) -> ET.Element:
    return ET.fromstring(plot.draw(scatter(records, "params", "top1", "imagenet-1k")))


def test_the_front_is_what_no_other_beats_in_both() -> None:
    found = scatter(RECORDS, "params", "top1", "imagenet-1k")
    assert len(found.points) == 5
    assert [p.record.uid for p in found.front] == ["a/tiny", "a/base", "a/large"]
    turned = scatter(RECORDS, "top1", "params", "imagenet-1k")
    assert [p.record.uid for p in turned.front] == ["a/tiny", "a/base", "a/large"]


def test_of_a_metric_that_is_better_low_the_front_is_low() -> None:
    def fid(value: float) -> tuple[Evaluation, ...]:
        return (top1(value, metric_type="fid", unit=None, higher_is_better=False),)

    records = [
        model("a/one", 1_000, 0.0, evals=fid(9.0)),
        model("a/two", 2_000, 0.0, evals=fid(3.0)),
        model("a/three", 3_000, 0.0, evals=fid(5.0)),
    ]
    found = scatter(records, "params", "fid", "imagenet-1k")
    assert [p.record.uid for p in found.front] == ["a/one", "a/two"]
    assert "less is better" in plot.draw(found)


def test_figures_of_another_kind_of_measurement_are_not_mixed_in() -> None:
    zero = model("b/clip", 10_000_000, 0.0, evals=(top1(70.0, config="zero-shot"),))
    found = scatter([*RECORDS, zero], "params", "top1", "imagenet-1k")
    assert (found.otherwise, len(found.points)) == (1, 5)
    assert len(scatter([zero], "params", "top1", "imagenet-1k").points) == 1


def test_the_figure_at_the_size_of_the_macs_is_taken() -> None:
    evals = (top1(81.0, eval_input_size=(3, 288, 288)), top1(80.0, eval_input_size=(3, 224, 224)))
    record = model("a/b", 1, 0.0, evals=evals, gmacs=4.0, gmacs_at=(3, 224, 224))
    (point,) = scatter([record], "gmacs", "top1", "imagenet-1k").points
    assert (point.x, point.y) == (4.0, 80.0)


def test_the_file_is_xml_with_a_tooltip_and_a_link_for_each_point() -> None:
    root = drawn(RECORDS)
    assert root.get("role") == "figure"
    labelled = {root.find(f"{SVG}{name}").get("id") for name in ("title", "desc")}  # type: ignore[union-attr]
    assert labelled == set((root.get("aria-labelledby") or "").split())
    titles = [t.text or "" for t in root.iterfind(f".//{SVG}circle/{SVG}title")]
    assert len(titles) == 5
    assert "a/base\nparams 20M, top1 80 %" in titles
    links = [a.get("href") for a in root.iter(f"{SVG}a")]
    assert links == ["https://example.org/tiny?a=1&b=2"]  # no script, and none made up
    assert "prefers-color-scheme: dark" in (root.find(f"{SVG}style").text or "")  # type: ignore[union-attr]


def test_hostile_text_stays_text() -> None:
    bad = '</title><script>alert(1)</script>"\x00\x1b&'
    root = drawn([model(f"a/{bad}", 1_000, 50.0, origin_url=f'https://e.org/"{bad}')])
    assert not list(root.iter(f"{SVG}script"))
    assert any("<script>" in (t.text or "") for t in root.iter(f"{SVG}title"))


def test_names_lie_on_nothing_and_within_the_plot() -> None:
    records = [model(f"a/net{i}", 1_000_000 * (i + 1) ** 2, 60.0 + i) for i in range(30)]
    root = drawn(records)
    dots = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in root.iter(f"{SVG}circle")]
    boxes = []
    for label in root.iterfind(f"{SVG}text[@class='label']"):
        x, y, width = (
            float(label.get("x", 0)),
            float(label.get("y", 0)),
            6.3 * len(label.text or ""),
        )
        left = x if label.get("text-anchor") == "start" else x - width
        boxes.append((left, y - 10, left + width, y + 2))
    assert len(boxes) > 10
    for a in boxes:
        assert a[0] >= 0
        assert a[2] <= plot.WIDTH
        assert not any(a[0] < x < a[2] and a[1] < y < a[3] for x, y in dots)
        assert sum(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in boxes) == 1


def test_what_no_model_knows_is_answered_with_what_there_is() -> None:
    for x, y, dataset, hint in (
        ("params", "speed", "imagenet-1k", "top1"),
        ("params", "top1", "imagenet-9k", "imagenet-1k"),
        ("gmacs", "top1", "imagenet-1k", "--x params"),
    ):
        with pytest.raises(UsageError) as caught:
            scatter(RECORDS, x, y, dataset)
        assert hint in (caught.value.hint or "")
    with pytest.raises(UsageError, match="no model to plot"):
        scatter([], "params", "top1", "imagenet-1k")


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ([1e6, 2e9], True),
        ([2.0, 50.0], True),
        ([1e-3, 1e9], True),
        ([10.0, 40.0], False),
        ([0.0, 1e9], False),
        ([-3.0, 4.0], False),
        ([5.0], False),
        ([0.75, 0.75 + 2e-14], False),
        ([-1e-13, 1e-13], False),
        ([0.0], False),
    ],
)
def test_an_axis_has_a_few_round_ticks_and_holds_every_value(
    values: list[float], log: bool
) -> None:
    found = axis(values)
    assert found.log is log
    assert 3 <= len(found.ticks) <= 12
    for value in [*values, *found.ticks]:
        assert -1e-9 <= found.at(value) <= 1 + 1e-9
    assert all(a < b for a, b in pairwise(found.ticks))
    assert all(len(f"{tick:.12g}".strip("-0.")) <= 5 or found.log for tick in found.ticks)


def test_percent_is_never_logarithmic() -> None:
    assert not axis([1.0, 90.0], percent=True).log


def test_a_plot_that_cannot_be_written_is_said_and_the_old_one_stays(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        plot.save("<svg/>", tmp_path / "nowhere" / "plot.svg")
    plot.save("<svg/>", tmp_path / "plot.svg")
    assert [p.name for p in tmp_path.iterdir()] == ["plot.svg"]
