"""What is kept, pruned, mended and removed: real processes, killed where it hurts."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from machine import Machine
from small_hub import SmallHub, tiny_model

from catalog.errors import UsageError
from converters.folder import sha256_of as sha256
from terminal import TLHUB
from tlhub.cli.amounts import bytes_of, seconds_of


def named(items: list[dict[str, object]]) -> set[str]:
    return {str(item["uid"] or item["name"]) for item in items}


def test_what_is_kept_is_listed_with_what_needs_it(stocked: Machine) -> None:
    (folder,) = stocked.put(3, w=b"weights" * 1000)
    listed = {item["kind"]: item for item in stocked.json("cache", "list")["items"]}
    assert set(listed) == {"model", "blob", "hf"}
    assert listed["blob"]["models"] == ["file/w"]
    assert listed["blob"]["size_bytes"] == 7000
    assert listed["hf"]["name"] == "hf:acme/tiny"
    assert listed["hf"]["models"] == ["hf/acme/tiny"]
    text = stocked("cache", "list")
    assert "3 d ago" in text
    assert stocked("cache", "list", "--kind", "blob", "-q").split() == [
        str(stocked.blob(b"weights" * 1000))
    ]
    assert str(folder) in stocked("cache", "list", "-q").split()
    assert stocked("cache", "path").strip() == str(stocked.home)


def test_prune_removes_what_nothing_needs_and_nothing_else(machine: Machine) -> None:
    (kept,), orphan = machine.put(90, kept=b"kept"), machine.blob(b"orphan")
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"orphan")
    machine.age(orphan, 1)
    (machine.home / "tmp").mkdir(exist_ok=True)
    stale, young = machine.home / "tmp" / "stale.part", machine.home / "tmp" / "young.part"
    stale.write_bytes(b"half")
    machine.age(stale, 2)
    young.write_bytes(b"half")
    before = {p: p.stat().st_mtime for p in machine.home.rglob("*")}
    planned = machine.json("cache", "prune", "--dry-run")
    assert {p: p.stat().st_mtime for p in machine.home.rglob("*")} == before
    assert "--yes" in machine("cache", "prune", code=2)
    done = machine.json("cache", "prune", "--yes")
    assert named(done["removed"]) == named(planned["removed"])
    assert done["size_bytes"] == len(b"orphan") + len(b"half")
    assert not orphan.exists()
    assert not stale.exists()
    assert young.exists()
    assert (kept / "kept").read_bytes() == b"kept"
    assert machine.json("cache", "prune", "--yes")["removed"] == []


def test_prune_takes_the_least_recently_used_first(machine: Machine) -> None:
    bodies = {name: name.encode() * 10_000 for name in ("old", "middle", "new")}
    for folder, body, days in zip(machine.put(**bodies), bodies.values(), (40, 20, 1), strict=True):
        machine.age(folder, days)
        machine.age(machine.blob(body), days)
    dry = machine.json("cache", "prune", "--older-than", "30d", "--dry-run")
    assert named(dry["removed"]) == {"file/old", f"sha256:{machine.blob(b'old' * 10_000).name}"}
    done = machine.json("cache", "prune", "--keep-size", "40kB", "--yes")
    assert {"file/old", "file/middle"} < named(done["removed"])
    assert not machine.blob(b"middle" * 10_000).exists()
    assert machine.blob(b"new" * 10_000).exists()
    assert "file/new" in machine("cache", "list")


def test_what_a_lock_file_names_stays_and_a_broken_one_stops_everything(machine: Machine) -> None:
    (folder,) = machine.put(90, w=b"weights")
    machine("lock", "file/w")
    machine.age(folder, 90)
    machine.age(machine.blob(b"weights"), 90)
    other = machine.folder / "elsewhere"
    other.mkdir()
    lock, machine.cwd = machine.cwd / "tlhub.lock", other
    done = machine.json("cache", "prune", "--older-than", "1d", "--keep-size", "0", "--yes")
    assert done["removed"] == []
    assert str(lock) in machine("rm", "file/w", code=2)
    text = lock.read_text()
    lock.write_text(text.replace("[[model]]", "[[model"))
    assert str(lock) in machine("cache", "prune", "--older-than", "1d", "--yes", code=2)
    assert folder.exists()
    lock.unlink()
    done = machine.json("cache", "prune", "--older-than", "1d", "--yes")
    assert "file/w" in named(done["removed"])


def test_what_a_running_process_uses_stays_until_it_is_killed(machine: Machine) -> None:
    machine.put(90, w=b"weights")
    url = f"{(machine.publisher / 'w').as_uri()}#sha256={machine.blob(b'weights').name}"
    process = machine.python(
        f"""
        import tlhub
        tlhub.pull({url!r}, format="original")
        print("ready", flush=True)
        time.sleep(60)
        """
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    prune = ("cache", "prune", "--older-than", "0s", "--yes")
    assert machine.json(*prune)["removed"] == []
    assert str(process.pid) in machine("rm", "file/w", code=2)
    process.kill()
    process.communicate()
    assert "file/w" in named(machine.json(*prune)["removed"])


def test_pulls_and_prunes_at_once_leave_every_pull_whole(machine: Machine) -> None:
    bodies = {f"w{n}": bytes([n]) * 300_000 for n in range(6)}
    machine.put(90, **bodies)
    files = [(machine.publisher / name).as_uri() for name in bodies]
    program = f"""
        import tlhub
        from tlhub import keeping
        for turn in range(12):
            if sys.argv[1:] == ["prune"] or turn % 3 == {{}}:
                keeping.prune(settings, older_than_s=0)
            else:
                for url in {files!r}:
                    folder = tlhub.pull(url, format="original")
                    folder.verify()
        """
    processes = [machine.python(program.format(n)) for n in range(2)]
    assert [p.wait(60) for p in processes] == [0, 0]
    for process in processes:
        process.communicate()
    machine.whole()


def test_a_kill_in_the_middle_of_prune_or_rm_leaves_each_thing_whole_or_gone(
    machine: Machine,
) -> None:
    machine.put(90, **{f"w{n}": bytes([n]) * 1000 for n in range(8)})
    for at in (3, 6, 9, 14):
        process = machine.python(
            f"""
            seen = []
            def dying(name, real):
                def call(*a, **k):
                    seen.append(name)
                    if len(seen) == {at}: os.kill(os.getpid(), 9)
                    return real(*a, **k)
                return call
            for name in ("unlink", "rename", "rmdir"):
                setattr(os, name, dying(name, getattr(os, name)))
            from tlhub import keeping
            keeping.prune(settings, older_than_s=DAY)
            """.replace("DAY", "86400")
        )
        assert process.wait(30) == -9
        process.communicate()
        machine.whole()
    machine("cache", "prune", "--older-than", "1d", "--yes")
    assert list((machine.home / "models").iterdir()) == []
    assert [p for p in (machine.home / "blobs").rglob("*") if p.is_file()] == []


def test_a_pull_sweeps_what_killed_pulls_left_and_no_more(machine: Machine) -> None:
    models = machine.home / "models"
    dead, alive = models / ".one-1.tlhub-new", models / ".two-2.tlhub-new"
    dead.mkdir(parents=True)
    alive.mkdir()
    with FileLock(models / ".two-2.tlhub-lock"):
        machine.put(w=b"abc")
    assert not dead.exists()
    assert alive.exists()


def test_verify_finds_a_flipped_bit_anywhere_and_mends_it(stocked: Machine) -> None:
    stocked.put(w=b"weights" * 1000)
    assert stocked.json("cache", "verify")["faults"] == []
    (onnx,) = (stocked.home / "models").glob("*/model.onnx")
    (hub,) = (stocked.folder / "hf").rglob("model.safetensors")
    victims = {onnx: "hf/acme/tiny", hub: "hf:acme/tiny", stocked.blob(b"weights" * 1000): "sha256"}
    originals = {path: path.read_bytes() for path in victims}
    for path, body in originals.items():
        path.write_bytes(body[:3000] + bytes([body[3000] ^ 1]) + body[3001:])
    said = stocked("cache", "verify", "--offline", code=6)
    assert all(name in said for name in victims.values())
    done = stocked.json("cache", "verify")
    assert [fault["outcome"] for fault in done["faults"]] == ["repaired"] * 3
    assert {path: path.read_bytes() for path in victims} == originals
    stocked.whole()


def test_a_folder_is_made_again_as_it_was_converted_or_kept(stocked: Machine) -> None:
    stocked("convert", "hf:acme/tiny", "--precision", "fp16")
    other = Path(stocked("convert", "hf:acme/tiny", "--input-size", "128", "-q").strip())
    (default,) = [p for p in (stocked.home / "models").glob("[!.]*") if p != other]
    stocked("lock")  # the folder used last is the other
    assert sha256(default / "model.onnx") in (stocked.cwd / "tlhub.lock").read_text()
    stocked("pull", "--locked", "--offline")
    graphs = {folder: (folder / "model.onnx").read_bytes() for folder in (default, other)}
    for folder in graphs:
        (folder / "model.onnx").write_bytes(b"damaged")
    faults = stocked.json("cache", "verify")["faults"]
    assert {fault["outcome"] for fault in faults} == {"repaired"}
    assert [fault["path"] for fault in faults if "without fp16" in fault["fault"]] == [str(default)]
    assert {folder: (folder / "model.onnx").read_bytes() for folder in graphs} == graphs
    manifest = json.loads((other / "tlhub.json").read_text())
    assert manifest.pop("options") == {"side": 128}
    (other / "tlhub.json").write_text(json.dumps(manifest))
    (other / "model.onnx").write_bytes(b"damaged")
    stocked("cache", "verify", code=6)
    assert (other / "model.onnx").read_bytes() == b"damaged"


def test_what_cannot_be_mended_is_said_and_what_nobody_needs_is_removed(machine: Machine) -> None:
    machine.put(w=b"weights")
    (machine.publisher / "w").unlink()
    machine.blob(b"weights").write_bytes(b"WEIGHTS")
    orphan = machine.blob(b"orphan")
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"ORPHAN")
    said = machine("cache", "verify", code=6)
    assert machine.blob(b"weights").name[:12] in said
    assert machine.blob(b"weights").read_bytes() == b"WEIGHTS"
    assert not orphan.exists()


def test_rm_keeps_what_another_model_needs_and_refuses_before_it_begins(machine: Machine) -> None:
    machine.put(a=b"the same", b=b"the same")
    assert "file/c" in machine("rm", "file/a", "file/c", code=3)
    assert len(machine.json("cache", "list", "--kind", "model")["items"]) == 2
    machine("rm", "file/a")
    assert machine.blob(b"the same").exists()
    machine("rm", "file/b")
    assert not machine.blob(b"the same").exists()


def test_rm_leaves_the_hugging_face_cache_and_says_so(stocked: Machine) -> None:
    (cached,) = (stocked.folder / "hf").rglob("model.safetensors")
    removed = stocked.json("rm", "hf/acme/tiny")["removed"]
    assert named(removed) == {"hf/acme/tiny"}
    assert cached.exists()
    assert list((stocked.home / "models").iterdir()) == []


def test_rm_says_what_removes_what_stays_in_the_hugging_face_cache(stocked: Machine) -> None:
    [folder] = (stocked.home / "models").iterdir()
    assert _removes_what_stays(stocked, folder).is_relative_to(stocked.folder / "hf")
    assert list((stocked.home / "models").iterdir()) == []


def test_what_came_from_another_hub_is_listed_and_mended_and_stays(
    machine: Machine, small_hub: SmallHub
) -> None:
    machine.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    machine.env["TLHUB_HOME"] = f"{machine.home}/../home"
    model = f"hub+{small_hub.url}/acme/tiny"
    one = Path(machine("pull", model, "--format", "original", "-q").strip())
    two = Path(machine("pull", model, "-q").strip())
    [item] = machine.json("cache", "list", "--kind", "hub")["items"]
    assert (item["name"].split("/", 1)[1], item["models"]) == ("acme/tiny", ["hf/acme/tiny"])
    assert Path(item["path"]).is_relative_to(machine.home / "hubs")
    assert not machine.json("cache", "list", "--kind", "hf")["items"]

    weights = (one / "model.safetensors").resolve()
    for body in (bytes(weights.stat().st_size), b"short"):
        weights.write_bytes(body)
        [fault, *_] = machine.json("cache", "verify")["faults"]
        assert (fault["kind"], fault["outcome"]) == ("hub", "repaired")
        machine("verify", one)

    machine.env["HF_ENDPOINT"] = small_hub.url  # where another cache serves it
    machine.age(Path(item["path"]), 100)
    machine("cache", "prune", "--yes")
    machine("verify", one)
    machine("rm", one)
    machine.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    assert _removes_what_stays(machine, two) == Path(item["path"])


def test_of_two_revisions_of_a_repository_the_damaged_one_is_mended(
    machine: Machine, small_hub: SmallHub, tmp_path: Path
) -> None:
    folders: list[str] = []
    for seed in (1, 2):
        commit = small_hub.put("acme/twice", tiny_model(tmp_path, seed))
        folders += machine("pull", f"hf:acme/twice@{commit}", "--format", "original", "-q").split()
    for folder in folders:
        file = Path(folder, "model.safetensors").resolve()
        file.write_bytes(bytes(file.stat().st_size))
        [fault, *_] = machine.json("cache", "verify")["faults"]
        assert (fault["kind"], fault["outcome"]) == ("hf", "repaired")
        for each in folders:
            machine("verify", each)


def _removes_what_stays(machine: Machine, folder: Path) -> Path:
    """Remove a model and then, as it is told, what stays of it in a cache; where that was."""
    done = subprocess.run(
        [TLHUB, "rm", folder], env=machine.env, cwd=machine.cwd, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    [said] = [line for line in done.stderr.splitlines() if " stays in " in line]
    command = shlex.split(said.split("`")[1])
    place = Path(command[-1]) / "models--acme--tiny"
    assert place.is_dir()
    command = [Path(sys.executable).with_name(command[0]), *command[1:], "--yes"]
    subprocess.run(command, env=machine.env, check=True, capture_output=True)
    assert not place.exists()
    return place


def test_amounts() -> None:
    assert (seconds_of("30d"), seconds_of("90 min"), seconds_of("0s")) == (30 * 86400, 5400, 0)
    assert (bytes_of("20GB"), bytes_of("1.5 kB"), bytes_of("0")) == (20_000_000_000, 1500, 0)
    for wrong in ("30", "d", "-1d", "1y"):
        with pytest.raises(UsageError, match="duration"):
            seconds_of(wrong)
    with pytest.raises(UsageError, match="size"):
        bytes_of("20 GiBs")
