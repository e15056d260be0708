from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.errors import IntegrityError, StorageError, UnsafeError, UsageError
from catalog.record import ModelRecord
from converters import folder as folders
from converters.folder import SCHEMA_VERSION, Manifest, ModelFolder


def manifest(uid: str = "a/b") -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        kind="model",
        uid=uid,
        created="2026-01-01T00:00:00+00:00",
        record=ModelRecord(uid=uid),
        files={},
    )


def make(path: Path, text: str = "one", *, replace: bool = False) -> ModelFolder:
    def fill(work: Path) -> Manifest:
        (work / "model.onnx").write_text(text, encoding="utf-8")
        return manifest()

    return ModelFolder.create(path, fill, replace=replace)


def test_a_folder_is_made_whole_and_read_back(tmp_path: Path) -> None:
    made = make(tmp_path / "deep" / "m")
    assert ModelFolder.open(made.path).manifest == made.manifest
    assert [p.name for p in made.path.parent.iterdir()] == ["m"]
    made.verify()
    made.onnx.write_text("two", encoding="utf-8")
    with pytest.raises(IntegrityError, match="sha256"):
        made.verify()


def test_a_manifest_that_names_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "m")
    (tmp_path / "evil.txt").touch()
    file = tmp_path / "m" / "tlhub.json"
    said = json.loads(file.read_text(encoding="utf-8"))
    said["files"]["../evil.txt"] = {"sha256": hashlib.sha256().hexdigest(), "size_bytes": 0}
    file.write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(UnsafeError, match="outside"):
        ModelFolder.open(tmp_path / "m")


@pytest.mark.parametrize("rest", [b"[" * 100_000, b'"\xff"}'])
def test_a_manifest_that_nests_without_reason_or_is_no_text_is_refused(
    tmp_path: Path, rest: bytes
) -> None:
    (tmp_path / "tlhub.json").write_bytes(b'{"schema_version": 1, "x": ' + rest)
    with pytest.raises(IntegrityError, match="cannot be read"):
        ModelFolder.open(tmp_path)


def test_what_exists_is_replaced_only_when_asked_and_only_if_it_is_tlhubs(tmp_path: Path) -> None:
    make(tmp_path / "m", "one")
    with pytest.raises(UsageError, match="exists already"):
        make(tmp_path / "m", "two")
    assert make(tmp_path / "m", "two", replace=True).onnx.read_text(encoding="utf-8") == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").touch()
    with pytest.raises(UsageError, match="not replaced"):
        make(tmp_path / "photos", replace=True)
    assert (tmp_path / "photos" / "me.png").exists()


@pytest.mark.parametrize("can_exchange", [True, False])
def test_both_ways_of_replacing_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(folders, "exchange", lambda *_: False)
    make(tmp_path / "m", "one")
    make(tmp_path / "m", "two", replace=True)
    assert (tmp_path / "m" / "model.onnx").read_text(encoding="utf-8") == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_what_appears_in_the_meantime_is_not_lost(tmp_path: Path) -> None:
    place = tmp_path / "m"

    def fill(work: Path) -> Manifest:
        place.mkdir()
        (place / "precious.txt").touch()
        return manifest()

    for replace in (False, True):
        with pytest.raises(UsageError):
            ModelFolder.create(
                place, fill if not replace else lambda _: manifest(), replace=replace
            )
        assert (place / "precious.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_two_do_not_make_one_folder_at_once(tmp_path: Path) -> None:
    def fill(work: Path) -> Manifest:
        with pytest.raises(UsageError, match="another process"):
            make(tmp_path / "m")
        return manifest()

    ModelFolder.create(tmp_path / "m", fill)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    make(tmp_path / "m", "one")

    def fill(work: Path) -> Manifest:
        (work / "half").touch()
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="no space"):
        ModelFolder.create(tmp_path / "m", fill, replace=True)
    assert (tmp_path / "m" / "model.onnx").read_text(encoding="utf-8") == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


KILLED = """
import os, signal, sys
from pathlib import Path
from converters import folder
sys.path.insert(0, sys.argv[3])
from test_folder import make
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "between":
    folder.exchange = lambda *_: False
    rename = Path.rename
    Path.rename = lambda self, to: kill() if self.name.endswith("-new") else rename(self, to)
elif sys.argv[2] == "after":
    folder.flush = lambda p: kill() if p == Path(sys.argv[1]).parent else None
else:
    setattr(folder, sys.argv[2], kill)
make(Path(sys.argv[1]), "two", replace=True)
"""


@pytest.mark.parametrize(
    ("moment", "holds"), [("_entries", "one"), ("_put", "one"), ("after", "two"), ("between", None)]
)
def test_a_kill_leaves_the_old_folder_or_the_new_one(
    tmp_path: Path, moment: str, holds: str | None
) -> None:
    place = tmp_path / "m"
    make(place, "one")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, place, moment, Path(__file__).parent], check=False
    )
    assert done.returncode == -signal.SIGKILL
    if holds is not None:  # without an exchange in one step there is a moment with neither
        folder = ModelFolder.open(place)
        folder.verify()
        assert folder.onnx.read_text(encoding="utf-8") == holds
    make(place, "three", replace=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_the_umask_of_the_user_is_honored(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        made = make(tmp_path / "m")
    finally:
        os.umask(before)
    assert made.path.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in made.path.iterdir()} == {0o600}
