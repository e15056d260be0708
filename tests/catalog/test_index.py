from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import index as indexes
from catalog import snapshot
from catalog.document import figures
from catalog.errors import NotFoundError
from catalog.overlay import Overlay
from catalog.record import Evaluation, ModelRecord
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
    if damage in {"cut", "flip"}:
        data[len(data) // 2] ^= 0xFF
        largest.unlink()  # what may still be mapped into memory is not cut under a reader
        largest.write_bytes(data[:-100] if damage == "cut" else data)
    elif damage == "remove":
        largest.unlink()
    else:
        (_index(tmp_path) / "complete.json").unlink()
    with caplog.at_level(logging.WARNING, "catalog.index"):
        assert _total(tmp_path) == total
    assert len(caplog.records) == (damage in {"cut", "flip"})
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


@pytest.mark.parametrize("limit", [1 << 10, 100 << 10])
def test_on_a_full_disk_the_index_is_in_memory_with_a_warning(tmp_path: Path, limit: int) -> None:
    full = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
    done = subprocess.run(
        [sys.executable, "-c", full + ASK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) > 0
    assert "built in memory" in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


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


SHIPPED = "torchvision/resnet50.IMAGENET1K_V2"


def _own(number: int, **said: object) -> ModelRecord:
    return ModelRecord(uid=f"mine/zyxwv-{number:05}", task="image-classification", **said)  # type: ignore[arg-type]


def _grumps(value: float) -> Evaluation:
    return Evaluation(task_type="x", dataset="Mine", metric_type="grumps", value=value)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("records") / "few.jsonl.xz"
    snapshot.write(itertools.islice(snapshot.read(), 200), path)
    return path


def _places(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.glob("index-*"))


def test_own_records_are_found_filtered_sorted_shown_and_counted_with_those_that_ship(
    tmp_path: Path,
) -> None:
    path = tmp_path / "overlay.sqlite"
    shipped = Catalog.open(tmp_path / "cache", overlay=path)
    there = shipped.search().total
    score = _grumps(7.5)
    error = Evaluation(
        task_type="x", dataset="Mine", metric_type="moans", value=3.0, higher_is_better=False
    )
    Overlay.open(path).put(
        [
            _own(1, params=5, evals=(score, error)),
            _own(2, params=7, evals=(_grumps(9.0),)),
            ModelRecord(uid=SHIPPED, description="what I say of zyxwv", params=6),
        ],
        "own",
    )
    catalog = Catalog.open(tmp_path / "cache", overlay=path)
    assert catalog.search().total == there + 2
    found = catalog.search("zyxwv", sort="params")
    assert [r.uid for r in found.items] == [_own(1).uid, SHIPPED, _own(2).uid]
    assert found.facets["source"]["mine"] == 2
    assert catalog.search().facets["source"]["mine"] == 2
    assert catalog.get(SHIPPED).params == 6
    assert [r.uid for r in catalog.search("grumps:>8").items] == [_own(2).uid]
    ranked = catalog.search("sort:grumps", limit=3).items
    assert [r.uid for r in ranked[:2]] == [_own(2).uid, _own(1).uid]
    assert catalog.search("sort:moans@mine", limit=1).items[0].uid == _own(1).uid
    assert catalog.metrics["grumps"]
    assert not catalog.metrics["moans@mine"]
    uids = [r.uid for r in catalog.records()]
    assert uids == sorted(uids)
    assert len(uids) == there + 2
    assert {r.params for r in catalog.records() if r.uid == SHIPPED} == {6}


def test_what_is_changed_and_removed_later_is_seen_and_one_index_is_left(
    tmp_path: Path, few: Path
) -> None:
    own = Overlay.open(tmp_path / "overlay.sqlite")
    shipped = next(snapshot.read(few))

    def now() -> Catalog:
        return Catalog.open(tmp_path, few, own.path)

    own.put([_own(1), _own(2), ModelRecord(uid=shipped.uid)], "own")
    assert now().search("zyxwv").total == 2
    own.put([_own(2, description="grumbling"), _own(3)], "own")
    own.remove(_own(1).uid)
    own.remove(shipped.uid)
    assert now().search("grumbling").items == (_own(2, description="grumbling"),)
    assert now().search("zyxwv").total == 2
    assert now().get(shipped.uid) == shipped
    with pytest.raises(NotFoundError):
        now().get(_own(1).uid)
    assert len(_places(tmp_path)) == 2  # what ships, and that with one's own
    own.path.unlink()
    assert now().search("zyxwv").total == 0
    other = Overlay.open(tmp_path / "other.sqlite")
    other.put([_own(9)], "own")
    assert Catalog.open(tmp_path, few, other.path).search("zyxwv").items == (_own(9),)


def test_a_catalog_in_the_place_of_a_deleted_one_does_not_give_what_that_had(
    tmp_path: Path, few: Path
) -> None:
    own = Overlay.open(tmp_path / "overlay.sqlite")
    own.put([_own(1)], "own")
    assert Catalog.open(tmp_path, few, own.path).search("zyxwv").items == (_own(1),)
    own.path.write_bytes(b"")  # the inode and the version of the next are those of the last
    own.put([_own(2)], "own")
    assert Catalog.open(tmp_path, few, own.path).search("zyxwv").items == (_own(2),)


def test_a_catalog_made_before_it_had_an_id_is_searched_and_gets_one(
    tmp_path: Path, few: Path
) -> None:
    own = Overlay.open(tmp_path / "overlay.sqlite")
    own.put([_own(1)], "own")
    with contextlib.closing(sqlite3.connect(own.path)) as database, database:
        database.execute("DELETE FROM cursors")
    assert Catalog.open(tmp_path, few, own.path).search("zyxwv").items == (_own(1),)
    before = own.id
    own.put([_own(2)], "own")
    assert own.id != before
    assert Catalog.open(tmp_path, few, own.path).search("zyxwv").items == (_own(1), _own(2))
    assert len(_places(tmp_path)) == 2


def test_ties_are_in_the_order_of_uids_over_all_segments(tmp_path: Path) -> None:
    own = Overlay.open(tmp_path / "overlay.sqlite")
    for turn in range(3):  # each makes a segment
        records = [
            _own(n, params=100 + n % 2, evals=(_grumps(n % 4),) if n % 5 else ())
            for n in range(turn, 60, 3)
        ]
        own.put(reversed(records), "own")
        catalog = Catalog.open(tmp_path, overlay=own.path)
    whole = [*catalog.records()]
    for sort, sign in (("params", 1), ("gmacs", 1), ("top1", -1), ("grumps", -1)):

        def key(record: ModelRecord, sort: str = sort, sign: int = sign) -> tuple[object, ...]:
            known = {"params": record.params, "gmacs": record.gmacs, **figures(record)}
            value = known.get(sort)
            return value is None, sign * (value or 0), record.uid

        expected = [r.uid for r in sorted(whole, key=key)]
        for offset, limit in ((0, 37), (29, 20), (31, 1), (40, 30), (4000, 50), (8390, 40)):
            page = catalog.search(sort=sort, offset=offset, limit=limit).items
            assert [r.uid for r in page] == expected[offset : offset + limit], (sort, offset)
    pages = [catalog.search("zyxwv", offset=n, limit=7) for n in range(0, 60, 7)]
    assert len({r.uid for page in pages for r in page.items}) == pages[0].total == 60


def test_an_update_that_is_killed_leaves_the_old_index_and_is_done_by_the_next(
    tmp_path: Path, few: Path
) -> None:
    own = Overlay.open(tmp_path / "overlay.sqlite")
    own.put([_own(n) for n in range(500)], "own")
    for change in range(4):
        Catalog.open(tmp_path, few, own.path)
        before = _places(tmp_path)
        own.put([_own(n, description=f"turn{change}q") for n in range(500)], "own")
        stop = ("add_document", "commit", "_complete", "rename")[change]
        code = _DYING.replace("WHERE", stop)
        child = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(few), str(own.path)])
        assert child.returncode == -signal.SIGKILL
        if stop != "rename":
            assert _places(tmp_path) == before
        catalog = Catalog.open(tmp_path, few, own.path)
        assert catalog.search(f"turn{change}q").total == 500
        assert catalog.search("zyxwv").total == 500
        assert not list(tmp_path.glob(".building-*"))


_DYING = """
import os, signal, sys
from pathlib import Path
import catalog.index as indexes
from catalog.search import Catalog

die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
where = "WHERE"
if where == "_complete":
    indexes._complete = die
elif where == "rename":  # done, and the older one not yet removed
    indexes.shutil.rmtree = die
else:
    class Dying:
        def __init__(self, index): self.index, self.left = index, 300
        def writer(self, *given):
            self.inner = self.index.writer(*given)
            return self
        def __getattr__(self, name):
            if name == where:
                self.left -= 1
                if where == "commit" or not self.left:
                    die()
            return getattr(self.index if name == "searcher" else self.inner, name)
    bring = indexes._bring
    indexes._bring = lambda index, *rest: bring(Dying(index), *rest)
Catalog.open(*map(Path, sys.argv[1:]))
"""


def test_a_search_during_an_update_answers_with_what_is_committed(
    tmp_path: Path, few: Path
) -> None:
    own = Overlay.open(tmp_path / "overlay.sqlite")
    own.put([_own(1)], "own")
    Catalog.open(tmp_path, few, own.path)
    own.put([_own(2)], "own")
    waiting = (
        "import sys, time; import catalog.index as i; from pathlib import Path\n"
        "from catalog.search import Catalog\n"
        "def wait(*_): print('here', flush=True); time.sleep(60)\n"
        "i._complete = wait\n"
        "Catalog.open(*map(Path, sys.argv[1:]))"
    )
    command = [sys.executable, "-c", waiting, str(tmp_path), str(few), str(own.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        began = time.monotonic()
        assert Catalog.open(tmp_path, few, own.path).search("zyxwv").total == 1
        assert time.monotonic() - began < 20
        child.kill()
    assert Catalog.open(tmp_path, few, own.path).search("zyxwv").total == 2


@pytest.mark.parametrize("later", [0, 1])
def test_a_search_that_meets_the_end_of_an_update_has_what_was_updated(
    tmp_path: Path, few: Path, monkeypatch: pytest.MonkeyPatch, later: int
) -> None:
    own = Overlay.open(tmp_path / "overlay.sqlite")
    own.put([_own(1)], "own")
    Catalog.open(tmp_path, few, own.path)
    own.put([_own(2)], "own")

    @contextlib.contextmanager
    def just_then(_: Path, *, wait: bool) -> Iterator[bool]:
        monkeypatch.undo()
        command = [sys.executable, "-c", OPEN + "Catalog.open(*map(Path, sys.argv[1:]))"]
        subprocess.run([*command, str(tmp_path), str(few), str(own.path)], check=True)
        if later:
            own.put([_own(3)], "own")
            subprocess.run([*command, str(tmp_path), str(few), str(own.path)], check=True)
        yield wait

    monkeypatch.setattr(indexes, "_lock", just_then)
    assert Catalog.open(tmp_path, few, own.path).search("zyxwv").total == 2 + later


def test_where_nothing_can_be_written_own_records_are_found_too(tmp_path: Path, few: Path) -> None:
    own = Overlay.open(tmp_path / "overlay.sqlite")
    own.put([_own(1)], "own")
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert Catalog.open(blocked / "cache", few, own.path).search("zyxwv").total == 1


def test_indexes_unused_for_a_week_are_removed_and_used_ones_kept(tmp_path: Path) -> None:
    _total(tmp_path)
    (used,) = tmp_path.glob("index-*")
    long_ago = time.time() - 8 * 24 * 3600
    for name in ("index-of-old", "index-of-now"):
        (tmp_path / name).mkdir()
        for file in ("complete.json", "used"):
            (tmp_path / name / file).write_text("{}")
            os.utime(tmp_path / name / file, (long_ago, long_ago))
    (tmp_path / "index-of-now" / "used").touch()
    few = tmp_path / "few.jsonl.xz"
    snapshot.write([_own(1)], few)
    assert Catalog.open(tmp_path, few).search().total == 1
    assert "index-of-old" not in _places(tmp_path)
    assert {"index-of-now", used.name} <= set(_places(tmp_path))
    os.utime(used / "used", (long_ago, long_ago))
    _total(tmp_path)
    assert indexes._last_used(used) > long_ago
