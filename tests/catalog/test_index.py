from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from catalog.search import Catalog

OPEN = "import sys; from pathlib import Path; from catalog.search import Catalog;"
ASK = OPEN + "print(Catalog.open(Path(sys.argv[1])).search('resnet50').total)"


def _index(cache: Path) -> Path:
    (found,) = (p for p in cache.iterdir() if p.is_dir())
    return found


def _total(cache: Path) -> int:
    return Catalog.open(cache).search("resnet50").total


def test_the_second_opening_uses_what_the_first_built(tmp_path: Path) -> None:
    total = _total(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in _index(tmp_path).iterdir()}
    assert _total(tmp_path) == total > 0
    assert before == {p: p.stat().st_mtime_ns for p in _index(tmp_path).iterdir()}


@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "unmarked"])
def test_an_index_that_is_not_whole_is_built_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    total = _total(tmp_path)
    largest = max(_index(tmp_path).iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    if damage == "cut":
        largest.write_bytes(data[:-100])
    elif damage == "flip":
        data[len(data) // 2] ^= 0xFF
        largest.write_bytes(data)
    elif damage == "remove":
        largest.unlink()
    else:
        (_index(tmp_path) / "complete.json").unlink()
    with caplog.at_level(logging.WARNING, "catalog.index"):
        assert _total(tmp_path) == total
    assert bool(caplog.records) == (damage in {"cut", "flip"})
    caplog.clear()
    assert _total(tmp_path) == total
    assert not caplog.records


def test_a_killed_build_leaves_nothing_a_reader_would_open(tmp_path: Path) -> None:
    slow = (
        "import time, catalog.index as i; i.flush = lambda p: time.sleep(60);"
        + OPEN
        + "Catalog.open(Path(sys.argv[1]))"
    )
    child = subprocess.Popen([sys.executable, "-c", slow, str(tmp_path)])
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".building-*/complete.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert list(tmp_path.glob(".building-*"))
    assert not list(tmp_path.glob("index-*"))
    assert _total(tmp_path) > 0
    assert not list(tmp_path.glob(".building-*"))


def test_two_processes_at_once_both_find_and_one_index_is_left(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", ASK, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    totals = {child.communicate(timeout=60)[0] for child in children}
    assert len(totals) == 1
    assert int(totals.pop()) > 0
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [_index(tmp_path).name]


def test_where_nothing_can_be_written_the_index_is_in_memory_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with caplog.at_level(logging.WARNING, "catalog.index"):
        assert _total(blocked / "cache") > 0
    assert "built in memory" in caplog.text


def test_a_cold_search_loads_nothing_heavy(tmp_path: Path) -> None:
    _total(tmp_path)
    code = (
        ASK + "; heavy = {'torch', 'timm', 'numpy', 'onnx', 'onnxruntime', 'httpx2', 'filelock',"
        "'huggingface_hub', 'difflib', 'tempfile'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", code.replace(", 'tempfile'", ""), str(tmp_path)], check=True
    )
