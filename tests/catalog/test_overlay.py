from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from catalog.errors import IntegrityError, StorageError, UsageError
from catalog.overlay import Changes, Overlay
from catalog.record import ModelRecord, decode


@pytest.fixture
def own(tmp_path: Path) -> Overlay:
    return Overlay.open(tmp_path / "home" / "catalog.sqlite")


def record(number: int, **said: object) -> ModelRecord:
    return ModelRecord(uid=f"own/m{number:05}", **said)


def test_nothing_is_there_and_nothing_is_made_by_looking(own: Overlay) -> None:
    assert (own.version, own.get("own/a"), own.cursor("x"), own.origin("own/a")) == (0, *[None] * 3)
    assert [*own.uids(), *own.records(), *own.changes()] == []
    assert not own.remove("own/a")
    assert not own.path.parent.exists()


def test_records_and_cursors_are_kept_and_changes_told_apart(own: Overlay) -> None:
    many = [record(n) for n in range(2500)]
    assert own.put(many, "hf", cursors={"a": "1", "b": "2"}) == Changes(new=2500)
    assert (own.cursor("a"), own.cursor("b")) == ("1", "2")
    before = own.version
    assert own.put([many[0], record(1, params=5), record(9999)], "hf") == Changes(1, 1, 1)
    assert {uid for uid, _ in own.changes(before)} == {"own/m00001", "own/m09999"}
    assert own.remove("own/m00002")
    assert dict(own.changes(before))["own/m00002"] is None
    assert own.put([record(2)], "own") == Changes(new=1)
    assert list(own.uids("own")) == ["own/m00002"]
    assert len(list(own.uids())) == len(list(own.records())) == 2501
    assert [decode(line).uid for line in own.records()] == list(own.uids())


def test_what_a_user_added_is_not_replaced_by_a_sync(own: Overlay) -> None:
    own.put([record(1, params=1)], "own")
    assert own.put([record(1, params=2)], "hf") == Changes(unchanged=1)
    assert own.put([record(1, params=3)], "own") == Changes(changed=1)
    assert b"3" in (own.get("own/m00001") or b"")


def test_a_put_that_fails_leaves_what_was_there(own: Overlay) -> None:
    own.put([record(1)], "hf", cursors={"a": "1"})

    def broken() -> object:
        yield record(2)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        own.put(broken(), "hf", cursors={"a": "2"})  # type: ignore[arg-type]
    assert (list(own.uids()), own.cursor("a")) == (["own/m00001"], "1")


def test_what_a_killed_process_wrote_is_all_there_or_not_at_all(own: Overlay) -> None:
    code = f"""
import os, signal, sqlite3
from pathlib import Path
from catalog import overlay
from catalog.record import ModelRecord
own = overlay.Overlay.open(Path({str(own.path)!r}))
own.put([ModelRecord(uid="own/a")], "hf", cursors={{"a": "1"}})
with own._writing() as database:
    database.execute("PRAGMA cache_size = 1")
    database.executemany("INSERT INTO records VALUES (?, 2, 'hf', ?)",
                         ((f"own/{{n}}", b"x" * 1000) for n in range(5000)))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert own.path.with_name(f"{own.path.name}-journal").exists()
    assert (list(own.uids()), own.cursor("a")) == (["own/a"], "1")


@pytest.mark.parametrize("body", [b"no database" * 500, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_file_is_said_with_what_to_do(own: Overlay, body: bytes) -> None:
    own.path.parent.mkdir()
    own.path.write_bytes(body)
    for use in (lambda: own.version, lambda: own.put([record(1)], "hf"), lambda: [*own.uids()]):
        with pytest.raises(IntegrityError, match="damaged") as caught:
            use()
        assert "tlhub catalog sync" in str(caught.value.hint)


def test_another_programs_and_a_newer_file_are_left_alone(own: Overlay) -> None:
    own.path.parent.mkdir()
    with sqlite3.connect(own.path) as database:
        database.execute("CREATE TABLE bookmarks (url TEXT)")
    database.close()
    with pytest.raises(IntegrityError, match="another program"):
        own.put([record(1)], "hf")
    own.path.unlink()
    own.put([record(1)], "hf")
    database = sqlite3.connect(own.path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(UsageError, match="newer"):
        own.get("own/a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_may_only_be_read_is_read(own: Overlay) -> None:
    own.put([record(1)], "hf")
    own.path.chmod(0o444)
    own.path.parent.chmod(0o555)
    try:
        assert list(own.uids()) == ["own/m00001"]
        with pytest.raises(StorageError, match="cannot be used"):
            own.put([record(2)], "hf")
    finally:
        own.path.parent.chmod(0o755)


def test_many_writers_wait_for_each_other(own: Overlay) -> None:
    def write(start: int) -> None:
        for n in range(start, start + 20):
            Overlay.open(own.path).put([record(n)], "hf")

    threads = [threading.Thread(target=write, args=(20 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(own.uids())) == 80
    assert own.version == 80
