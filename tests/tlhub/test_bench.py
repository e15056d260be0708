"""`tlhub bench`: what it times, what it keeps, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from catalog.record import ModelRecord
from converters.bench import Timing
from converters.folder import ONNX, FileEntry, Manifest, ModelFolder
from terminal import Run
from tlhub import benching
from tlhub.settings import Settings

MODEL = "pypi/efficientnet-lite0"
QUICK = ("--rounds", "1", "--seconds", "0", "--threads", "1")


@pytest.mark.index
def test_it_times_each_way_and_show_has_it(tlhub: Run, home: Path) -> None:
    done = tlhub("bench", MODEL, *QUICK, "--batch", "1", "--batch", "3", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    rows = answer["models"][MODEL]
    ways = [(row["engine"], row["batch"], row["threads"]) for row in rows]
    assert ways == [(e, b, 1) for b in (1, 3) for e in ("onnxruntime", "torch")]
    for row in rows:
        assert 0 < row["median_ms"] <= row["p90_ms"] < row["cold_start_s"] * 1e3
        assert row["per_second"] == pytest.approx(row["batch"] * 1e3 / row["median_ms"], rel=0.01)
        assert row["peak_rss_bytes"] > 30e6
    assert "cores" in answer["machine"]

    again = tlhub("bench", MODEL, *QUICK, "--batch", "1", "--engine", "onnxruntime")
    assert again.returncode == 0, again.stderr
    shown = json.loads(tlhub("show", MODEL, "--json").stdout)["measured"]
    [graph] = shown
    assert graph["machine"] == answer["machine"]
    kept = [(t["engine"], t["batch"], t["threads"]) for t in graph["timings"]]
    assert sorted(kept) == sorted(ways)  # one way was timed again, and replaced
    assert "measured here" in tlhub("show", MODEL).stdout
    for file in (home / "measured").iterdir():  # what cannot be read was never measured
        file.write_text("{")
    assert "measured here" not in tlhub("show", MODEL).stdout


def test_what_was_timed_of_one_graph_is_not_said_of_another(tmp_path: Path) -> None:
    settings = Settings.load(home=tmp_path)
    figures = {"p90_ms": 0, "per_second": 0, "cold_start_s": 0, "peak_rss_bytes": 0}
    for graph, engine, ms in [("a", "onnxruntime", 1), ("b", "torch", 2), ("b", "torch", 3)]:
        manifest = Manifest(
            schema_version=1,
            kind="model",
            uid=MODEL,
            created="",
            record=ModelRecord(uid=MODEL),
            files={ONNX: FileEntry(sha256=graph * 64, size_bytes=1)},
        )
        timing = Timing(engine=engine, batch=1, threads=1, median_ms=ms, **figures)
        benching._keep(ModelFolder(tmp_path / graph, manifest), [timing], settings)
    kept = [[t["median_ms"] for t in one.timings] for one in benching.measured(MODEL, settings)]
    assert kept == [[1], [3]]


@pytest.mark.index
def test_an_engine_that_is_not_there_is_named(tlhub: Run) -> None:
    done = tlhub("bench", MODEL, *QUICK, "--engine", "tensorflow")
    assert done.returncode == 2
    assert "no engine 'tensorflow'" in done.stderr
    assert "onnxruntime, torch" in done.stderr
