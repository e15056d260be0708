from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from catalog.errors import NotFoundError
from catalog.record import ModelRecord
from converters.folder import Manifest, ModelFolder
from tlhub.cli.main import app

Metrics = dict[str, Any]


def run_folder(path: Path, created: str, wrong: list[str], **metrics: Any) -> ModelFolder:
    """What `finetune` leaves, as far as lists of runs look at it."""
    held = [f"a/{n}.png" for n in range(20)]

    def fill(folder: Path) -> Manifest:
        (folder / "model.onnx").write_bytes(b"0" * 2_000_000)
        facts = {"mistakes": [{"file": name} for name in wrong]}
        (folder / "metrics.json").write_text(json.dumps(facts))
        rows = "".join(f'"{name}",test,{n}\r\n' for n, name in enumerate(held))
        (folder / "split.csv").write_text("name,part,sha256\r\n" + rows, newline="")
        return Manifest(
            schema_version=1,
            kind="run",
            uid=f"run/{path.name}",
            created=created,
            record=ModelRecord(uid=f"run/{path.name}", base_model="test/tiny"),
            files={},
            run={
                "data": {"folder": "some/[red]photos", "classes": 2},
                "seed": 0,
                "command": "tlhub finetune",
                "seconds": 12.3,
                "metrics": {
                    "accuracy": 1 - len(wrong) / len(held),
                    "interval": [0.7, 0.99],
                    "baselines": {"majority": 0.5, "pixels": 0.6, "random_weights": None},
                    "head": "shrinkage LDA",
                    "stages": ["blocks.3", "blocks.4"],
                    **metrics,
                },
            },
        )

    return ModelFolder.create(path, fill)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run_folder(tmp_path / "old", "2026-01-02T03:04:05+00:00", ["a/0.png", "a/1.png"])
    wrong = [f"a/{n}.png" for n in range(10)]
    run_folder(tmp_path / "new", "2026-01-03T03:04:05+00:00", wrong, head="ridge regression")
    shutil.copytree(tmp_path / "old", tmp_path / "torn")
    (tmp_path / "torn" / "model.onnx").write_bytes(b"")
    return tmp_path


def cli(*arguments: str, columns: int = 200) -> Result:
    env = {"COLUMNS": str(columns), "NO_COLOR": "1"}
    return CliRunner().invoke(app, list(arguments), env=env)


def test_runs_prints_a_line_for_each_and_names_what_is_broken(folder: Path) -> None:
    done = cli("runs", str(folder))
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "new", "old"]
    for said in ("90.0% (70.0-99.0)", "60.0% pixels", "test/tiny", "[red]photos", "12 s", "2.0 MB"):
        assert said in lines[2]
    assert "shrinkage LDA on blocks.3 + blocks.4" in lines[2]
    assert f"skipped {folder / 'torn'}: " in done.stderr
    quiet = cli("runs", str(folder), "-q")
    assert quiet.stdout.split() == [str(folder / "new"), str(folder / "old")]
    answer = json.loads(cli("runs", str(folder), "--json").stdout)
    assert answer["runs"][0]["metrics"]["head"] == "ridge regression"
    assert [item["path"] for item in answer["broken"]] == [str(folder / "torn")]
    assert isinstance(cli("runs", str(folder / "nowhere")).exception, NotFoundError)


@pytest.mark.parametrize("columns", [200, 40])
def test_compare_puts_runs_side_by_side_and_says_what_is_sure(folder: Path, columns: int) -> None:
    pair = [str(folder / "old"), str(folder / "new")]
    text = cli("compare", *pair, columns=columns).stdout
    marked = [line.split()[1] for line in text.splitlines() if line.startswith("*")]
    assert marked == ["score", "strategy", "date"]
    assert "on the same 20 held out" in text
    assert "no sure difference" not in text
    assert "new against old: -40.0 points" in text
    answer = json.loads(cli("compare", *pair, "--json").stdout)
    assert answer["differences"] == ["score (95 %)", "strategy", "date"]
    [over] = answer["over_first"]
    assert over["value"] == pytest.approx(-0.4)
    assert over["interval"][0] < -0.4 < over["interval"][1] < 0
