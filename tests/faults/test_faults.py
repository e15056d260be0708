"""A slice of `make faults`: rows with the command itself, and a few random rounds."""

from __future__ import annotations

import threading
import time
from multiprocessing import connection, forkserver
from pathlib import Path

import pytest

from benchmarks.faults import clients, report, rounds, rows
from benchmarks.faults.rows import Row
from benchmarks.faults.worker import Order

QUICK = (
    "right length, one bit flipped",
    "replaced midway",
    "killed, replaced, pulled again",
    "drops once, then sends another range",
    "redirected to another origin, with a token",
    "disk full (tmpfs of 3 MB)",
    "read-only cache, with the file",
    "a mirror with a wrong file",
)
MATRIX = {row.name: row for row in rows.matrix(kills=3, seed=1)}


@pytest.mark.parametrize("client", clients.OURS, ids=lambda client: client.name)
@pytest.mark.parametrize("name", QUICK)
def test_ends_with_the_right_bytes_or_a_clear_error(name: str, client: clients.Client) -> None:
    cell = rows.play(MATRIX[name], client)
    assert cell.good, cell.text


def test_the_table_says_when_a_client_keeps_a_wrong_file() -> None:
    cell = rows.play(MATRIX["right length, one bit flipped"], clients.HF)
    assert not cell.good
    assert "WRONG FILE" in cell.text


def test_random_rounds_leave_no_wrong_file_and_succeed_in_the_end() -> None:
    tally = rounds.play(range(12), seed=7, at_once=2)
    assert tally.good, tally
    assert tally.rounds == 12
    assert tally.kills
    assert tally.faults > 12


def test_how_a_process_ended_is_known_while_another_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "http://127.0.0.1:1"
    order = Order(f"{nobody}/x#sha256={'0' * 64}", nobody, tmp_path)
    process = rounds.Process(order, whole=False)
    connection.wait([process._fork.sentinel])
    read = forkserver.read_signed

    def slowly(descriptor: int) -> int:
        time.sleep(0.2)
        return read(descriptor)

    monkeypatch.setattr(forkserver, "read_signed", slowly)
    other = threading.Thread(target=lambda: rounds.Process(order, whole=False).wait())
    other.start()  # it asks how every process ended
    time.sleep(0.1)
    assert process.wait() == 5
    other.join()


@pytest.mark.slow
@pytest.mark.parametrize("client", clients.OURS, ids=lambda client: client.name)
@pytest.mark.parametrize("row", MATRIX.values(), ids=lambda row: row.name)
def test_every_row(row: Row, client: clients.Client) -> None:
    cell = rows.play(row, client)
    assert cell.good, cell.text


def test_the_page_has_every_row() -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    for row in rows.matrix(kills=50, seed=1):
        assert f"| {row.name} |" in text
    assert "Wrong files: 0." in text
