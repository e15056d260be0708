"""Files of tensors and of Keras that are not what they claim, or would run code."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from catalog.errors import IntegrityError, TlhubError
from converters import scanning, weights


def _safetensors(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _entry(begin: int, end: int, shape: tuple[int, ...] = (2,), dtype: str = "F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


SAFETENSORS = {
    "overlap": _safetensors({"a": _entry(0, 8), "b": _entry(4, 12)}, bytes(12)),
    "a hole": _safetensors({"a": _entry(0, 8), "b": _entry(12, 20)}, bytes(20)),
    "beyond the end": _safetensors({"a": _entry(0, 8)}, bytes(4)),
    "bytes behind": _safetensors({"a": _entry(0, 8)}, bytes(8) + b"#!/bin/sh"),
    "another length than the shape": _safetensors({"a": _entry(0, 8, (3,))}, bytes(8)),
    "a shape of 2**80": _safetensors({"a": _entry(0, 8, (2**40, 2**40))}, bytes(8)),
    "a negative shape": _safetensors({"a": _entry(0, 8, (-1, -2))}, bytes(8)),
    "backwards": _safetensors({"a": _entry(8, 0)}, bytes(8)),
    "no numbers": _safetensors({"a": _entry("0", 8)}, bytes(8)),  # type: ignore[arg-type]
    "a header of 2**62": struct.pack("<Q", 1 << 62) + b'{"a":1}' + bytes(100),
    "a header of all memory": struct.pack("<Q", 90 << 20) + b"{" + bytes(100),
    "twice": _safetensors(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}',
        bytes(8),
    ),
    "nested a million deep": _safetensors(b'{"a":' + b"[" * 1_000_000, b""),
    "a list": _safetensors(b'{} [{"a": 1}]', b""),
    "a number of a million digits": _safetensors(b'{"a":' + b"9" * 1_000_000 + b"}", b""),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_that_lie_are_refused(name, tmp_path):
    file = tmp_path / "x.safetensors"
    file.write_bytes(SAFETENSORS[name])
    tracemalloc.start()
    with pytest.raises(IntegrityError, match=r"x\.safetensors is corrupted"):
        weights.read(file)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert scanning.scan(file).verdict == "damaged"


def test_decent_safetensors_are_clean(tmp_path):
    state = {
        "a": torch.ones(2, 3, dtype=torch.bfloat16),
        "empty": torch.ones(0),
        "scalar": torch.tensor(1),
        "f8": torch.ones(3).to(torch.float8_e4m3fn),
        "flag": torch.tensor([True]),
    }
    weights.write(state, tmp_path / "x")
    assert scanning.scan(tmp_path / "x") == scanning.Scan("safetensors")
    assert set(weights.read(tmp_path / "x")) == set(state)


def _gguf(tensors: int = 0, pairs: int = 0, body: bytes = b"", version: int = 3) -> bytes:
    return struct.pack("<4sIQQ", b"GGUF", version, tensors, pairs) + body


def _gguf_text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


GGUF = {
    "a trillion tensors": _gguf(tensors=10**12),
    "a trillion values": _gguf(pairs=10**12),
    "a key of 2**60": _gguf(pairs=1, body=struct.pack("<Q", 1 << 60) + b"general.name"),
    "an array of 2**60": _gguf(pairs=1, body=_gguf_text("k") + struct.pack("<IIQ", 9, 4, 1 << 60)),
    "arrays of arrays": _gguf(
        pairs=1,
        body=_gguf_text("k") + struct.pack("<IIQ", 9, 9, 1) * 1 + struct.pack("<IQ", 9, 1) * 50,
    ),
    "another version": _gguf(version=99),
    "a tensor beyond the end": _gguf(
        tensors=1, body=_gguf_text("t") + struct.pack("<IQIQ", 1, 4, 0, 1 << 50)
    ),
    "a tensor of a billion dimensions": _gguf(
        tensors=1, body=_gguf_text("t") + struct.pack("<IQIQ", 10**9, 4, 0, 0)
    ),
    "cut": _gguf()[:20],
}


@pytest.mark.parametrize("name", GGUF)
def test_gguf_that_lies_is_seen(name, tmp_path):
    (tmp_path / "x.gguf").write_bytes(GGUF[name])
    started = time.monotonic()
    scan = scanning.scan(tmp_path / "x.gguf")
    assert (scan.format, scan.verdict) == ("gguf", "damaged")
    assert time.monotonic() - started < 5
    with pytest.raises(TlhubError):
        weights.read(tmp_path / "x.gguf")


def test_a_decent_gguf_is_clean_and_its_template_named(tmp_path):
    pairs = _gguf_text("general.name") + struct.pack("<I", 8) + _gguf_text("x")
    pairs += _gguf_text("list") + struct.pack("<IIQ", 9, 8, 2) + _gguf_text("a") + _gguf_text("b")
    tensor = _gguf_text("t") + struct.pack("<IQIQ", 1, 4, 0, 0)
    (tmp_path / "x.gguf").write_bytes(_gguf(1, 2, pairs + tensor + bytes(64)))
    assert scanning.scan(tmp_path / "x.gguf") == scanning.Scan("gguf")
    pairs += _gguf_text("tokenizer.chat_template") + struct.pack("<I", 8) + _gguf_text("{{ x }}")
    (tmp_path / "x.gguf").write_bytes(_gguf(1, 3, pairs + tensor + bytes(64)))
    assert scanning.scan(tmp_path / "x.gguf").verdict == "code"


def _keras(config: object, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n")
        for name, body in members.items():
            archive.writestr(name, body)
    return stream.getvalue()


def _model(*layers: object) -> object:
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "s", "dtype": {"module": "keras", "class_name": "DTypePolicy"},
                   "layers": [_layer("Dense"), *layers]},
        "registered_name": None,
    }  # fmt: skip


def _layer(kind: str, module: str | None = "keras.layers", registered=None, **config: object):
    return {"module": module, "class_name": kind, "config": config, "registered_name": registered}


KERAS = {
    "Lambda": _layer(
        "Lambda", function={"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}
    ),
    "runs code of its own": _layer("Lambda", None),
    "the module os": {"module": "os", "class_name": "function", "config": "system"},
    "the module builtins": {"module": "builtins", "class_name": "function", "config": "eval"},
    "the module keras.utils": _layer("get_file", "keras.utils", origin="http://127.0.0.1/"),
    "the module keras.src.utils": _layer("get_file", "keras.src.utils.file_utils"),
    "the module keras_evil": _layer("Dense", "keras_evil.layers"),
    "needs mine>Layer": _layer("Layer", None, registered="mine>Layer"),
    "TorchModuleWrapper": _layer("TorchModuleWrapper", module="keras.layers"),
    "TFSMLayer": _layer("TFSMLayer", filepath="/tmp/x"),
    "vocabulary of StringLookup from a file": _layer("StringLookup", vocabulary="/etc/passwd"),
}


@pytest.mark.parametrize("said", KERAS)
@pytest.mark.parametrize("depth", [0, 3])
def test_a_keras_archive_with_code_in_it_is_refused(said, depth, tmp_path):
    layer = KERAS[said]
    for _ in range(depth):
        layer = _layer("TimeDistributed", layer=layer)
    (tmp_path / "x.keras").write_bytes(_keras(_model(layer)))
    scan = scanning.scan(tmp_path / "x.keras")
    assert (scan.format, scan.verdict) == ("keras", "unsafe")
    assert any(said in finding.what for finding in scan.findings), scan
    with pytest.raises(TlhubError):
        weights.read(tmp_path / "x.keras", trust=True)


def test_a_decent_keras_archive_is_clean(tmp_path):
    inner = _layer("Activation", "keras.src.layers.activations.activation", activation="relu")
    (tmp_path / "x.keras").write_bytes(_keras(_model(inner), **{"assets/vocabulary.txt": b"a"}))
    assert scanning.scan(tmp_path / "x.keras") == scanning.Scan("keras")


@pytest.mark.parametrize("member", ["../evil", "/evil", "x.pkl", "CONFIG.JSON", "code.py"])
def test_what_else_a_keras_archive_holds_condemns_it(member, tmp_path):
    (tmp_path / "x.keras").write_bytes(_keras(_model(), **{member: b"evil"}))
    assert scanning.scan(tmp_path / "x.keras").verdict == "unsafe"


def test_a_keras_configuration_a_million_deep_is_damaged(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("config.json", b"[" * 1_000_000)
        archive.writestr("model.weights.h5", b"")
    (tmp_path / "x.keras").write_bytes(stream.getvalue())
    assert scanning.scan(tmp_path / "x.keras").verdict == "damaged"


def test_an_hdf5_file_with_a_lambda_layer_is_refused(tmp_path):
    """As Keras 2 wrote it: the configuration is text within the file, with h5py or without."""
    config = json.dumps(_model(_layer("Lambda", None)))
    body = b"\x89HDF\r\n\x1a\n" + bytes(100) + config.encode() + bytes(100)
    (tmp_path / "x.h5").write_bytes(body)
    scan = scanning.scan(tmp_path / "x.h5")
    assert scan.format == "hdf5"
    assert scan.verdict in {"unsafe", "damaged"}  # h5py, where it is installed, sees a torso


def test_programs_and_requests_to_run_one_are_named(tmp_path):
    for name, body in {
        "modeling_x.py": b"import os",
        "run.bin": b"\x7fELF" + bytes(100),
        "setup": b"#!/bin/sh\n",
        "config.json": b'{"auto_map": {"AutoModel": "modeling_x.X"}}',
        "saved_model.pb": b"\x08\x01\x12\xff" + bytes(10),
    }.items():
        (tmp_path / name).write_bytes(body)
        assert scanning.scan(tmp_path / name).verdict == "code", name


def test_any_bytes_at_all_are_scanned_without_a_word(tmp_path):
    random = np.random.default_rng(0)
    samples: list[Path] = []
    starts = [b"", b"PK\x03\x04", b"\x80\x02", b"GGUF\x03\0\0\0", b"\x93NUMPY\x01\0", b"{"]
    starts += [b"\x1f\x8b", b"\x08\x07", bytes(257) + b"ustar", b"\x89HDF\r\n\x1a\n"]
    for start in starts:
        for suffix in ("bin", "onnx", "pkl", "safetensors", "npz"):
            samples.append(tmp_path / f"{len(samples)}.{suffix}")
            samples[-1].write_bytes(start + random.integers(0, 256, 300, np.uint8).tobytes())
    for file in [*samples, tmp_path / "empty"]:
        file.touch()
        scanning.scan(file)
