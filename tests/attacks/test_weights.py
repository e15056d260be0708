"""Files of weights that want to run code, fill the memory, or are damaged."""

from __future__ import annotations

import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from catalog.errors import ConversionError, IntegrityError, TlhubError, UnsafeError
from converters import weights


class _Payload:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """The file that a payload makes when it runs."""
    return tmp_path / "it-ran"


def _payloads(trap: Path) -> dict[str, _Payload]:
    code = f"open({str(trap)!r}, 'w')"
    return {
        "posix.system": _Payload(os.system, f"touch {trap}"),
        "builtins.eval": _Payload(eval, code),
        "builtins.exec": _Payload(exec, code),
        "builtins.getattr": _Payload(getattr, "x", "y"),
    }


NAMES = ["posix.system", "builtins.eval", "builtins.exec", "builtins.getattr"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zip", "legacy", "protocol 2", "protocol 5"])
def test_a_pickle_that_imports_is_refused_by_name(name, kind, trap, tmp_path):
    content = {"weight": torch.zeros(3), "evil": _payloads(trap)[name]}
    file = tmp_path / "weights.pth"
    if kind.startswith("protocol"):
        content = {"weight": [0.0], "evil": [content["evil"], content["evil"]]}
        file.write_bytes(pickle.dumps(content, protocol=int(kind[-1])))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(UnsafeError, match=name.replace("builtins", "(builtins|__builtin__)")):
        weights.read(file)
    assert not trap.exists()


def test_what_the_scan_calls_harmless_is_still_kept_out(trap, tmp_path):
    """An import of torch's own that runs code: the scan lets it by, `weights_only` does not."""
    file = tmp_path / "weights.pth"
    payload = _Payload(torch.utils.collect_env.run, f"touch {trap}")
    torch.save({"weight": torch.zeros(3), "evil": payload}, file)
    with pytest.raises(UnsafeError, match=r"torch\.utils\.collect_env\.run") as caught:
        weights.read(file)
    assert not trap.exists()
    assert "weights_only=False" not in caught.value.message


def test_a_second_pickle_in_the_archive_is_seen(trap, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(3)}, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("weights/more.pkl", pickle.dumps(_payloads(trap)["posix.system"]))
    with pytest.raises(UnsafeError, match=r"posix\.system"):
        weights.read(file)


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path):
    file = tmp_path / "bomb.pth"
    torch.save({"weight": torch.zeros(3)}, file)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights/data/9", bytes(50_000_000))
    assert file.stat().st_size < 200_000
    with pytest.raises(UnsafeError, match="unpack to 500"):
        weights.read(file)


def test_a_tensor_that_claims_a_terabyte_is_refused(tmp_path):
    file = tmp_path / "stride.pth"
    torch.save({"weight": torch.zeros(1).expand(1_000_000, 250_000)}, file)
    with pytest.raises(UnsafeError, match="claims tensors of 1000000000000"):
        weights.read(file)


def test_a_tar_file_is_not_opened(tmp_path):
    file = tmp_path / "weights.pth"
    (tmp_path / "storages").write_bytes(b"x")
    with tarfile.open(file, "w") as archive:
        archive.add(tmp_path / "storages", "storages")
    with pytest.raises(IntegrityError):
        weights.read(file)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_every_truncation_is_corruption(kind, tmp_path):
    whole, file = tmp_path / "whole", tmp_path / "cut"
    state = {"weight": torch.randn(50, 50), "bias": torch.randn(50)}
    if kind == "safetensors":
        weights.write(state, whole)
    else:
        torch.save(state, whole, _use_new_zipfile_serialization=kind == "zip")
    content = whole.read_bytes()
    for length in (0, 1, 7, 30, 200, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(IntegrityError, match="cut"):
            weights.read(file)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_flipped_bytes_give_tensors_or_an_error_of_ours(kind, tmp_path):
    random, file = np.random.default_rng(0), tmp_path / "damaged"
    state = {"a.weight": torch.ones(3, 4), "b": torch.ones(2)}
    if kind == "safetensors":
        weights.write(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=kind == "zip")
    content, messages = file.read_bytes(), []
    for _ in range(700):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 3):
            damaged[place] = random.choice(np.frombuffer(b"(.)}tRbuqXKc0\x00\xff", np.uint8))
        file.write_bytes(damaged)
        try:
            weights.read(file)
        except TlhubError as error:
            messages.append(error.message)
    assert not [message for message in messages if "weights_only=False" in message]


@pytest.mark.parametrize("header", [2**63, 2**31, 0, 200])
def test_a_safetensors_header_that_lies_about_its_length(header, tmp_path):
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", header) + b'{"a":{"dtype":"F32","shape":[1]}}')
    with pytest.raises(IntegrityError, match="corrupted"):
        weights.read(file)


def test_safetensors_whose_offsets_lead_outside(tmp_path):
    head = b'{"a":{"dtype":"F32","shape":[250000000000],"data_offsets":[0,1000000000000]}}'
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(head)) + head + bytes(64))
    with pytest.raises(IntegrityError, match="corrupted"):
        weights.read(tmp_path / "x")


def test_a_text_or_another_format_is_said_to_be_none(tmp_path):
    for content in (b"<html>404</html>", b"\x89HDF\r\n\x1a\n" + bytes(100), b"GGUF" + bytes(100)):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises((IntegrityError, ConversionError)):
            weights.read(tmp_path / "x.pth")
