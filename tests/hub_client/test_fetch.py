from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import pytest

from catalog.errors import (
    IntegrityError,
    NetworkError,
    NotFoundError,
    OfflineError,
    StorageError,
    UsageError,
)
from hub_client.fetch import fetch
from hub_client.store import Store

PROGRAM = textwrap.dedent(
    """
    import resource, sys
    from pathlib import Path
    import msgspec
    from catalog.errors import TlhubError
    from catalog.record import Artifact
    from hub_client.fetch import fetch
    from hub_client.store import Store
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
    try:
        artifact = msgspec.json.decode(sys.argv[2], type=Artifact)
        print(*fetch([artifact], Store(Path(sys.argv[1]))).values())
    except TlhubError as error:
        sys.exit(f"{type(error).__name__}: {error} [{error.hint}]")
    """
)


def start(store, artifact, *more: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, store.home, msgspec.json.encode(artifact), *more]
    command = [part.decode() if isinstance(part, bytes) else str(part) for part in command]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_is_here_and_whole_needs_no_network(server, served, data, store, artifact):
    server.files["/w"] = served(data)
    wanted = [artifact(data, server.url("/w"))]
    told = []
    first = fetch(wanted, store, progress=lambda *step: told.append(step))
    assert first["w.bin"].read_bytes() == data
    assert told[-1] == ("w.bin", len(data), len(data))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert fetch(wanted, store) == fetch(wanted, store, offline=True) == first
    assert len(server.log) == 1


def test_a_flipped_bit_on_the_disk_is_noticed_and_mended(server, served, data, store, artifact):
    server.files["/w"] = served(data)
    wanted = [artifact(data, server.url("/w"))]
    blob = fetch(wanted, store)["w.bin"]
    wrong = bytearray(data)
    wrong[99] ^= 1
    blob.write_bytes(wrong)
    with pytest.raises(OfflineError):
        fetch(wanted, store, offline=True)
    assert fetch(wanted, store)["w.bin"].read_bytes() == data
    assert len(server.log) == 2


def test_offline_says_so_at_once_and_asks_nobody(server, served, data, store, artifact):
    server.files["/w"] = served(data)
    pypi = "pypi:no-such==1!w.bin"
    for url in (server.url("/w"), pypi, "hf:a/b@main!w.bin"):
        with pytest.raises(OfflineError, match=r"w\.bin is not in") as caught:
            fetch([artifact(data, url)], store, offline=True)
        assert "--offline" in caught.value.hint
    assert server.log == []


def test_the_next_place_is_tried_when_one_fails_or_lies(
    server, served, data, store, artifact, nothing_wrong_in
):
    server.files |= {"/lies": served(data[::-1]), "/right": served(data)}
    urls = [server.url(path) for path in ("/gone", "/lies", "/right")]
    assert fetch([artifact(data, *urls)], store)["w.bin"].read_bytes() == data
    nothing_wrong_in(store)


def test_when_no_place_helps_all_reasons_are_given_and_the_gravest_leads(
    server, other_server, served, data, store, artifact, nothing_left_in
):
    other_server.close()
    server.files["/lies"] = served(data[::-1])
    urls = [other_server.url("/down"), server.url("/lies"), server.url("/gone")]
    with pytest.raises(IntegrityError) as caught:
        fetch([artifact(data, *urls)], store)
    for reason in ("refused the connection", "expected sha256", "answered 404", *urls):
        assert reason in caught.value.message
    with pytest.raises(NetworkError):
        fetch([artifact(data, urls[2], urls[0])], store)
    with pytest.raises(NotFoundError):
        fetch([artifact(data, urls[2])], store)
    with pytest.raises(NotFoundError, match="no address"):
        fetch([artifact(data)], store)
    nothing_left_in(store)


def test_a_scheme_of_a_later_version_is_passed_over(server, served, data, store, artifact):
    server.files["/w"] = served(data)
    both = artifact(data, "ipfs:abc", server.url("/w"))
    assert fetch([both], store)["w.bin"].read_bytes() == data
    with pytest.raises(UsageError, match="is no URL"):
        fetch([artifact(b"other", "https://[x/w")], store)
    with pytest.raises(UsageError, match="ipfs"):
        fetch([artifact(b"other", "ipfs:abc")], store)


def test_the_digest_in_a_url_counts_where_the_record_has_none(
    server, served, data, store, artifact
):
    server.files["/w"] = served(data)
    right = artifact(data).digest.value
    for stated in (right, right[:8]):
        url = server.url(f"/w#sha256={stated}")
        assert fetch([artifact(data, url, digest=None)], store)["w.bin"].read_bytes() == data
    with pytest.raises(IntegrityError):
        fetch([artifact(data, server.url("/w#sha256=" + right[::-1]), digest=None)], store)


def test_files_of_this_machine_are_copied_and_checked(data, store, artifact, tmp_path):
    file = tmp_path / "a file.bin"
    file.write_bytes(data)
    wanted = artifact(data, file.as_uri())
    blob = fetch([wanted], store, offline=True)["w.bin"]
    assert blob.read_bytes() == data
    assert blob != file
    with pytest.raises(IntegrityError):
        fetch([artifact(data[1:], file.as_uri())], store)
    with pytest.raises(NotFoundError, match="there is no file"):
        fetch([artifact(b"x", (tmp_path / "none").as_uri())], store)


def test_killed_at_any_moment_it_leaves_no_wrong_blob_and_goes_on(
    server, served, store, artifact, nothing_wrong_in
):
    body = random.Random(1).randbytes(12_000_000)
    server.files["/w"] = served(body, etag='"1"', pause_s=0.004)  # some 0.8 s in all
    wanted = artifact(body, server.url("/w"))
    moments = random.Random(2)
    for turn in range(6):
        process = start(store, wanted)
        seen = len(server.log)
        while len(server.log) == seen and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        nothing_wrong_in(store)
        assert turn or process.returncode == -signal.SIGKILL
    server.files["/w"].pause_s = 0.0
    out, err = start(store, wanted).communicate(timeout=60)
    assert Path(out.strip()).read_bytes() == body, err
    assert any(server.asked("/w", "range"))
    assert list(store.tmp.iterdir()) == []


def test_parts_of_what_a_url_was_before_go_when_it_is_here(server, served, data, store, artifact):
    before = [random.Random(seed).randbytes(3_000_000) for seed in (1, 2, 3)]
    urls = [server.url("/w"), server.url("/w"), server.url("/other")]
    for body, url in zip(before, urls, strict=True):
        server.files[url.removeprefix(server.url())] = served(body, etag='"1"', drops=[10**6] * 9)
        process = start(store, artifact(body, url))
        while not list(store.tmp.glob(f"{hashlib.sha256(body).hexdigest()[:40]}*.part.json")):
            time.sleep(0.01)
        process.kill()
        process.communicate()
    parts = {hashlib.sha256(body).hexdigest()[:40] for body in before}
    server.files["/w"] = served(data, etag='"2"')
    with store.partial(hashlib.sha256(before[1]).hexdigest()):  # somebody is at it
        fetch([artifact(data, server.url("/w"))], store)
    left = {path.name[:40] for path in store.tmp.glob("*.part*")}
    assert left == parts - {hashlib.sha256(before[0]).hexdigest()[:40]}


@pytest.mark.parametrize("count", [2, 8])
def test_processes_share_one_download(server, served, data, store, artifact, count):
    server.files["/w"] = served(data, etag='"1"', pause_s=0.005)
    wanted = artifact(data, server.url("/w"))
    all_ = [start(store, wanted) for _ in range(count)]
    outs = [process.communicate(timeout=60) for process in all_]
    assert [process.returncode for process in all_] == [0] * count, outs
    assert len({out for out, _ in outs}) == 1
    assert len(server.log) == 1


def test_a_full_disk_is_said_so_and_left_as_it_was(
    server, served, data, store, artifact, nothing_left_in
):
    server.files["/w"] = served(data, etag='"1"')
    process = start(store, artifact(data, server.url("/w")), 1_000_000)
    _, err = process.communicate(timeout=60)
    assert err.startswith("StorageError: no space left to write")
    assert "TLHUB_HOME" in err
    assert "Traceback" not in err
    nothing_left_in(store)


def test_a_home_that_is_a_file_is_said_so(server, served, data, artifact, tmp_path):
    server.files["/w"] = served(data)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        fetch([artifact(data, server.url("/w"))], Store(tmp_path / "file"))
    assert server.log == []


def test_looking_for_what_is_here_loads_nothing_heavy(data, store, artifact):
    wanted = artifact(data, "pypi:a==1!w")
    store.add([data], wanted, "pypi:a==1!w")
    program = PROGRAM + "import json; print(json.dumps([m for m in ('torch', 'huggingface_hub')"
    program += " if m in sys.modules]))\n"
    command = [sys.executable, "-c", program, str(store.home), msgspec.json.encode(wanted).decode()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
