from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path

import pytest

from catalog import disk
from catalog.errors import (
    AccessError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    StorageError,
    TlhubError,
)
from catalog.record import Artifact, Digest
from hub_client.network import Http, HttpSettings
from hub_client.patience import Patience
from hub_client.sources.single import wish_for
from hub_client.transfer import Received, Wish, download

QUICK = Patience(tries=4, first_wait_s=0.01)


def digest_of(body: bytes, digits: int = 64) -> Digest:
    value = hashlib.sha256(body).hexdigest()[:digits]
    return Digest(algorithm="sha256", value=value, prefix=digits < 64)


@pytest.fixture
def get(tmp_path):
    """Download into one partial, with little waiting; what is not said of the file is known."""
    http = Http()
    partial = tmp_path / "tmp" / "w.part"

    def run(url: str, digest: Digest | None, size_bytes: int | None = None) -> Received:
        wish = Wish(url=url, label="w.bin", digest=digest, size_bytes=size_bytes)
        return download(wish, partial, http, patience=QUICK)

    run.partial = partial
    yield run
    http.close()


def nothing_left(partial: Path) -> bool:
    return not partial.exists() and not partial.with_name(partial.name + ".json").exists()


def test_bytes_are_received_hashed_and_counted(server, served, data, get):
    server.files["/w"] = served(data, etag='"1"')
    received = get(server.url("/w"), digest_of(data), len(data))
    assert received.path.read_bytes() == data
    assert (received.sha256, received.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert server.asked("/w", "accept-encoding") == ["identity"]


def test_gits_name_is_checked_of_a_file_of_unknown_size(server, served, data, get):
    name = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    digest = Digest(algorithm="git-sha1", value=name)
    url = server.url("/w")
    wish = wish_for(Artifact(path="w.bin", format="pytorch", urls=(url,), digest=digest), url)
    server.files["/w"] = served(data, etag='"1"')
    with contextlib.closing(Http()) as http:
        assert download(wish, get.partial, http).path.read_bytes() == data
        server.files["/w"] = served(data[::-1], etag='"2"')
        with pytest.raises(IntegrityError, match=f"expected git sha1 {name}"):
            download(wish, get.partial, http, patience=QUICK)
    assert nothing_left(get.partial)


def test_a_dropped_line_is_resumed_where_it_broke(server, served, data, get):
    server.files["/w"] = served(data, etag='"1"', drops=[1_000_000, 2_000_000])
    assert get(server.url("/w"), digest_of(data)).path.read_bytes() == data
    first, second, third = server.asked("/w", "range")
    assert first is None
    assert 0 < int(re.fullmatch(r"bytes=(\d+)-", second)[1]) <= 1_000_000
    assert 1_000_000 <= int(re.fullmatch(r"bytes=(\d+)-", third)[1]) <= 2_000_000
    assert server.asked("/w", "if-range") == [None, '"1"', '"1"']


def test_a_line_that_drops_every_time_is_finished_as_long_as_it_brings_something(
    server, served, data, get
):
    every = list(range(150_000, len(data), 150_000))
    server.files["/w"] = served(data, etag='"1"', drops=every)
    assert len(every) > QUICK.tries
    assert get(server.url("/w"), digest_of(data)).path.read_bytes() == data


def test_a_line_that_brings_nothing_new_is_given_up(server, served, data, get):
    server.files["/w"] = served(data, etag='"1"', drops=[700_000] * 50, ranges=False)
    with pytest.raises(NetworkError, match="ended after 700000 bytes"):
        get(server.url("/w"), digest_of(data))
    assert len(server.log) <= 2 * QUICK.tries


def test_a_server_that_ignores_ranges_starts_over(server, served, data, get):
    server.files["/w"] = served(data, etag='"1"', drops=[1_000_000], ranges=False)
    assert get(server.url("/w"), digest_of(data)).path.read_bytes() == data


def test_a_file_replaced_between_two_requests_is_fetched_anew(server, served, data, get):
    new = data[::-1]

    def replace(file):
        file.body, file.etag = new, '"2"'

    server.files["/w"] = served(data, etag='"1"', drops=[1_000_000], then=[replace])
    assert get(server.url("/w"), digest_of(new)).path.read_bytes() == new


def test_a_file_replaced_behind_the_same_etag_is_fetched_anew(server, served, data, get):
    new = data[::-1]

    def replace(file):
        file.body = new

    server.files["/w"] = served(data, etag='"1"', drops=[1_000_000], then=[replace])
    assert get(server.url("/w"), digest_of(new)).path.read_bytes() == new
    assert server.asked("/w", "range")[-1] is None


def test_busy_servers_are_asked_again_and_retry_after_is_kept(server, served, data, get):
    server.files["/w"] = served(data, statuses=[503, 429], headers={"Retry-After": "0"})
    assert get(server.url("/w"), digest_of(data)).path.read_bytes() == data


def test_a_server_that_asks_for_an_hour_is_not_waited_for(server, served, data, get):
    server.files["/w"] = served(data, statuses=[429], headers={"Retry-After": "3600"})
    with pytest.raises(NetworkError, match="asks to wait 3600 s"):
        get(server.url("/w"), digest_of(data))


def test_a_flipped_bit_is_an_integrity_error_and_leaves_nothing(server, served, data, get):
    wrong = bytearray(data)
    wrong[1_234_567] ^= 1
    server.files["/w"] = served(bytes(wrong), etag='"1"')
    with pytest.raises(IntegrityError) as caught:
        get(server.url("/w"), digest_of(data), len(data))
    for part in (digest_of(data).value, hashlib.sha256(wrong).hexdigest(), server.url("/w")):
        assert part in caught.value.message
    assert "deleted" in caught.value.message
    assert nothing_left(get.partial)


def test_a_digest_prefix_is_checked_too(server, served, data, get):
    server.files["/w"] = served(data)
    assert get(server.url("/w"), digest_of(data, 8)).size_bytes == len(data)
    with pytest.raises(IntegrityError, match="beginning with"):
        get(server.url("/w"), digest_of(data[1:], 8))


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha384"])
def test_digests_of_other_algorithms_are_checked_too(server, served, data, get, algorithm):
    server.files["/w"] = served(data)
    right = hashlib.new(algorithm, data).hexdigest()
    assert get(server.url("/w"), Digest(algorithm=algorithm, value=right)).size_bytes == len(data)
    with pytest.raises(IntegrityError, match=algorithm):
        get(server.url("/w"), Digest(algorithm=algorithm, value=right[::-1]))


@pytest.mark.parametrize("body", [b"short", b"x" * 9_000_000])
def test_another_length_than_the_records_ends_it_at_once(server, served, data, get, body):
    server.files["/w"] = served(body)
    with pytest.raises(IntegrityError, match=f"announces {len(body)} bytes, expected {len(data)}"):
        get(server.url("/w"), digest_of(data), len(data))
    assert nothing_left(get.partial)


def test_a_body_cut_short_for_good_is_a_network_error(server, served, data, get):
    server.files["/w"] = served(data[:1_000_000], announced=len(data), ranges=False)
    server.files["/w"].then = [lambda _: None] * 20
    server.files["/w"].drops = [999_999] * 20
    with pytest.raises(NetworkError):
        get(server.url("/w"), digest_of(data), len(data))


def test_a_body_of_unknown_length_is_taken_to_its_end(server, served, data, get):
    server.files["/w"] = served(data, lengthless=True)
    assert get(server.url("/w"), digest_of(data)).path.read_bytes() == data
    assert len(server.log) == 1
    server.files["/w"].body = data[:-1]
    with pytest.raises(IntegrityError):
        get(server.url("/w?again"), digest_of(data))


def test_an_unasked_encoding_is_named(server, served, data, get):
    server.files["/w"] = served(data, headers={"Content-Encoding": "gzip"})
    with pytest.raises(NetworkError, match=r"packed with gzip.*nothing was kept"):
        get(server.url("/w"), digest_of(data))


def test_a_partial_of_another_url_or_longer_than_the_file_is_not_taken_up(
    server, served, data, get
):
    server.files["/a"] = served(data, etag='"1"', drops=[500_000] * 9, ranges=False)
    server.files["/b"] = served(data, etag='"1"')
    with pytest.raises(NetworkError):
        get(server.url("/a"), digest_of(data))
    assert get.partial.stat().st_size > 0
    assert get(server.url("/b"), digest_of(data)).path.read_bytes() == data
    assert server.asked("/b", "range") == [None]


def test_what_a_partial_holds_is_hashed_again(server, served, data, get):
    server.files["/w"] = served(data, etag='"1"', drops=[1_000_000], statuses=[])
    server.files["/w"].then = [lambda file: file.statuses.extend([404])]
    with pytest.raises(NotFoundError):
        get(server.url("/w"), digest_of(data))
    with get.partial.open("r+b") as partial:  # the disk, or a crash of the machine
        partial.seek(1000)
        partial.write(b"\0\0\0\0")
    assert get(server.url("/w"), digest_of(data)).path.read_bytes() == data
    assert server.asked("/w", "range")[-1] is None  # the resumed bytes were wrong: all anew


def test_a_whole_partial_needs_no_request(server, served, data, get):
    server.files["/w"] = served(data, etag='"1"')
    get(server.url("/w"), digest_of(data))  # killed before it was moved to its place
    server.files.clear()
    assert get(server.url("/w"), digest_of(data)).path.read_bytes() == data
    assert len(server.log) == 1


def test_credentials_go_to_their_origin_alone(server, other_server, served, data, get):
    there = other_server.url("/w")
    server.files["/w"] = served(b"", statuses=[302], headers={"Location": there})
    other_server.files["/w"] = served(data)
    url = server.url("/w").replace("http://", "http://me:secret@")
    get(url, digest_of(data))
    assert server.asked("/w", "authorization") == ["Basic bWU6c2VjcmV0"]
    assert other_server.asked("/w", "authorization") == [None]
    sidecar = get.partial.with_name(get.partial.name + ".json")
    assert "secret" not in sidecar.read_text()


def test_netrc_credentials_go_to_their_host_alone(
    server, other_server, served, data, get, tmp_path, monkeypatch
):
    (tmp_path / "netrc").write_text("machine localhost login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    there = other_server.url("/w").replace("127.0.0.1", "localhost")
    server.files["/w"] = served(b"", statuses=[302], headers={"Location": there})
    other_server.files["/w"] = served(data)
    get(server.url("/w"), digest_of(data))
    assert server.asked("/w", "authorization") == [None]
    assert other_server.asked("/w", "authorization") == ["Basic bWU6c2VjcmV0"]


@pytest.mark.parametrize(
    "target", ["file:///etc/hostname", "ftp://127.0.0.1/w", "/w", "http://[x", "http://a:b/"]
)
def test_a_redirect_to_nowhere_or_out_of_http_is_refused(server, served, data, get, target):
    headers = {"Location": target}
    server.files["/w"] = served(b"", statuses=[302] * 30, headers=headers)
    with pytest.raises(NetworkError, match="redirects"):
        get(server.url("/w"), digest_of(data))
    assert nothing_left(get.partial)


def test_messages_hold_no_credentials(server, served, data, get):
    server.files["/w"] = served(data)
    url = server.url("/w?token=hidden").replace("http://", "http://me:secret@")
    with pytest.raises(IntegrityError) as caught:
        get(url, digest_of(data[1:]))
    assert "secret" not in caught.value.message
    assert "hidden" not in caught.value.message


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFoundError), (403, AccessError), (400, NetworkError)]
)
def test_a_refusal_is_not_asked_twice(server, served, data, get, status, error):
    server.files["/w"] = served(data, statuses=[status] * 9)
    with pytest.raises(error, match=str(status)):
        get(server.url("/w"), digest_of(data))
    assert len(server.log) == 1


def test_a_closed_port_is_named(server, data, get):
    server.close()
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:\d+ refused the connection") as caught:
        get(server.url("/w"), digest_of(data))
    assert caught.value.hint


def test_a_proxy_that_is_down_is_named_and_not_the_host(server, data, tmp_path):
    server.close()
    http = Http(HttpSettings(proxy=server.url().replace("//", "//me:secret@")))
    wish = Wish(url="http://weights.example/w", label="w", digest=digest_of(data))
    with pytest.raises(NetworkError, match=r"the proxy http://127\.0\.0\.1:\d+ refused"):
        download(wish, tmp_path / "w.part", http, patience=QUICK)
    http.close()


def test_certificates_that_are_not_there_are_not_passed_over(tmp_path):
    with pytest.raises(TlhubError, match=r"the certificates in .*none\.pem cannot be read"):
        Http(HttpSettings(cert=tmp_path / "none.pem"))


def test_room_is_looked_for_before_the_first_byte(server, served, data, get, monkeypatch):
    server.files["/w"] = served(data)
    usage = disk.shutil.disk_usage(get.partial.anchor)._replace(free=1_000_000)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match=r"1\.0 MB free, 3\.0 MB are needed"):
        get(server.url("/w"), digest_of(data))
    assert nothing_left(get.partial)


@pytest.mark.parametrize("status", [204, 206, 416])
def test_an_answer_without_the_file_leaves_nothing(server, served, data, get, status):
    server.files["/w"] = served(data, statuses=[status] * 8)
    said = "not asked for" if status == 206 else f"answered {status}"
    with pytest.raises(NetworkError, match=said):
        get(server.url("/w"), digest_of(data))
    assert nothing_left(get.partial)
