"""Bundles: out of one machine, into another that has no network; or refused, with nothing left."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from machine import Machine
from PIL import Image
from small_hub import SmallHub


@pytest.fixture
def island(tmp_path: Path, small_hub: SmallHub) -> Machine:
    """A machine whose hub cannot be reached."""
    machine = Machine(tmp_path / "island", small_hub)
    machine.env |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    return machine


def kept(machine: Machine) -> list[Path]:
    """Every file that a pull leaves."""
    roots = [machine.home / name for name in ("blobs", "models", "tmp", "listings", "refs")]
    return [p for root in (*roots, machine.folder / "hf") for p in root.rglob("*") if p.is_file()]


def test_models_run_where_there_is_no_network(stocked: Machine, island: Machine) -> None:
    stocked.put(w=b"weights")
    made = stocked.json("bundle", "hf:acme/tiny", "file/w", "-o", "models.tar")
    bundle = stocked.cwd / "models.tar"
    assert hashlib.sha256(bundle.read_bytes()).hexdigest() == made["sha256"]
    again = stocked.json("bundle", "file/w", "hf/acme/tiny", "-o", "again.tar")
    assert again["sha256"] == made["sha256"]
    with tarfile.open(bundle) as tar:  # any tar reads it
        assert tar.next().name == "bundle.json"
        assert {(m.mtime, m.uid, m.uname) for m in tar} == {(0, 0, "")}
    answer = island.json("pull", "--from", bundle)
    assert [model["uid"] for model in answer["models"]] == ["file/w", "hf/acme/tiny"]
    theirs = {path.name for path in (stocked.home / "models").iterdir()}
    assert {path.name for path in (island.home / "models").iterdir()} == theirs
    island.whole()
    assert island("pull", "hf:acme/tiny", "--offline", "-q").strip() in {
        model["path"] for model in answer["models"]
    }
    photo = island.cwd / "photo.png"
    Image.new("RGB", (64, 48), (200, 30, 30)).save(photo)
    for name in ("hf:acme/tiny", "hf:acme/tiny@main"):
        assert island("predict", name, photo, "--offline", "-q").startswith("class ")
    assert island.json("cache", "verify", "--offline")["faults"] == []
    assert not list((island.home / "tmp").iterdir())


def test_a_model_of_another_hub_is_bundled_too(
    machine: Machine, island: Machine, small_hub: SmallHub
) -> None:
    machine.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    model = f"hub+{small_hub.url}/acme/tiny"
    machine("pull", model, "--format", "original")
    machine("bundle", model, "-o", "models.tar")
    [folder] = island.json("pull", "--from", machine.cwd / "models.tar")["models"]
    assert (Path(folder["path"]) / "config.json").resolve().is_relative_to(island.home / "hubs")
    assert not (island.folder / "hf").exists()
    assert island("verify", folder["path"])


Change = Callable[[bytes], bytes]


def _contents(change: Callable[[dict[str, object]], None]) -> Change:
    """A bundle whose `bundle.json` says something else, with everything else in order."""

    def apply(data: bytes) -> bytes:
        out = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(data)) as tar,
            tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as new,
        ):
            for member in tar:
                body = tar.extractfile(member).read()
                if member.name == "bundle.json":
                    contents = json.loads(body)
                    change(contents)
                    body = json.dumps(contents).encode()
                    member.size = len(body)
                new.addfile(member, io.BytesIO(body))
        return out.getvalue()

    return apply


def _member(change: Callable[[tarfile.TarInfo], None]) -> Change:
    """A bundle whose last member is something else."""

    def apply(data: bytes) -> bytes:
        out = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(data)) as tar,
            tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as new,
        ):
            members = tar.getmembers()
            for member in members:
                body = tar.extractfile(member).read()
                if member is members[-1]:
                    change(member)
                new.addfile(member, io.BytesIO(body))
        return out.getvalue()

    return apply


def _linked(member: tarfile.TarInfo) -> None:
    member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0


def _renamed(member: tarfile.TarInfo) -> None:
    member.name = "../../evil"


def _into_home(contents: dict[str, object]) -> None:
    folder = contents["folders"][0]
    folder["files"]["../../../evil"] = folder["files"]["tlhub.json"]


def _original(path: str) -> Change:
    """A bundle of original files whose manifest names one more than its lock file."""

    def apply(data: bytes) -> bytes:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar}
        contents = json.loads(files.pop("bundle.json"))
        folder = contents["folders"][0]
        manifest = json.loads(files.pop(f"files/{folder['files']['tlhub.json']}"))
        artifacts = manifest["record"]["artifacts"]
        artifacts.append(artifacts[0] | {"path": path})
        manifest |= {"kind": "original", "files": {}}
        raw = json.dumps(manifest).encode()
        sha256 = hashlib.sha256(raw).hexdigest()
        files[f"files/{sha256}"] = raw
        folder["files"] = {"tlhub.json": sha256}
        contents["files"] = [
            {"sha256": name.removeprefix("files/"), "size_bytes": len(body)}
            for name, body in sorted(files.items())
        ]
        contents["lock"] = contents["lock"].replace("\nuid", '\nformat = "original"\nuid')
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as new:
            first = {"bundle.json": json.dumps(contents).encode()}
            for name, body in (first | dict(sorted(files.items()))).items():
                member = tarfile.TarInfo(name)
                member.size = len(body)
                new.addfile(member, io.BytesIO(body))
        return out.getvalue()

    return apply


def _nested(_: bytes) -> bytes:
    body = b'{"x": ' + b"[" * 100_000
    member = tarfile.TarInfo("bundle.json")
    member.size = len(body)
    return member.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % 512 + 1024)


HOSTILE: dict[str, Change] = {
    "a flipped bit": lambda data: data[:-5000] + bytes([data[-5000] ^ 1]) + data[-4999:],
    "cut short": lambda data: data[: len(data) * 2 // 3],
    "cut short in a header": lambda data: data[:300],
    "something behind its end": lambda data: data + b"x",
    "empty": lambda data: data[:0],
    "no tar": lambda data: b"PK\x03\x04" + data,
    "longer": lambda data: data[:-1024] + tarfile.TarInfo("more").tobuf() + bytes(1024),
    "a link": _member(_linked),
    "another name": _member(_renamed),
    "a path that leads out": _contents(_into_home),
    "an original that leads out": _original("../../../evil"),
    "an original that is not locked": _original("evil"),
    "a folder elsewhere": _contents(lambda c: c["folders"][0].update(name="../evil")),
    "a repository elsewhere": _contents(lambda c: c["hub_files"][0].update(repo="../../x")),
    "a repository that is not locked": _contents(
        lambda c: c["hub_files"].append(c["hub_files"][0] | {"repo": "victim/model"})
    ),
    "a branch of another repository": _contents(
        lambda c: c["hub_refs"].append(c["hub_refs"][0] | {"repo": "victim/model"})
    ),
    "another hub": _contents(lambda c: c["hub_files"][0].update(hub="https://evil.example")),
    "a listing of another repository": _contents(
        lambda c: c.update(
            listings={
                name.replace("acme--tiny", "victim--model"): sha256
                for name, sha256 in c["listings"].items()
            }
        )
    ),
    "a path in a repository": _contents(lambda c: c["hub_files"][0].update(path="../../../x")),
    "a listing elsewhere": _contents(
        lambda c: c.update(listings={"../x": next(iter(c["listings"].values()))})
    ),
    "a wrong name in the cache": _contents(lambda c: c["hub_files"][0].update(etag="0" * 40)),
    "a file it does not hold": _contents(lambda c: c["files"].pop()),
    "another lock file": _contents(lambda c: c.update(lock="version = 1\n")),
    "nested without reason": _nested,
    "a field too many": _contents(lambda c: c.update(run="rm -rf /")),
}


@pytest.fixture(scope="module")
def bundle(_pulled: Machine) -> bytes:
    _pulled("bundle", "hf:acme/tiny", "-o", "whole.tar")
    return (_pulled.cwd / "whole.tar").read_bytes()


@pytest.mark.parametrize("what", HOSTILE)
def test_what_was_cut_or_tampered_with_is_refused_and_leaves_nothing(
    bundle: bytes, island: Machine, what: str
) -> None:
    path = island.cwd / "bad.tar"
    path.write_bytes(HOSTILE[what](bundle))
    said = island("pull", "--from", path, code=6)
    assert "error: " in said
    assert kept(island) == []
    assert not list(island.folder.rglob("*evil*"))


def test_what_is_in_the_cache_stays_what_it_is(bundle: bytes, island: Machine) -> None:
    path = island.cwd / "whole.tar"
    path.write_bytes(bundle)
    with tarfile.open(path) as tar:
        file = json.loads(tar.extractfile("bundle.json").read())["hub_files"][0]
    repo = island.folder / "hf" / "hub" / "models--acme--tiny"
    pointer = repo / "snapshots" / file["commit"] / file["path"]
    pointer.parent.mkdir(parents=True)
    pointer.symlink_to(f"../../blobs/{'0' * 40}")
    assert "another file here" in island("pull", "--from", path, code=6)
    assert pointer.readlink().name == "0" * 40
    pointer.unlink()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("1" * 40, encoding="ascii")
    island("pull", "--from", path)
    assert (repo / "refs" / "main").read_text(encoding="ascii") == "1" * 40


def test_a_damaged_model_is_not_bundled(machine: Machine) -> None:
    machine.put(w=b"weights")
    machine.blob(b"weights").write_bytes(b"WEIGHTS")
    (machine.publisher / "w").unlink()
    machine("bundle", "file/w", "-o", "m.tar", code=3)
    assert not (machine.cwd / "m.tar").exists()
