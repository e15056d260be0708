from __future__ import annotations

import os
import time
from pathlib import Path

from hub_client.partial import move_partial, own_path, sweep


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    dead, alive = own_path(tmp_path), own_path(tmp_path)
    alone = [tmp_path / "v.part.json", tmp_path / "v.part.json.new", tmp_path / "v.tlhub-part.json"]
    used = [tmp_path / "w.part", tmp_path / "w.part.json", tmp_path / "config.json"]
    yesterday = time.time() - 86400
    for path in (dead, *alone, *used):
        path.write_bytes(b"half")
        os.utime(path, (yesterday, yesterday))
    alive.write_bytes(b"half")
    sweep(tmp_path)
    sweep(tmp_path / "nowhere")
    assert sorted(tmp_path.iterdir()) == sorted([alive, *used])


def test_a_whole_file_gets_its_name_and_nothing_stays_beside(tmp_path: Path) -> None:
    part = tmp_path / "w.part"
    for path in (part, tmp_path / "w.part.json", tmp_path / "w.part.json.new"):
        path.write_bytes(b"whole")
    move_partial(part, tmp_path / "w.bin")
    assert list(tmp_path.iterdir()) == [tmp_path / "w.bin"]
