from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from attacks import payloads

from catalog.record import License, ModelRecord
from converters import weights
from converters.folder import Manifest, ModelFolder
from terminal import Run

MODEL = "pypi/efficientnet-lite0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as `pull` makes it, with weights that are no model's."""

    def fill(path: Path) -> Manifest:
        weights.write({"a": torch.ones(3)}, path / "model.safetensors")
        (path / "labels.txt").write_text("cat\ndog\n", encoding="utf-8")
        record = ModelRecord(
            uid="made/up", license=License(scope="project", spdx="MIT", commercial="yes")
        )
        return Manifest(
            schema_version=1, kind="model", uid="made/up", created="", record=record, files={}
        )

    return ModelFolder.create(tmp_path / "made-up", fill).path


def test_a_whole_folder_is_found_whole(tlhub: Run, folder: Path) -> None:
    done = tlhub("verify", folder, "--json", env={"TLHUB_ALLOW_LICENSES": "mit"})
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["ok"]
    assert said["uid"] == "made/up"
    assert [
        (Path(file["path"]).name, file["digest"], file["verdict"], file["format"])
        for file in said["files"]
    ] == [
        ("labels.txt", "ok", "clean", "text"),
        ("model.safetensors", "ok", "clean", "safetensors"),
    ]
    assert (
        said["files"][1]["sha256"]
        == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    )
    assert said["license"]["spdx"] == "MIT"
    assert said["license"]["scope"] == "project"
    assert "allow_licenses" in said["license"]["gate"]
    assert tlhub("verify", folder, "-q").stdout == ""


@pytest.mark.parametrize("command", ["verify", "show"])
def test_a_manifest_that_nests_without_reason_is_refused(
    tlhub: Run, tmp_path: Path, command: str
) -> None:
    (tmp_path / "tlhub.json").write_bytes(b'{"schema_version": 1, "x": ' + b"[" * 100_000)
    done = tlhub(command, tmp_path)
    assert done.returncode == 6, done.stderr
    assert "cannot be read" in done.stderr


def test_every_damage_of_a_folder_is_named(tlhub: Run, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x", encoding="utf-8")
    file = folder / "model.safetensors"
    body = bytearray(file.read_bytes())
    body[-1] ^= 1
    file.write_bytes(body)
    (folder / "labels.txt").unlink()
    (folder / "more.bin").symlink_to(secret)
    (folder / "etc").symlink_to("/etc")
    done = tlhub("verify", folder)
    assert done.returncode == 6
    assert "model.safetensors: should have sha256" in done.stdout
    assert "labels.txt: is missing" in done.stdout
    assert f"more.bin: is a link out of the folder, to {secret}" in done.stdout
    assert "etc: is a link out of the folder, to /etc" in done.stdout
    assert done.stderr.count("error: ") == 1
    named = {Path(line).name for line in tlhub("verify", folder, "-q").stdout.splitlines()}
    assert named == {"model.safetensors", "labels.txt", "more.bin", "etc"}


def test_a_hostile_file_is_named_and_not_run(tlhub: Run, tmp_path: Path) -> None:
    trap = tmp_path / "it-ran"
    files = tmp_path / "files"
    files.mkdir()
    for technique, body in payloads.pickles(trap).items():
        (files / f"{technique}.pt").write_bytes(payloads.in_zip(body))
    done = tlhub("verify", files, "--json")
    assert done.returncode == 6
    assert {file["verdict"] for file in json.loads(done.stdout)["files"]} <= {"unsafe", "trust"}
    assert not trap.exists()


def test_a_lone_file_and_what_is_not_there(tlhub: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    assert tlhub("verify", tmp_path / "notes.txt").returncode == 0
    assert tlhub("verify", tmp_path / "none.txt").returncode == 3
    (tmp_path / "nothing").mkdir()
    assert tlhub("verify", tmp_path / "nothing").returncode == 3
    assert tlhub("verify", "timm/resnet50.a1_in1k").returncode == 3
    assert tlhub("verify", tmp_path / "notes.txt", "--parity").returncode == 2


def test_a_snapshot_of_the_hugging_face_cache(tlhub: Run, tmp_path: Path) -> None:
    repo = tmp_path / "hub" / "models--a--b"
    snapshot = repo / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    weights.write({"a": torch.ones(3)}, tmp_path / "w")
    body = (tmp_path / "w").read_bytes()
    (tmp_path / "c").write_text("{}", encoding="utf-8")
    blobs = {
        "w": hashlib.sha256(body).hexdigest(),
        "c": hashlib.sha1(b"blob 2\0{}", usedforsecurity=False).hexdigest(),
    }
    for name, blob in blobs.items():
        (tmp_path / name).rename(repo / "blobs" / blob)
    (snapshot / "model.safetensors").symlink_to(repo / "blobs" / blobs["w"])
    (snapshot / "config.json").symlink_to(repo / "blobs" / blobs["c"])
    env = {"HF_HUB_CACHE": str(tmp_path / "elsewhere")}
    done = tlhub("verify", snapshot, "--json", env=env)
    assert done.returncode == 0, done.stderr
    assert [file["digest"] for file in json.loads(done.stdout)["files"]] == ["ok", "ok"]
    (repo / "blobs" / blobs["c"]).write_text("[]", encoding="utf-8")
    assert tlhub("verify", snapshot, "-q", env=env).stdout.endswith("config.json\n")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("/etc/hostname")
    assert "link out of the folder" in tlhub("verify", snapshot, env=env).stdout


@pytest.mark.index
@pytest.mark.slow
def test_a_pulled_model_by_its_uid_and_its_parity(tlhub: Run) -> None:
    assert tlhub("pull", MODEL).returncode == 0
    done = tlhub("verify", MODEL, "--parity", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["parity"]["max_rel_diff"] < 1e-5
    verdicts = {Path(file["path"]).name: file["verdict"] for file in said["files"]}
    assert verdicts["model.onnx"] == verdicts["model.safetensors"] == "clean"
    assert all(file["digest"] == "ok" for file in said["files"])


@pytest.mark.index
def test_a_license_that_is_not_allowed_stops_before_the_network(tlhub: Run, tmp_path: Path) -> None:
    env = {"TLHUB_ALLOW_LICENSES": "mpl-2.0", "TLHUB_HOME": str(tmp_path / "home")}
    done = tlhub("pull", MODEL, env={**env, "PIP_INDEX_URL": "http://127.0.0.1:9/simple"})
    assert done.returncode == 4
    assert "allow_licenses" in done.stderr
    assert not (tmp_path / "home" / "blobs").exists()
