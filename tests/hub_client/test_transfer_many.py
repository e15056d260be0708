"""Many files at once."""

from __future__ import annotations

import hashlib
import random
import threading
import time

import pytest

from catalog.errors import IntegrityError, NotFoundError, StorageError
from catalog.record import Digest
from hub_client.network import Http, HttpSettings
from hub_client.patience import Patience
from hub_client.transfer import Received, Wish
from hub_client.transfer_many import download_many

QUICK = Patience(tries=3, first_wait_s=0.01)


@pytest.fixture
def http():
    http = Http(HttpSettings(connections=4))
    yield http
    http.close()


@pytest.fixture
def wishes(server, served, tmp_path):
    """Files of the server, and where to put them."""

    def make(bodies: list[bytes], **more: object) -> list[tuple[Wish, object]]:
        pairs = []
        for number, body in enumerate(bodies):
            server.files[f"/{number}"] = served(body)
            digest = Digest(algorithm="sha256", value=hashlib.sha256(body).hexdigest())
            url = server.url(f"/{number}")
            wish = Wish(url, f"{number}", digest, len(body), **more)
            pairs.append((wish, tmp_path / "parts" / f"{number}.part"))
        return pairs

    return make


def bodies(count: int) -> list[bytes]:
    numbers = random.Random(6)
    return [numbers.randbytes(numbers.randint(1, 5000)) for _ in range(count)]


def test_small_files_come_over_few_connections_and_leave_nothing_beside(
    server, wishes, http, tmp_path
):
    contents, told = bodies(150), []
    got = dict(download_many(wishes(contents), http, progress=lambda *step: told.append(step)))
    assert len(got) == 150
    for wish, received in got.items():
        assert isinstance(received, Received)
        assert received.path.read_bytes() == contents[int(wish.label)]
    assert len(list((tmp_path / "parts").iterdir())) == 150  # no sidecars
    total = sum(map(len, contents))
    assert told[-1] == ("150 files", total, total)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert len({headers["peer"] for _, _, headers in server.log}) <= 4


def test_small_and_large_are_mixed_and_one_that_fails_stops_no_other(
    server, served, wishes, http, tmp_path
):
    contents = [*bodies(20), random.Random(8).randbytes(3_000_000), b""]
    pairs = wishes(contents)
    server.files["/3"] = served(contents[3][::-1])
    del server.files["/5"]
    got = {wish.label: result for wish, result in download_many(pairs, http, patience=QUICK)}
    assert isinstance(got.pop("3"), IntegrityError)
    assert isinstance(got.pop("5"), NotFoundError)
    for label, received in got.items():
        assert received.path.read_bytes() == contents[int(label)]
    assert not (tmp_path / "parts" / "3.part").exists()


def test_git_names_are_checked(server, wishes, http):
    right = hashlib.sha1(b"blob 5\0hello").hexdigest()
    [(_, received)] = download_many(wishes([b"hello"], git_sha1=right), http)
    assert isinstance(received, Received)
    [(_, error)] = download_many(wishes([b"hello"], git_sha1=right[::-1]), http)
    assert isinstance(error, IntegrityError)
    assert right in error.message


def test_a_caller_who_goes_away_leaves_no_thread_behind(server, wishes, http):
    contents = bodies(100)
    pairs = wishes(contents)
    for number in range(100):
        server.files[f"/{number}"].latency_s = 0.15
    outcomes = download_many(pairs, http)
    next(outcomes)
    outcomes.close()
    asked = len(server.log)
    assert asked < 100
    assert len(server.log) == asked


@pytest.mark.parametrize("waits_for", ["an answer", "the rest", "another try"])
def test_ctrl_c_waits_for_no_server(server, wishes, http, waits_for):
    pairs = wishes([random.Random(1).randbytes(2_000_000)] * 2)
    for wish, _ in pairs:
        file = server.files[f"/{wish.label}"]
        if waits_for == "an answer":
            file.latency_s = 15
        elif waits_for == "the rest":
            file.pause_s = 15
        else:
            file.statuses, file.headers = [503] * 9, {"Retry-After": "15"}

    def stop(_label: str, _done: int, _total: int | None) -> None:
        if time.monotonic() > began + 0.5:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(download_many(pairs, http, progress=stop))
    assert time.monotonic() - began < 5
    assert not [thread for thread in threading.enumerate() if thread.name == "pull"]


def test_a_full_disk_ends_it(server, wishes, http, tmp_path):
    pairs = wishes(bodies(5))
    (tmp_path / "parts").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        list(download_many(pairs, http))


def test_nothing_is_nothing(http):
    assert list(download_many([], http)) == []
