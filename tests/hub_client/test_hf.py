from __future__ import annotations

import hashlib
from pathlib import Path

import huggingface_hub
import pytest

from catalog.errors import (
    AccessError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    UnsafeError,
    UsageError,
)
from catalog.record import Digest
from hub_client.sources.hf import HuggingFaceSource, git_sha1
from hub_client.sources.source import Job, Wanted

COMMIT = "2" * 40
URL = "hf:acme/model@main!weights/w.bin"


@pytest.fixture
def hub(server, served, store, tmp_path, capfd):
    """A hub with one file, and our source of it with a cache of its own."""
    server.told = []
    job = Job(store, lambda *step: server.told.append(step))
    server.source = HuggingFaceSource(job, endpoint=server.url(), cache=tmp_path / "hf")

    def put(body, *, named=None, path="weights/w.bin", lfs=True):
        header = b"blob %d\0" % len(named or body)
        sha256 = hashlib.sha256(named or body).hexdigest()
        etag = sha256 if lfs else hashlib.sha1(header + (named or body)).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(body))}
        headers |= {"X-Linked-Etag": f'"{etag}"'} if lfs else {}
        for revision in ("main", COMMIT):
            file = served(body, etag=f'"{etag}"', headers=headers)
            server.files[f"/acme/model/resolve/{revision}/{path}"] = file

    server.put = put
    yield server
    assert capfd.readouterr().err == ""  # no progress bar of somebody else


@pytest.mark.parametrize("lfs", [True, False])
def test_a_file_lands_in_the_hf_cache_where_stock_clients_find_it(hub, data, artifact, lfs):
    hub.put(data, lfs=lfs)
    wanted = Wanted(artifact(data, URL), URL)
    path = hub.source.bring([wanted])["w.bin"]
    assert path.read_bytes() == data
    theirs = huggingface_hub.hf_hub_download(
        "acme/model", "weights/w.bin", cache_dir=hub.source._cache, local_files_only=True
    )
    assert Path(theirs) == path
    assert hub.told[-1] == ("w.bin", len(data), len(data))
    hub.log.clear()
    assert hub.source.find(wanted) == path
    assert hub.log == []


def test_the_blob_of_a_file_outside_lfs_is_named_by_its_git_hash(hub, data, artifact):
    hub.put(data, lfs=False)
    path = hub.source.bring([Wanted(artifact(data, URL), URL)])["w.bin"]
    assert git_sha1(path) == path.resolve().name


@pytest.mark.parametrize("lfs", [True, False])
def test_a_flipped_bit_is_noticed_and_taken_out_of_the_cache(hub, data, artifact, lfs):
    wrong = bytearray(data)
    wrong[7] ^= 1
    hub.put(bytes(wrong), named=data, lfs=lfs)
    for digest in (artifact(data).digest, None):
        with pytest.raises(IntegrityError, match="removed from the Hugging Face cache"):
            hub.source.bring([Wanted(artifact(data, URL, digest=digest), URL)])
    files = [p for p in hub.source._cache.rglob("*") if p.name in {"w.bin", "blobs"}]
    assert [p for p in files if not p.is_dir() or any(p.iterdir())] == []


def test_a_file_damaged_in_the_cache_is_brought_again(hub, data, artifact):
    hub.put(data)
    wanted = Wanted(artifact(data, URL), URL)
    path = hub.source.bring([wanted])["w.bin"]
    path.write_bytes(data[::-1])
    assert hub.source.find(wanted) is None
    assert hub.source.bring([wanted])["w.bin"].read_bytes() == data


def test_what_the_hub_itself_calls_another_file_is_not_downloaded(hub, data, artifact):
    hub.put(data)
    other = Digest(algorithm="sha256", value="0" * 64)
    for wrong in ({"digest": other}, {"size_bytes": 5}):
        with pytest.raises(IntegrityError, match="nothing was downloaded"):
            hub.source.bring([Wanted(artifact(data, URL, **wrong), URL)])
    assert {method for method, _, _ in hub.log} == {"HEAD"}


def test_without_a_digest_only_a_commit_is_taken_from_the_cache(hub, data, artifact):
    hub.put(data)
    pinned = URL.replace("main", COMMIT)
    hub.source.bring([Wanted(artifact(data, URL, digest=None), URL)])
    assert hub.source.find(Wanted(artifact(data, URL, digest=None), URL)) is None
    assert hub.source.find(Wanted(artifact(data, pinned, digest=None), pinned)) is not None


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (404, "RepoNotFound", NotFoundError),
        (404, "RevisionNotFound", NotFoundError),
        (404, "EntryNotFound", NotFoundError),
        (403, "GatedRepo", AccessError),
        (403, "", AccessError),
        (418, "", NetworkError),
    ],
)
def test_refusals_are_told_apart(hub, artifact, data, status, code, error):
    headers = {"X-Error-Code": code, "X-Error-Message": "no", "X-Repo-Commit": COMMIT}
    hub.refused = (status, headers)
    with pytest.raises(error, match="acme/model"):
        hub.source.bring([Wanted(artifact(data, URL), URL)])


def test_a_hub_that_is_down_is_a_network_error(hub, artifact, data, monkeypatch):
    hub.close()
    with pytest.raises(NetworkError, match="acme/model"):
        hub.source.bring([Wanted(artifact(data, URL), URL)])


def test_urls_that_cannot_be_read_or_lead_out_are_refused(hub, artifact, data):
    for url, error in [
        ("hf:acme!w", UsageError),
        ("hf:acme/model", UsageError),
        ("hf:acme/model@main!../../etc/passwd", UnsafeError),
        ("hf:acme/model@../x!w", UnsafeError),
        ("hf:acme/model@main!/etc/passwd", UnsafeError),
    ]:
        with pytest.raises(error):
            hub.source.find(Wanted(artifact(data, url), url))
    assert hub.log == []
