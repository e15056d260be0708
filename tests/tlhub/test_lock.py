"""`tlhub.lock`: written here, reproduced elsewhere, or refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from machine import Machine
from small_hub import SmallHub


@pytest.fixture
def other(tmp_path: Path, small_hub: SmallHub) -> Machine:
    """Another machine, with nothing on it."""
    return Machine(tmp_path / "other", small_hub)


def models(machine: Machine) -> dict[str, str]:
    """The digests of all that was made of models, and of what they were made of."""
    return {
        path.relative_to(machine.home).as_posix(): path.read_bytes().hex()
        for path in (machine.home / "models").glob("*/*")
        if path.name != "tlhub.json"  # says when
    }


def test_a_set_of_models_is_the_same_on_another_machine(stocked: Machine, other: Machine) -> None:
    stocked.put(w=b"weights")
    locked = stocked.json("lock")
    assert locked["added"] == ["file/w", "hf/acme/tiny"]
    text = (stocked.cwd / "tlhub.lock").read_text()
    said = tomllib.loads(text)["model"][1]
    assert said["source"] == "hf:acme/tiny"
    assert said["revision"] in said["file"][0]["urls"][0]
    assert said["onnx"]["tools"]["timm"]
    (other.cwd / "tlhub.lock").write_text(text)
    answer = other.json("pull", "--locked")
    assert [model["uid"] for model in answer["models"]] == ["file/w", "hf/acme/tiny"]
    assert answer["notes"] == []
    assert models(other) == models(stocked)
    assert other.json("lock")["changed"] == []
    assert (other.cwd / "tlhub.lock").read_text() == text
    assert other.json("pull", "--locked", "--offline")["models"] == answer["models"]


def test_locking_again_moves_nothing_unless_it_is_asked_to(
    machine: Machine, small_hub: SmallHub, tmp_path: Path
) -> None:
    first = small_hub.put("acme/moving", {"weights.gguf": b"one"})
    machine("lock", "hf:acme/moving")
    path = machine.cwd / "tlhub.lock"
    before = path.read_bytes()
    second = small_hub.put("acme/moving", {"weights.gguf": b"two"})
    machine("lock", "hf:acme/moving")
    machine("lock")
    assert path.read_bytes() == before
    assert first.encode() in before
    folder = machine("pull", "--locked", "-q").strip()
    assert (Path(folder) / "weights.gguf").read_bytes() == b"one"
    assert machine.json("lock", "--upgrade")["changed"] == ["hf/acme/moving"]
    assert second in path.read_text()
    folder = machine("pull", "--locked", "tlhub.lock", "hf/acme/moving", "-q").strip()
    assert (Path(folder) / "weights.gguf").read_bytes() == b"two"
    assert "hf/acme/moving" in machine("pull", "--locked", "nosuch/model", code=3)


def test_what_is_not_the_locked_file_is_refused_and_leaves_nothing(
    machine: Machine, other: Machine
) -> None:
    machine.put(w=b"weights")
    machine("lock", "-o", "set.lock")
    (other.cwd / "set.lock").write_text((machine.cwd / "set.lock").read_text())
    (machine.publisher / "w").write_bytes(b"WEIGHTS")
    said = other("pull", "--locked", "set.lock", code=6)
    assert machine.blob(b"weights").name in said  # expected
    assert machine.blob(b"WEIGHTS").name in said  # got
    assert not [p for p in (other.home / "blobs").rglob("*") if p.is_file()]
    assert not list((other.home / "models").glob("*"))


def test_another_url_of_the_same_bytes_will_do(machine: Machine, other: Machine) -> None:
    machine.put(w=b"weights")
    machine("lock")
    text = (machine.cwd / "tlhub.lock").read_text()
    mirror = machine.folder / "mirror"
    mirror.write_bytes(b"weights")
    (machine.publisher / "w").unlink()
    at = text.index('    "file:')
    text = f'{text[:at]}    "{mirror.as_uri()}",\n{text[at:]}'
    (other.cwd / "tlhub.lock").write_text(text)
    other("pull", "--locked")
    assert other.blob(b"weights").read_bytes() == b"weights"


def test_a_graph_of_other_versions_is_a_note_and_of_the_same_a_failure(stocked: Machine) -> None:
    stocked("lock")
    path = stocked.cwd / "tlhub.lock"
    text = path.read_text()
    onnx = tomllib.loads(text)["model"][0]["onnx"]
    text = text.replace(onnx["sha256"], "0" * 64)
    path.write_text(text)
    assert "the same versions" in stocked("pull", "--locked", code=6)
    path.write_text(text.replace(f'timm = "{onnx["tools"]["timm"]}"', 'timm = "0.9.1"'))
    (note,) = stocked.json("pull", "--locked")["notes"]
    assert "timm 0.9.1 there" in note


def test_a_hostile_lock_file_is_refused_with_the_field_named(stocked: Machine) -> None:
    stocked("lock")
    path = stocked.cwd / "tlhub.lock"
    path.write_text(path.read_text().replace('"model.safetensors"', '"../../../evil"'))
    assert "`$.model[0].file[0].path`" in stocked("pull", "--locked", code=2)


def test_offline_uses_what_is_here_or_ends_at_once(stocked: Machine, other: Machine) -> None:
    stocked("lock")
    assert stocked("pull", "--locked", "--offline", "-q").strip()
    (other.cwd / "tlhub.lock").write_text((stocked.cwd / "tlhub.lock").read_text())
    other("pull", "--locked", "--offline", code=5)
    other("lock", "hf:acme/tiny", "--offline", "-o", "new.lock", code=5)
    other("bundle", "hf:acme/tiny", "-o", "m.tar", "--offline", code=5)
    assert not (other.cwd / "m.tar").exists()
    assert "tlhub lock" in other("lock", "-o", "new.lock", code=3)


def test_a_file_whose_name_has_blanks_is_locked(
    machine: Machine, other: Machine, small_hub: SmallHub
) -> None:
    small_hub.put("acme/blanks", {"weights.gguf": b"one", "my card.md": b"card"})
    machine("lock", "hf:acme/blanks")
    assert machine.json("cache", "list")["items"]
    (other.cwd / "tlhub.lock").write_text((machine.cwd / "tlhub.lock").read_text())
    folder = other("pull", "--locked", "-q").strip()
    assert (Path(folder) / "my card.md").read_bytes() == b"card"


def test_a_branch_of_another_hub_is_reproduced_and_followed(
    machine: Machine, other: Machine, small_hub: SmallHub
) -> None:
    first = small_hub.put("acme/branched", {"weights.gguf": b"one"})
    versions = small_hub.repos["acme/branched"]
    versions["v1"] = versions[first]
    small_hub.put("acme/branched", {"weights.gguf": b"two"})
    machine.env["HF_ENDPOINT"] = other.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    name, path = f"hub+{small_hub.url}/acme/branched@v1", machine.cwd / "tlhub.lock"
    machine("lock", name)
    (said,) = tomllib.loads(path.read_text())["model"]
    assert (said["uid"], said["revision"], said["asked"]) == ("hf/acme/branched", first, "v1")
    (other.cwd / "tlhub.lock").write_text(path.read_text())
    folder = other("pull", "--locked", "-q").strip()
    assert (Path(folder) / "weights.gguf").read_bytes() == b"one"
    third = small_hub.put("acme/branched", {"weights.gguf": b"three"})
    versions["v1"] = versions[third]
    small_hub.put("acme/branched", {"weights.gguf": b"two"})
    assert machine.json("lock", name)["changed"] == []
    assert machine.json("lock", "--upgrade")["changed"] == ["hf/acme/branched"]
    (said,) = tomllib.loads(path.read_text())["model"]
    assert (said["revision"], said["asked"]) == (third, "v1")
    assert machine.json("lock", "--upgrade", "hf/acme/branched")["changed"] == []
