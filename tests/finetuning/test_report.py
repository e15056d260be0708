from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from converters.folder import ModelFolder
from finetuning import drawing, report, worth
from finetuning.data.dataset import Dataset, Example
from finetuning.data.reading import read
from finetuning.nearest import Near, nearest
from finetuning.results.classes import ClassMetrics
from finetuning.scores import Answer, Bin

ODD = '<script>alert("x")</script> \'"&amp; \U0001f600 \u202eabc {{ 7*7 }}'


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def metrics_of(run: ModelFolder) -> ClassMetrics:
    return msgspec.json.decode((run.path / "metrics.json").read_bytes(), type=ClassMetrics)


def written(run: ModelFolder, metrics: ClassMetrics, data: Dataset, file: Path) -> Page:
    report.write(file, run.path, run.manifest, metrics, data)
    return Page(file.read_text(encoding="utf-8"))


def test_a_report_needs_nothing_from_outside_and_has_no_script(
    run: ModelFolder, data: Path
) -> None:
    html = (run.path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg")
        link = attributes.get("href")
        assert link is None or link[1:] in ids
    assert "url(" not in html
    assert "@import" not in html


def test_a_report_tells_the_whole_story(run: ModelFolder, data: Path, tmp_path: Path) -> None:
    metrics = metrics_of(run)
    wrong = Answer(file=metrics.split.test[0], label="across", predicted="down", score=0.987)
    near = {wrong.file: tuple(map(_near, metrics.split.train[:3]))}
    changed = msgspec.structs.replace(
        metrics,
        mistakes=(wrong,),
        nearest=near,
        worth=worth.Worth(more=200, gain=0.021, interval=(0.004, 0.034)),
    )
    page = written(run, changed, read(data), tmp_path / "report.html")
    text = " ".join(page.text.split())
    for said in (
        "Balanced accuracy",
        "Macro F1",
        "Labelling 200 more images is worth about 2.1 points (95 %: 0.4 points to 3.4 points)",
        "Which layer serves best",
        "Where the time went",
        "Most like it, of what it learned:",
        "down 99 %",
        "probability that it gave",
    ):
        assert said in text, said
    pictures = [attributes["src"] or "" for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) == 1 + 3 + len(metrics.sure)
    sizes = [
        max(Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2]))).size)
        for src in pictures
    ]
    assert max(sizes) <= 176
    assert sizes[1:4] == [min(size, 96) for size in sizes[1:4]]
    circles = [attributes for tag, attributes in page.elements if tag == "circle"]
    singles = sum(len(item.stages) == 1 for item in metrics.cuts)
    assert len(circles) == len(metrics.learning_curve) + singles + len(metrics.reliability)


def _near(name: str) -> Near:
    return Near(file=name, similarity=0.5)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.002, 0.004, "The curve is flat"),
        (0.001, 0.004, "The curve is flat"),
        (-0.01, 0.05, "It cannot be told what more"),
    ],
)
def test_what_more_data_are_worth_is_said_as_sure_as_it_is(
    run: ModelFolder, data: Path, tmp_path: Path, low: float, high: float, said: str
) -> None:
    found = worth.Worth(more=20, gain=0.002, interval=(low, high))
    changed = msgspec.structs.replace(metrics_of(run), worth=found)
    assert said in written(run, changed, read(data), tmp_path / "report.html").text


def test_hostile_labels_and_texts_are_shown_as_they_are(
    run: ModelFolder, data: Path, tmp_path: Path
) -> None:
    metrics = metrics_of(run)
    texts = tuple(Example(f"{ODD} {n}" + " x" * 400, f"{n}: {ODD}", str(n), 0) for n in range(4))
    wrong = Answer(file=texts[0].name, label=ODD, predicted=f"not {ODD}", score=0.9)
    sure = Answer(file=texts[1].name, label=ODD, predicted=ODD, score=0.9)
    changed = msgspec.structs.replace(
        metrics,
        modality="text",
        classes=tuple(msgspec.structs.replace(item, label=ODD) for item in metrics.classes),
        mistakes=(wrong,),
        sure=(sure,),
        nearest={wrong.file: (_near(texts[2].name), _near(texts[3].name))},
        command=f"tlhub finetune {ODD}",
    )
    dataset = Dataset(data, "classification", "text", (ODD,), texts, ())
    page = written(run, changed, dataset, tmp_path / "report.html")
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert page.text.count(f"{ODD} 0 x") == 1
    assert f"tlhub finetune {ODD}" in page.text
    assert len(re.findall(r"( x){200}", page.text)) == 0  # long texts are cut


def test_worth_follows_a_power_law_and_knows_what_is_flat() -> None:
    random = np.random.default_rng(0)

    def scorer(error: float) -> worth.Scorer:
        right = random.random(4000) > error
        return lambda weights: float(np.average(right, weights=weights))

    def curve(power: float) -> dict[int, list[worth.Scorer]]:
        return {n: [scorer(0.2 * (n / 400) ** -power) for _ in range(3)] for n in (100, 200, 400)}

    falling = worth.worth(curve(0.5), 4000, seed=0)
    assert falling is not None
    assert falling.more == 200
    assert falling.gain == pytest.approx(0.2 * (1 - 1.5**-0.5), abs=0.01)
    assert 0 < falling.interval[0] < falling.gain < falling.interval[1]
    flat = worth.worth(curve(0.0), 4000, seed=0)
    assert flat is not None
    assert flat.interval[0] < 0 < flat.interval[1] < 0.02
    assert worth.worth({4: [scorer(0.1)]}, 4000, seed=0) is None


def test_the_nearest_are_those_of_the_same_direction() -> None:
    random = np.random.default_rng(0)
    train = random.normal(0, 1, (20, 6)).astype(np.float32) * np.array([1, 1, 1, 1, 1, 1000])
    asked = train[[3, 7]] + 1e-3
    names = [str(n) for n in range(20)]
    found = nearest(train.astype(np.float32), names, asked.astype(np.float32), count=2)
    assert [item[0].file for item in found] == ["3", "7"]
    assert all(item[0].similarity > 0.999 > item[1].similarity for item in found)


def test_a_reliability_plot_puts_the_truth_on_its_diagonal() -> None:
    bins = [Bin(confidence=p, accuracy=p, interval=(p, p), count=10) for p in (0.05, 0.5, 0.95)]
    plot = drawing.reliability(bins, ())
    (x0, _), (x1, _) = plot.acrosses[0], plot.acrosses[-1]
    (y0, _), (y1, _) = plot.ups[0], plot.ups[-1]
    for dot in plot.series["after"]:
        assert (dot.x - x0) / (x1 - x0) == pytest.approx((dot.y - y0) / (y1 - y0), abs=0.01)
    assert plot.series["before"] == ()
