"""Checkpoints that run code where they are unpickled: refused, named, and none of it runs."""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import json
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from attacks import payloads

from catalog.errors import IntegrityError, UnsafeError
from converters import pickles, scanning, weights

TECHNIQUES = list(payloads.pickles(Path("trap")))
# What each is refused for; where not given, the name that it imports.
SAID = {
    "name computed by a call": "a name that it computes",
    "extension registry": "copyreg extension 240",
    "name with dots": r"torch\.serialization\.os\.system, of another module",
    "torch's loader within": r"torch\.storage\._load_from_bytes",
}
NAMES = r"(system|eval|loads|getattr|partial|attrgetter|run|runstring|timeit)"


@pytest.fixture
def trap(tmp_path: Path):
    """The file that a payload makes when it runs; it must not be there in the end."""
    yield tmp_path / "it-ran"
    assert not (tmp_path / "it-ran").exists()


def test_every_payload_does_run_where_nothing_stops_it(tmp_path: Path):
    """What the tests below are worth: a plain `pickle.load` falls for all of them."""
    trap, files = tmp_path / "it-ran", []
    for name, body in payloads.pickles(trap).items():
        files.append(tmp_path / name.replace(" ", "-"))
        files[-1].write_bytes(body)
    code = """
import contextlib, pathlib, pickle, sys
trap, *files = map(pathlib.Path, sys.argv[1:])
for file in files:
    with file.open("rb") as stream, contextlib.suppress(Exception):
        while stream.peek(1):
            pickle.load(stream)
    print(trap.exists())
    trap.unlink(missing_ok=True)
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(trap), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * len(files)


@pytest.mark.parametrize("container", payloads.CONTAINERS)
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_hostile_pickle_is_refused_by_name(technique, container, trap, tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(payloads.CONTAINERS[container](payloads.pickles(trap)[technique]))
    before = set(sys.modules)
    said = SAID.get(technique, rf"imports [\w.]+\.{NAMES} ") + ".* at byte "
    assert scanning.scan(file).verdict in {"unsafe", "trust"}
    with pytest.raises(UnsafeError, match=said.replace(".* at byte ", r".*at byte \d")):
        weights.read(file)
    with pytest.raises(UnsafeError):
        weights.read(file, trust=True)
    assert not (set(sys.modules) - before) & {"timeit", "argparse", "numpy.testing"}


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin", "model.onnx.data", "model"])
@pytest.mark.parametrize("container", payloads.CONTAINERS)
def test_another_name_does_not_hide_it(name, container, trap, tmp_path):
    file = tmp_path / name
    for technique in ("reduce, protocol 0", "reduce, protocol 2"):
        file.write_bytes(payloads.CONTAINERS[container](payloads.pickles(trap)[technique]))
        scan = scanning.scan(file)
        assert scan.verdict == "unsafe"
        assert any("posix.system" in finding.what for finding in scan.findings)
        with pytest.raises(UnsafeError, match=r"posix\.system"):
            weights.read(file)


def _evil(trap: Path) -> bytes:
    return payloads.pickles(trap)["reduce, protocol 2"]


def _edited(archive: bytes, member: bytes, change) -> bytes:
    """The archive with the entry of a member changed in its directory."""
    data = bytearray(archive)
    at = data.index(b"PK\x01\x02")
    while data[at + 46 :].startswith(member) is False:
        at = data.index(b"PK\x01\x02", at + 4)
    change(data, at)
    return bytes(data)


ZIP_TRICKS = {
    # others do not look at the checksum, or at the flag that says it is encrypted
    "wrong checksum": lambda z: _edited(
        z, b"archive/data.pkl", lambda d, at: struct.pack_into("<I", d, at + 16, 1)
    ),
    "said to be encrypted": lambda z: _edited(
        z, b"archive/data.pkl", lambda d, at: struct.pack_into("<H", d, at + 8, 1)
    ),
    "another size": lambda z: _edited(
        z, b"archive/data.pkl", lambda d, at: struct.pack_into("<I", d, at + 24, 2)
    ),
    "no end": lambda z: z[: z.rindex(b"PK\x05\x06")],
    "text behind": lambda z: z + b"and more" * 10_000,
}


@pytest.mark.parametrize("trick", ZIP_TRICKS)
def test_archives_that_confuse_scanners_are_refused(trick, trap, tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(ZIP_TRICKS[trick](payloads.in_zip(_evil(trap))))
    assert scanning.scan(file).verdict in {"unsafe", "damaged"}
    with pytest.raises(IntegrityError):
        weights.read(file)
    with pytest.raises(IntegrityError):
        weights.read(file, trust=True)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["archive/data.pkl", "archive/DATA.PKL", "other/data.pkl"])
def test_a_second_data_pkl_is_seen(name, trap, tmp_path):
    file = tmp_path / "weights.pt"
    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, stream)
    file.write_bytes(payloads.in_zip(pickle.dumps({}, protocol=2)))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, _evil(trap))
    with pytest.raises(UnsafeError, match=r"twice|posix\.system"):
        weights.read(file)


def test_code_after_the_pickle_of_a_member_is_seen(trap, tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(payloads.in_zip(pickle.dumps({}, protocol=2) + b"\0\0" + _evil(trap)))
    with pytest.raises(UnsafeError, match="goes on after its pickle"):
        weights.read(file)


def test_what_is_a_zip_at_its_end_and_a_pickle_at_its_start(trap, tmp_path):
    file = tmp_path / "both.pt"
    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, stream)
    file.write_bytes(payloads.legacy(_evil(trap)) + stream.getvalue())
    assert zipfile.is_zipfile(file)
    with pytest.raises(UnsafeError, match=r"posix\.system"):
        weights.read(file)


def test_a_tar_checkpoint_is_refused_with_what_it_imports(trap, tmp_path):
    file = tmp_path / "old.pth"
    with tarfile.open(file, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = len(_evil(trap))
            archive.addfile(info, io.BytesIO(_evil(trap)))
    for trust in (False, True):
        with pytest.raises(UnsafeError, match=r"posix\.system.*only a plain pickle can read"):
            weights.read(file, trust=trust)


def test_a_torchscript_program_is_no_weights(tmp_path):
    file = tmp_path / "script.pt"
    file.write_bytes(
        payloads.in_zip(
            pickle.dumps({}, protocol=2),
            **{"archive/code/x.py": b"", "archive/constants.pkl": b"\x80\x02)."},
        )
    )
    for trust in (False, True):
        with pytest.raises(UnsafeError, match="a program of TorchScript"):
            weights.read(file, trust=trust)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("x.pkl.gz", gzip.compress),
        ("x.joblib", zlib.compress),
        ("x.pkl.bz2", bz2.compress),
        ("x.npy", lambda body: _npy() + body),
    ],
)
def test_pickles_in_other_wrappings_are_seen(name, pack, trap, tmp_path):
    (tmp_path / name).write_bytes(pack(_evil(trap)))
    scan = scanning.scan(tmp_path / name)
    assert scan.verdict == "unsafe"
    assert any("posix.system" in finding.what for finding in scan.findings)
    with pytest.raises(IntegrityError):
        weights.read(tmp_path / name)


def _npy() -> bytes:
    stream = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def test_an_npz_of_objects_is_seen(trap, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", _npy() + _evil(trap))
    assert scanning.scan(tmp_path / "x.npz").verdict == "unsafe"
    np.savez(tmp_path / "good.npz", a=np.ones(3))
    assert scanning.scan(tmp_path / "good.npz").verdict == "clean"


def _bombs() -> dict[str, bytes]:
    nested = b"\x80\x02)" + b"\x86".join(b"q%ch%c" % (n, n) for n in range(60)) + b"\x86."
    return {
        "bytes of 2**62": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",
        "a text of 2**31": b"\x80\x02X" + struct.pack("<I", (1 << 31) - 1) + b".",
        "a number of 2**31 bytes": b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b".",
        "a frame of 2**62": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b".",
        "a bytearray of 2**40": b"\x80\x05cbuiltins\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85R.",
        "tuples that double, as a key": nested[:-1] + b"K\x01s.",
        "a tuple in a million": b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s.",
        "a million marks": b"\x80\x02" + b"(" * 1_000_000 + b".",
        "a number in a million digits": b"\x80\x02L" + b"9" * 1_000_000 + b"L\n.",
        "two million opcodes": b"\x80\x02" + b"N0" * 1_000_001 + b"N.",
        "two thousand names": b"\x80\x02"
        + b"".join(b"cx\ny%d\n0" % n for n in range(2000))
        + b"N.",
    }


@pytest.mark.parametrize("container", payloads.CONTAINERS)
@pytest.mark.parametrize("bomb", _bombs())
def test_a_bomb_is_refused_in_little_time_and_memory(bomb, container, tmp_path):
    if "million" in bomb and container != "zip":
        return  # the same walk, seconds each
    file = tmp_path / "bomb.pt"
    file.write_bytes(payloads.CONTAINERS[container](_bombs()[bomb]))
    if "million" not in bomb:
        tracemalloc.start()
    started = time.monotonic()
    try:
        with pytest.raises(IntegrityError):
            weights.read(file)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
        assert time.monotonic() - started < 60  # on a busy machine; it takes up to 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "name",
    ["torch.hub.load", "torch.load", "torch.jit.load", "torch.utils.cpp_extension.load_inline"],
)
def test_what_torch_has_to_load_code_with_is_refused_even_with_trust(name, tmp_path):
    module, _, function = name.rpartition(".")
    body = f"c{module}\n{function}\n".encode() + b"X\x01\x00\x00\x00x\x85R."
    file = tmp_path / "w.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + body)
    with pytest.raises(UnsafeError, match=re.escape(f"imports {name} at byte 2")):
        weights.read(file, trust=True)
    with pytest.raises(UnsafeError, match="was not kept"):
        scanning.refuse({"w.pth": file}, trust=False)


def test_what_is_unusual_is_named_and_read_past_where_it_is_trusted(tmp_path):
    file = tmp_path / "trained.pth"
    content = {
        "state_dict": {"weight": torch.arange(3.0)},
        "args": argparse.Namespace(lr=1),
        "best": np.float64(3),
    }
    torch.save(content, file)
    with pytest.raises(UnsafeError, match=r"argparse\.Namespace at byte \d+ of") as caught:
        weights.read(file)
    assert "--trust" in (caught.value.hint or "")
    assert torch.equal(weights.read(file, trust=True)["weight"], torch.arange(3.0))


def test_a_whole_module_gives_its_state_where_it_is_trusted(tmp_path):
    """The class is not known here at all: nothing of the module is made."""
    file = tmp_path / "module.pth"
    norm = torch.nn.BatchNorm1d(2)
    norm.register_buffer("scratch", torch.zeros(1), persistent=False)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Sequential(norm))
    torch.save({"epoch": 3, "model": module}, file)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, body in members.items():
            away = body.replace(b"torch.nn.modules.linear", b"a_library.that_is_away")
            archive.writestr(name, away)
    with pytest.raises(UnsafeError, match=r"a_library\.that_is_away\.Linear"):
        weights.read(file)
    seen = weights.read(file, trust=True)
    assert list(seen) == list(module.state_dict())
    assert all(torch.equal(seen[name], value) for name, value in module.state_dict().items())


def test_a_module_within_itself_has_an_end(tmp_path):
    module = torch.nn.Module()
    module._modules["again"] = module
    torch.save(module, tmp_path / "endless.pth")
    with pytest.raises(UnsafeError, match="has over 100000 within it"):
        weights.read(tmp_path / "endless.pth", trust=True)


def test_names_in_a_file_have_no_say_over_the_terminal(tmp_path):
    file = tmp_path / "x.pkl"
    file.write_bytes(b"\x80\x02cx\x1b[2J\ny\x07" + b"z" * 5000 + b"\n.")
    with pytest.raises(UnsafeError) as caught:
        weights.read(file)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1000


def test_data_that_merely_look_odd_are_left_alone(tmp_path):
    for name, body in {
        "vocab.txt": b"cat\ndog\n",
        "config.json": json.dumps({"a": 1}).encode(),
        "merges.txt": b"#version: 0.2\n\xc4\xa0 t\n",
        "dot.txt": b".",
        "zlib.txt": b"x^2 + y^2",
    }.items():
        (tmp_path / name).write_bytes(body)
        assert scanning.scan(tmp_path / name).verdict == "clean", name


def test_data_that_begin_like_a_pickle_and_are_none_are_scanned_to_the_end(tmp_path):
    """The first opcode takes two values where there are none: picklescan raises."""
    (tmp_path / "model.safetensors").write_bytes(b"\x93\x00\x01\x02\x03\x04\x05\xff" * 50)
    found = scanning.scan(tmp_path / "model.safetensors")
    assert [finding.what for finding in found.findings] == ["of no known format"]


def test_what_picklescan_cannot_follow_is_refused(tmp_path, monkeypatch):
    def lost(data: bytes) -> set[str]:
        raise ValueError("Found 1 values for STACK_GLOBAL")

    file = tmp_path / "x.pkl"
    file.write_bytes(pickle.dumps({"weight": [1.0]}, protocol=2))
    monkeypatch.setattr(pickles, "_dangerous", lost)
    [finding] = [f for f in scanning.scan(file).findings if f.verdict == "unsafe"]
    assert "more than picklescan can follow" in finding.what
