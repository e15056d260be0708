"""Object stores, against a real S3 server on 127.0.0.1."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from catalog.errors import AccessError, IntegrityError, NotFoundError, UnsafeError, UsageError
from catalog.record import Digest
from hub_client.fetch import fetch
from hub_client.places import resolve
from hub_client.sources.objects import ObjectSource
from hub_client.sources.source import Job, Wanted

obstore = pytest.importorskip("obstore", reason="the extra `object-stores` is not installed")
moto = pytest.importorskip("moto.server", reason="moto[server], of the extra `test`, is missing")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/models", method="PUT")).close()
    return obstore.store.from_url("s3://models")


@pytest.fixture
def job(store):
    return Job(store)


def test_a_prefix_is_a_folder_of_files(bucket, job, store, data):
    files = {"net/config.json": b"{}", "net/sub/model.safetensors": data, "network/other": b"no"}
    for key, body in files.items():
        obstore.put(bucket, key, body)
    place = resolve("s3://models/net/", job)
    assert {a.path: a.size_bytes for a in place.artifacts} == {
        "config.json": 2,
        "sub/model.safetensors": len(data),
    }
    got = fetch(place.artifacts, store)
    assert got["sub/model.safetensors"].read_bytes() == data
    one = resolve("s3://models/net/sub/model.safetensors", job).artifacts
    assert [(a.path, a.format) for a in one] == [("model.safetensors", "safetensors")]
    with pytest.raises(NotFoundError):
        resolve("s3://models/nothing", job)


def test_bytes_are_checked_and_an_interrupted_object_is_continued(bucket, store, data, artifact):
    obstore.put(bucket, "w.bin", data)
    url = "s3://models/w.bin"
    told = []

    def stop(label: str, done: int, total: int | None) -> None:
        told.append(done)
        if done < len(data) and len(told) == 2:
            raise KeyboardInterrupt

    item = Wanted(artifact(data, url), url)
    with pytest.raises(KeyboardInterrupt):
        ObjectSource(Job(store, stop)).bring([item])
    path = ObjectSource(Job(store, stop)).bring([item])["w.bin"]
    assert path.read_bytes() == data
    assert told[2] > told[1] > 0  # it went on, and did not begin again
    other = Digest(algorithm="sha256", value=hashlib.sha256(b"other").hexdigest())
    with pytest.raises(IntegrityError):
        fetch([artifact(data, url, digest=other)], store)


def test_an_object_replaced_meanwhile_is_not_mixed(bucket, store, data, artifact):
    obstore.put(bucket, "w.bin", data)
    url = "s3://models/w.bin"

    def stop(label: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    item = Wanted(artifact(data, url, digest=None), url)
    with pytest.raises(KeyboardInterrupt):
        ObjectSource(Job(store, stop)).bring([item])
    obstore.put(bucket, "w.bin", data[::-1])
    assert ObjectSource(Job(store)).bring([item])["w.bin"].read_bytes() == data[::-1]


def test_keys_that_lead_out_are_refused(endpoint, bucket, job):
    request = urllib.request.Request(f"{endpoint}/models/evil/a%5C..%5Cb", b"x", method="PUT")
    urllib.request.urlopen(request).close()
    with pytest.raises(UnsafeError, match="outside"):
        resolve("s3://models/evil/", job)


def test_what_goes_wrong_is_told_apart(bucket, job, monkeypatch):
    with pytest.raises(UsageError, match="names no bucket"):
        resolve("s3:///key", job)
    with pytest.raises((NotFoundError, AccessError)):
        resolve("s3://no-such-bucket/key", job)


def test_without_the_package_the_hint_names_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['obstore'] = None\n"
        "from pathlib import Path; from hub_client.store import Store\n"
        "from hub_client.places import resolve; from hub_client.sources.source import Job\n"
        f"try: resolve('s3://a/b', Job(Store(Path({str(tmp_path)!r}))))\n"
        "except Exception as error: print(type(error).__name__, error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "UsageError pip install 'tlhub[object-stores]'\n", done.stderr
