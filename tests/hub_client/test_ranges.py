"""A file over several connections, with servers that do not play along."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from catalog.errors import IntegrityError, NetworkError
from catalog.record import Digest
from hub_client import ranges, spans
from hub_client.network import Http
from hub_client.patience import Patience
from hub_client.transfer import Received, Wish, download

BODY = random.Random(3).randbytes(12_000_000)
DIGEST = Digest(algorithm="sha256", value=hashlib.sha256(BODY).hexdigest())
SLOW_S = 0.01  # after each 64 KiB: 1.8 s in all over one connection

SMALL_STEPS = {
    "_LARGE_BYTES": 1 << 20,
    "_LOOK_S": 0.05,
    "_WARM_UP_S": 0.05,
    "_JUDGE_S": 0.1,
    "_SOON_S": 0.1,
}


@pytest.fixture
def several(monkeypatch):
    """What counts as a large file is small here."""
    for name, value in SMALL_STEPS.items():
        monkeypatch.setattr(ranges, name, value)
    monkeypatch.setattr(spans, "_PIECE_BYTES", 256 << 10)


@pytest.fixture
def get(several, tmp_path):
    http = Http()
    partial = tmp_path / "tmp" / "w.part"

    def run(url: str, digest: Digest | None = DIGEST, **more: object) -> Received:
        patience = Patience(**({"tries": 4, "first_wait_s": 0.01} | more))
        return download(Wish(url=url, label="w", digest=digest), partial, http, patience=patience)

    run.partial = partial
    yield run
    http.close()


def asked(server) -> list[tuple[int, int | None]]:
    """The ranges that were asked for."""
    found = [re.fullmatch(r"bytes=(\d+)-(\d*)", text or "") for text in server.asked("/w", "range")]
    return [(int(span[1]), int(span[2]) if span[2] else None) for span in found if span]


def test_a_slow_file_comes_over_several_connections_and_faster(server, served, get):
    server.files["/w"] = served(BODY, etag='"1"', pause_s=SLOW_S)
    began = time.monotonic()
    received = get(server.url("/w"))
    assert time.monotonic() - began < 0.7 * len(BODY) / 65536 * SLOW_S
    assert received.path.read_bytes() == BODY
    assert len(asked(server)) > 4
    assert set(server.asked("/w", "if-range")) == {None, '"1"'}


def test_a_fast_one_comes_over_one(server, served, get):
    server.files["/w"] = served(BODY, etag='"1"')
    assert get(server.url("/w")).path.read_bytes() == BODY
    assert len(server.log) == 1


def test_a_server_that_refuses_more_connections_is_asked_over_one(server, served, get):
    server.files["/w"] = served(BODY, etag='"1"', pause_s=SLOW_S / 2, at_once=1)
    assert get(server.url("/w")).path.read_bytes() == BODY


def test_a_server_that_only_says_it_knows_ranges_is_asked_over_one(server, served, get):
    server.files["/w"] = served(BODY, etag='"1"', pause_s=SLOW_S / 4, ranges=False)
    assert get(server.url("/w")).path.read_bytes() == BODY


def test_lines_that_drop_now_and_then_are_taken_up_again(server, served, get):
    drops = [2_000_000, 4_000_000, 7_000_000, 6_000_000, 9_000_000, 11_000_000]
    server.files["/w"] = served(BODY, etag='"1"', pause_s=SLOW_S / 2, drops=drops)
    assert get(server.url("/w"), tries=8).path.read_bytes() == BODY


def test_a_file_that_changes_between_its_ranges_is_never_mixed(server, served, get):
    new = BODY[::-1]

    def replace(file):
        file.body, file.etag, file.pause_s = new, '"2"', 0.0

    server.files["/w"] = served(BODY, etag='"1"', pause_s=SLOW_S, then=[replace])
    digest = Digest(algorithm="sha256", value=hashlib.sha256(new).hexdigest())
    assert get(server.url("/w"), digest).path.read_bytes() == new


def test_without_a_digest_the_etag_alone_keeps_two_files_apart(server, served, get):
    new = BODY[::-1]

    def replace(file):
        file.body, file.etag, file.pause_s = new, '"2"', 0.0

    server.files["/w"] = served(BODY, etag='"1"', pause_s=SLOW_S, then=[replace])
    assert get(server.url("/w"), None).path.read_bytes() == new


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
@pytest.mark.parametrize("died", [False, True])
def test_without_a_digest_no_other_version_is_joined_to_what_is_here(
    server, served, get, header, died
):
    old, new = BODY[:900_000], BODY[-900_000:]
    said = {"ETag": ('W/"1"', 'W/"2"'), "Last-Modified": ("Mon, 1 Jan", "Tue, 2 Jan")}[header]

    def replace(file):
        file.body, file.headers = new, {header: said[1]}

    server.files["/w"] = served(
        old, headers={header: said[0]}, heeds=False, drops=[500_000], then=[replace]
    )
    if died:
        with pytest.raises(NetworkError):
            get(server.url("/w"), None, tries=1)
    assert get(server.url("/w"), None).path.read_bytes() == new


def test_a_wrong_file_over_several_connections_is_refused_and_removed(server, served, get):
    wrong = bytearray(BODY)
    wrong[9_999_999] ^= 1
    server.files["/w"] = served(bytes(wrong), etag='"1"', pause_s=SLOW_S / 4)
    with pytest.raises(IntegrityError):
        get(server.url("/w"))
    assert list(get.partial.parent.iterdir()) == []


def test_a_line_that_trickles_is_given_up_for_a_new_one(server, served, get):
    server.files["/w"] = served(BODY[:900_000], etag='"1"', trickles=2)  # 2.7 s each
    digest = Digest(algorithm="sha256", value=hashlib.sha256(BODY[:900_000]).hexdigest())
    began = time.monotonic()
    received = get(server.url("/w"), digest, slowest_bytes_s=1e6, slow_s=0.4)
    assert received.path.read_bytes() == BODY[:900_000]
    assert time.monotonic() - began < 2
    assert len(server.log) == 3
    assert all(start > 0 for start, _ in asked(server))


PROGRAM = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    from catalog.record import Digest
    from hub_client import partial as partials, ranges, spans
    from hub_client.network import Http
    from hub_client.transfer import Wish, download
    url, value, partial, steps = sys.argv[1:]
    for name, step in json.loads(steps).items():
        setattr(ranges, name, step)
    spans._PIECE_BYTES, partials._SAVE_EVERY_S = 256 << 10, 0.02
    wish = Wish(url=url, label="w", digest=Digest(algorithm="sha256", value=value))
    print(download(wish, Path(partial), Http()).sha256)
    """
)


def test_killed_between_its_ranges_it_goes_on_with_what_is_missing(server, served, tmp_path):
    server.files["/w"] = served(BODY, etag='"1"', pause_s=4 * SLOW_S)
    partial = tmp_path / "w.part"
    steps = json.dumps(SMALL_STEPS)
    command = [sys.executable, "-c", PROGRAM, server.url("/w"), DIGEST.value, partial, steps]
    moments = random.Random(5)
    scattered = 0
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        seen = len(server.log)
        while len(server.log) == seen and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0.2, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        sidecar = partial.with_name("w.part.json")
        if sidecar.exists():
            scattered += len(json.loads(sidecar.read_bytes()).get("ranges", [])) > 1
    server.log.clear()
    server.files["/w"].pause_s = 0.0
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == DIGEST.value
    assert partial.read_bytes() == BODY
    assert scattered
    assert None not in server.asked("/w", "range")


def test_pieces_cover_the_file_once_whoever_takes_them():
    total = 1 << 30
    plan = spans.Spans([(0, total)])
    first = plan.first()
    plan.open_up(8)
    taken = [first]
    while plan:
        taken.append(plan.take(8))
    assert taken[0].left > 2 * taken[-1].left
    taken += [plan.take(8) for _ in range(3)]  # halves of what others are at
    edges = sorted((span.at, span.end) for span in taken)
    assert edges[0][0] == 0
    assert edges[-1][1] == total
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
