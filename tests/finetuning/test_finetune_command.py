"""The options of `tlhub finetune` that say what the data are and how they are counted."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_texts
import typer

from converters.convert import convert
from converters.folder import ModelFolder
from terminal import Run
from tlhub.cli.main import app

GUIDE = Path(__file__).parents[2] / "docs" / "guide"


def _written(file: Path, rows: list[dict[str, Any]]) -> Path:
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return file


def _metrics(answer: str) -> dict[str, Any]:
    path = Path(json.loads(answer)["path"])
    found: dict[str, Any] = json.loads((path / "metrics.json").read_text())
    return found


def test_columns_groups_and_the_split_are_as_asked(
    tlhub: Run, tiny: ModelFolder, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    make_photos({"across": 24, "disc": 8}, tmp_path / "photos")
    rows = [
        {
            "number": n,
            "picture": f"photos/{file.parent.name}/{file.name}",
            "thumb": "none.png",
            "what": file.parent.name,
            "note": "x",
            "who": f"person {n // 4}",
        }
        for n, file in enumerate(sorted(tmp_path.glob("photos/*/*.png")))
    ]
    table = _written(tmp_path / "table.csv", rows)
    asked = (
        "finetune",
        tiny.path,
        "--data",
        table,
        "--budget",
        "fast",
        "--json",
        "--device",
        "cpu",
    )
    columns = ("--image-column", "picture", "--label-column", "what", "--group-column", "who")
    counted = ("--seed", "3", "--test-fraction", "0.5", "--balanced", "--kind", "classification")
    done = tlhub(*asked, "--out", tmp_path / "run", *columns, *counted)
    assert done.returncode == 0, done.stderr
    metrics = _metrics(done.stdout)
    assert (metrics["seed"], metrics["balanced"]) == (3, True)
    assert metrics["kind"] == "classification"
    assert metrics["split"]["test_fraction"] == 0.5
    assert metrics["n_train"] == metrics["n_test"] == 16
    person = {row["picture"]: row["who"] for row in rows}
    sides = [
        {person[name[name.index("photos/") :]] for name in metrics["split"][side]}
        for side in ("train", "test")
    ]
    assert not sides[0] & sides[1]
    assert metrics["score"]["measure"] == "balanced accuracy"


def test_the_column_of_texts_is_as_asked(tlhub: Run, tmp_path: Path) -> None:
    model = tiny_texts.network("bert")
    source = tiny_texts.save(model, tmp_path / "source")
    base = convert(tiny_texts.record_of(model), source, tmp_path / "model")
    rows = [
        {
            "title": f"a title {n % 5}",
            "body": f"the {('soup', 'rain')[n % 2]} {n}",
            "y": "ab"[n % 2],
        }
        for n in range(40)
    ]
    table = _written(tmp_path / "table.csv", rows)
    asked = ("finetune", base.path, "--data", table, "--out", tmp_path / "run", "--budget", "fast")
    done = tlhub(*asked, "--text-column", "body", "--label-column", "y", "--json")
    assert done.returncode == 0, done.stderr
    assert _metrics(done.stdout)["baselines"]["words"] == 1  # a title says nothing


@pytest.mark.parametrize(
    ("command", "page"),
    [
        ("finetune", "finetuning"),
        ("evaluate", "runs"),
        ("runs", "runs"),
        ("data check", "data"),
        ("data split", "data"),
    ],
)
def test_every_option_is_in_the_guide(command: str, page: str) -> None:
    found: Any = typer.main.get_command(app)
    for name in command.split():
        found = found.commands[name]
    options = {name for option in found.params for name in option.opts if name.startswith("--")}
    text = (GUIDE / f"{page}.md").read_text(encoding="utf-8")
    assert {name for name in options if name not in text} == set()


def test_evaluate_takes_the_columns_it_is_told_and_the_kind_of_the_model(
    tlhub: Run, tiny: ModelFolder, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    """Whole numbers from 1 to 5 would be classes, were it not for what the model says."""
    make_photos({"across": 12, "disc": 12}, tmp_path / "photos")
    rows = [
        {
            "thumb": "none.png",
            "picture": str(file.relative_to(tmp_path)),
            "grade": 1 + n % 5,
            "note": n % 2,
            "who": f"person {n // 2}",
        }
        for n, file in enumerate(sorted(tmp_path.glob("photos/*/*.png")))
    ]
    table = _written(tmp_path / "table.csv", rows)
    columns = ("--image-column", "picture", "--label-column", "grade", "--group-column", "who")
    checked = tlhub("data", "check", table, *columns, "--kind", "regression", "--json")
    assert json.loads(checked.stdout)["kind"] == "regression", checked.stderr
    run = tmp_path / "run"
    made = tlhub(
        *("finetune", tiny.path, "--data", table, "--out", run, "--budget", "fast"),
        *(*columns, "--kind", "regression", "--device", "cpu", "--json"),
    )
    assert made.returncode == 0, made.stderr
    asked = ("evaluate", run, "--data", table, *columns, "--device", "cpu", "--json")
    found = tlhub(*asked)
    assert found.returncode == 0, found.stderr
    said = json.loads((run / "metrics.json").read_text())
    r2 = json.loads(found.stdout)["measures"]["r2"]["value"]
    assert r2 == pytest.approx(said["score"]["value"])
    wrong = tlhub(*asked, "--kind", "classification")
    assert wrong.returncode == 2
    assert "is a model for regression" in wrong.stderr
