"""Files of a Hugging Face hub: in the cache that stock clients share, every byte checked."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from catalog.errors import (
    AccessError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    OfflineError,
    TlhubError,
    UnsafeError,
    UsageError,
)
from catalog.record import Digest
from hub_client.fetch import fetch
from hub_client.sources.hf import HuggingFaceSource
from hub_client.sources.source import Job, Wanted
from loopback_hub import Hub, running

URL = "hf:acme/model@main!weights/w.bin"
SMALL = b'{"a": 1}'


@pytest.fixture
def hub() -> Iterator[Hub]:
    yield from running()


@pytest.fixture
def put(hub, data):
    """The hub's usual repository."""

    def make(**more):
        files = {"weights/w.bin": data, "config.json": SMALL, "empty.txt": b"", **more}
        return hub.put("acme/model", files)

    return make


@pytest.fixture
def source(hub, store, tmp_path, capfd):
    told = []
    job = Job(store, lambda *step: told.append(step))
    source = HuggingFaceSource(job, endpoint=hub.url, cache=tmp_path / "hf")
    source.told = told
    disable_progress_bars()
    yield source
    enable_progress_bars()
    source.close()
    assert capfd.readouterr().err == ""  # no progress bar of somebody else


@pytest.fixture
def one(source):
    """Bring one file, or raise what came in its place."""

    def bring(item):
        answer = source.bring([item])[item.artifact.path]
        if isinstance(answer, TlhubError):
            raise answer
        return answer

    return bring


def test_a_repository_lands_in_the_hf_cache_where_stock_clients_find_it(hub, put, source, data):
    put()
    place = source.resolve("hf:acme/model")
    assert place.url == f"hf:acme/model@{hub.commit('acme/model')}"
    assert {a.path for a in place.artifacts} == {"weights/w.bin", "config.json", "empty.txt"}
    paths = source.bring([Wanted(a, a.urls[0]) for a in place.artifacts])
    source.note(place)
    assert paths["weights/w.bin"].read_bytes() == data
    assert paths["empty.txt"].read_bytes() == b""
    theirs = huggingface_hub.snapshot_download(
        "acme/model", cache_dir=source._root, local_files_only=True
    )
    assert {Path(theirs) / name for name in paths} == set(paths.values())
    info = huggingface_hub.scan_cache_dir(source._root)
    assert not info.warnings
    assert {ref for repo in info.repos for ref in repo.refs} == {"main"}
    assert source.told[-1] == ("3 files", len(data) + len(SMALL), len(data) + len(SMALL))
    assert len(hub.asked("/api/")) == 1
    assert sorted(hub.asked("/resolve/")) == sorted(  # one request a file, and no HEAD
        f"GET /acme/model/resolve/{hub.commit('acme/model')}/{path}"
        for path in ("weights/w.bin", "config.json", "empty.txt")
        if path != "empty.txt" or hub.asked("empty.txt")
    )


def test_what_is_here_is_found_by_its_bytes_without_any_request(hub, put, source, data):
    put()
    place = source.resolve("hf:acme/model")
    wanted = [Wanted(a, a.urls[0]) for a in place.artifacts]
    paths = source.bring(wanted)
    hub.log.clear()
    assert {w.artifact.path: source.find(w) for w in wanted} == paths
    paths["weights/w.bin"].write_bytes(data[::-1])
    assert source.find(wanted[0]) is None
    assert hub.log == []
    assert source.bring(wanted[:1])["weights/w.bin"].read_bytes() == data


def test_what_hf_download_left_is_used_after_verifying_it(hub, put, source, store, data):
    put()
    theirs = Path(
        huggingface_hub.snapshot_download("acme/model", cache_dir=source._root, endpoint=hub.url)
    )
    hub.refused = (500, {})
    place = source.resolve("hf:acme/model", offline=True)
    assert {a.path for a in place.artifacts} == {"weights/w.bin", "config.json", "empty.txt"}
    wanted = {a.path: Wanted(a, a.urls[0]) for a in place.artifacts}
    assert source.find(wanted["weights/w.bin"]) == theirs / "weights/w.bin"
    wrong = bytearray(data)
    wrong[5] ^= 1
    (theirs / "weights/w.bin").write_bytes(wrong)
    (theirs / "config.json").write_bytes(SMALL.replace(b"1", b"2"))
    assert source.find(wanted["weights/w.bin"]) is None
    assert source.find(wanted["config.json"]) is None


@pytest.mark.parametrize("path", ["weights/w.bin", "config.json"])
def test_a_flipped_bit_is_noticed_and_nothing_of_it_kept(put, source, path):
    files = put()
    wrong = bytearray(files[path].body)
    wrong[7] ^= 1
    files[path].sent = bytes(wrong)
    place = source.resolve("hf:acme/model")
    answers = source.bring([Wanted(a, a.urls[0]) for a in place.artifacts])
    assert isinstance(answers.pop(path), IntegrityError)
    assert all(isinstance(answer, Path) for answer in answers.values())  # the others are whole
    left = [p.name for p in source._root.rglob("*") if files[path].etag in p.name]
    assert [name for name in left if not name.endswith(".lock")] == []


def test_files_outside_lfs_may_be_asked_for_by_another_digest(put, one, source, artifact):
    put()
    url = source.resolve("hf:acme/model!config.json").artifacts[0].urls[0]
    item = Wanted(artifact(SMALL, url), url)
    path = one(item)
    assert path.resolve().name == hashlib.sha1(b"blob %d\0" % len(SMALL) + SMALL).hexdigest()
    assert source.find(item) is not None
    md5 = Digest(algorithm="md5", value=hashlib.md5(b"other").hexdigest())
    other = artifact(SMALL, digest=md5, size_bytes=len(SMALL))
    assert source.find(Wanted(other, item.url)) is None


def test_what_the_hub_itself_calls_another_file_is_not_downloaded(hub, put, one, data, artifact):
    put()
    other = Digest(algorithm="sha256", value="0" * 64)
    for wrong in ({"digest": other}, {"size_bytes": 5}):
        with pytest.raises(IntegrityError, match="nothing was downloaded"):
            one(Wanted(artifact(data, URL, **wrong), URL))
    assert hub.asked("/resolve/") == []


def test_without_a_digest_only_a_commit_is_taken_from_the_cache(hub, put, source, data, artifact):
    put()
    place = source.resolve(URL)
    source.bring([Wanted(artifact(data, URL, digest=None), URL)])
    source.note(place)
    assert source.find(Wanted(artifact(data, URL, digest=None), URL)) is None
    pinned = place.artifacts[0].urls[0]
    assert source.find(Wanted(artifact(data, pinned, digest=None), pinned)) is not None


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (404, "RepoNotFound", NotFoundError),
        (404, "RevisionNotFound", NotFoundError),
        (403, "GatedRepo", AccessError),
        (403, "", AccessError),
        (418, "", NetworkError),
    ],
)
def test_refusals_are_told_apart(hub, put, source, status, code, error):
    put()
    hub.refused = (status, {"X-Error-Code": code, "X-Error-Message": "no"})
    with pytest.raises(error, match="acme/model"):
        source.resolve("hf:acme/model")


def test_a_file_behind_a_gate_says_what_to_do(hub, put, one, source, data, artifact):
    put()
    hub.said["acme/model"] = {"gated": "manual"}
    place = source.resolve("hf:acme/model")
    assert {a.status for a in place.artifacts} == {"gated"}
    hub.refused = (403, {"X-Error-Code": "GatedRepo"})
    with pytest.raises(AccessError, match="gated") as caught:
        one(Wanted(place.artifacts[0], place.artifacts[0].urls[0]))
    assert "accept its terms" in str(caught.value.hint)


def test_the_token_opens_a_hub_and_is_not_sent_to_another(hub, put, source, store, monkeypatch):
    put()
    hub.token = "hf_secret"
    with pytest.raises(AccessError):
        source.resolve("hf:acme/model")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    place = source.resolve("hf:acme/model")
    source.bring([Wanted(a, a.urls[0]) for a in place.artifacts])
    assert {headers.get("authorization") for _, _, headers in hub.log[1:]} == {"Bearer hf_secret"}
    for file in store.home.rglob("*"):
        assert not file.is_file() or b"hf_secret" not in file.read_bytes()
    for other in running():
        other.put("acme/else", {"w.bin": b"x" * 20_000})
        place = source.resolve(f"hub+{other.url}/acme/else")
        assert place.artifacts[0].urls[0].startswith(f"hub+{other.url}/acme/else@")
        source.bring([Wanted(a, a.urls[0]) for a in place.artifacts])
        assert {headers.get("authorization") for _, _, headers in other.log} == {None}


def test_two_hubs_with_the_same_names_do_not_meet(hub, put, source, store):
    put()
    place = source.resolve("hf:acme/model")
    source.bring([Wanted(a, a.urls[0]) for a in place.artifacts])
    source.note(place)
    before = sorted(source._root.rglob("*"))
    for other in running():
        other.put("acme/model", {"config.json": b"{}", "evil.txt": b"x"})
        theirs = source.resolve(f"hub+{other.url}/acme/model")
        got = source.bring([Wanted(a, a.urls[0]) for a in theirs.artifacts])
        source.note(theirs)
        assert all(path.is_relative_to(store.home / "hubs") for path in got.values())
        assert source.resolve(theirs.url, offline=True).artifacts == theirs.artifacts
        [listing] = (store.home / "listings").rglob(f"{theirs.url.rpartition('@')[2]}.json")
        assert hashlib.sha256(other.url.encode()).hexdigest()[:8] in str(listing)
    assert sorted(source._root.rglob("*")) == before
    assert source.resolve("hf:acme/model", offline=True).artifacts == place.artifacts


def test_a_hub_that_is_down_is_a_network_error_and_a_listing_serves_offline(hub, put, source):
    put()
    with pytest.raises(OfflineError):
        source.resolve("hf:acme/model", offline=True)
    place = source.resolve("hf:acme/model")
    source._known.clear()
    hub.refused = (503, {})
    assert source.resolve(place.url, offline=True).artifacts == place.artifacts
    with pytest.raises(NetworkError, match="acme/model"):
        source.resolve("hf:acme/model")


@pytest.mark.parametrize(
    "path", ["../w.bin", "/etc/passwd", "a\\..\\w.bin", "a/../../w", "a\0b", "C:/w", "", "./w"]
)
def test_a_listing_that_leads_out_is_refused_whole(hub, put, source, path):
    put()
    hub.siblings = lambda files: [*files, {"rfilename": path, "size": 1, "blobId": "0" * 40}]
    with pytest.raises(UnsafeError, match="acme/model lists"):
        source.resolve("hf:acme/model")
    assert not list(source._root.rglob("*"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"blobId": "../../x"},
        {"lfs": {"sha256": "../" * 20, "size": 1}},
        {"size": None},
        {"size": -1},
    ],
)
def test_a_listing_with_hashes_or_sizes_that_are_none_is_refused(hub, put, source, wrong):
    put()
    hub.siblings = lambda files: [{**files[1], **wrong}]
    with pytest.raises(IntegrityError):
        source.resolve("hf:acme/model")


def test_urls_that_cannot_be_read_or_lead_out_are_refused(hub, source, artifact, data):
    for url, error in [
        ("hf:acme!w", UsageError),
        ("hf:acme", UsageError),
        ("hf:acme/model!", UsageError),
        ("hf:acme/model@main!../../etc/passwd", UnsafeError),
        ("hf:acme/model@../x!w", UnsafeError),
        ("hf:acme/model@main!/etc/passwd", UnsafeError),
        ("hf:acme/..!w", UnsafeError),
    ]:
        with pytest.raises(error):
            source.find(Wanted(artifact(data, url), url))
    assert hub.log == []


def test_a_pull_that_was_killed_goes_on_where_it_stopped(hub, store, tmp_path):
    body = random.Random(1).randbytes(6_000_000)
    file = hub.put("acme/model", {"w.bin": body})["w.bin"]
    file.pause_s = 0.02  # 2 s in all
    code = (
        "import sys; from pathlib import Path; from hub_client.fetch import fetch\n"
        "from catalog.record import Artifact, Digest; from hub_client.store import Store\n"
        "a = Artifact(path='w.bin', format='pytorch', urls=('hf:acme/model!w.bin',))\n"
        "fetch([a], Store(Path(sys.argv[1])), progress=lambda *s: print(s[1], flush=True))"
    )
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-c", code, str(store.home)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(int(line) > 2_000_000 for line in process.stdout)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    file.pause_s = 0
    hub.log.clear()
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    (blob,) = (tmp_path / "hf").rglob(f"blobs/{file.sha256}")
    assert blob.read_bytes() == body
    asked = [h.get("range", "") for _, path, h in hub.log if path.endswith("w.bin")]
    assert asked
    assert all(int(span.removeprefix("bytes=").partition("-")[0]) > 1_000_000 for span in asked)
    assert [p.name for p in blob.parent.iterdir()] == [file.sha256]


def test_tlhub_and_hf_download_may_run_at_once(hub, put, source, data):
    files = put()
    files["weights/w.bin"].pause_s = 0.01
    place = source.resolve("hf:acme/model")
    theirs: list[str] = []
    other = threading.Thread(
        target=lambda: theirs.append(
            huggingface_hub.hf_hub_download(
                "acme/model", "weights/w.bin", cache_dir=source._root, endpoint=hub.url,
                tqdm_class=None,
            )
        )
    )  # fmt: skip
    other.start()
    paths = source.bring([Wanted(a, a.urls[0]) for a in place.artifacts])
    other.join()
    assert Path(theirs[0]) == paths["weights/w.bin"]
    assert paths["weights/w.bin"].read_bytes() == data
    assert len(hub.asked("GET /")) == len(set(hub.asked("GET /")))  # the bytes came once


def test_where_xet_is_offered_and_broken_http_brings_the_file(hub, source, caplog):
    body = random.Random(2).randbytes(17 << 20)
    file = hub.put("acme/model", {"w.bin": body})["w.bin"]
    file.xet = True
    place = source.resolve("hf:acme/model")
    with caplog.at_level("WARNING"):
        path = source.bring([Wanted(place.artifacts[0], place.artifacts[0].urls[0])])["w.bin"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
    assert "does not come by Xet" in caplog.text


def test_links_that_cannot_be_made_become_copies(hub, put, source, data, monkeypatch):
    put()

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    place = source.resolve("hf:acme/model")
    wanted = [Wanted(a, a.urls[0]) for a in place.artifacts]
    paths = source.bring(wanted)
    assert not paths["weights/w.bin"].is_symlink()
    assert paths["weights/w.bin"].read_bytes() == data
    assert {w.artifact.path: source.find(w) for w in wanted} == paths


def test_fetch_takes_a_file_from_the_next_place_where_the_hub_lies(
    hub, put, store, data, tmp_path, monkeypatch, server, served, artifact
):
    files = put()
    files["weights/w.bin"].sent = data[::-1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    server.files["/w.bin"] = served(data)
    both = artifact(data, URL, server.url("/w.bin"))
    assert fetch([both], store)["w.bin"].read_bytes() == data
