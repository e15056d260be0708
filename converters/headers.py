"""Formats of tensors alone, in which there is no place for code: are they what they claim?

Sources: https://huggingface.co/docs/safetensors, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md,
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from catalog import members
from catalog.errors import UnsafeError
from converters import pickles
from converters.scan import Finding, Scan

_MOST_HEADER_BYTES = 25 << 20  # a hundred thousand tensors
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_GGUF_STRING, _GGUF_ARRAY = 8, 9
_MOST_GGUF_DEPTH = 4


class _BrokenError(Exception):
    pass


def scan_safetensors(file: Path) -> Scan:
    """A safetensors file: its header within it, every tensor as long as its shape says."""
    try:
        with file.open("rb") as stream:
            _check_safetensors(stream, file.stat().st_size)
    except _BrokenError as error:
        return Scan("safetensors", (Finding("damaged", str(error)),))
    return Scan("safetensors")


def _check_safetensors(stream: IO[bytes], size: int) -> None:
    (length,) = struct.unpack("<Q", _exactly(stream, 8, size))
    if length > min(size - 8, _MOST_HEADER_BYTES):
        raise _BrokenError(f"announces a header of {length} bytes, the file has {size}")
    header = _json(_exactly(stream, length, size))
    spans = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, (begin, end) = _tensor_entry(name, entry)
        bits = math.prod(shape) * _BITS.get(dtype, 0)
        if dtype in _BITS and bits != 8 * (end - begin):
            raise _BrokenError(f"{name} is {dtype} of {shape}, in {end - begin} bytes")
        spans.append((begin, end, name))
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at or end < begin:
            raise _BrokenError(f"{name} is at bytes {begin} to {end}, expected it at {at}")
        at = end
    if at != size - 8 - length:
        raise _BrokenError(f"tensors take {at} bytes, the file has {size - 8 - length}")


def _json(text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise _BrokenError("has a header that names something twice")
        return dict(pairs)

    try:
        header = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _BrokenError(f"has a header that cannot be read: {error}") from error
    if not isinstance(header, dict):
        raise _BrokenError("has a header that is no object")
    return header


def _tensor_entry(name: str, entry: Any) -> tuple[str, list[int], tuple[int, int]]:
    try:
        begin, end = entry["data_offsets"]
        dtype, shape = entry["dtype"], entry["shape"]
        numbers = [begin, end, *shape]
    except (KeyError, TypeError, ValueError) as error:
        raise _BrokenError(f"has no dtype, shape and two offsets for {name!r}") from error
    if any(type(number) is not int or number < 0 for number in numbers):
        raise _BrokenError(f"has numbers for {name!r} that are none: {numbers}")
    return str(dtype), list(shape), (begin, end)


def scan_gguf(file: Path) -> Scan:
    """A GGUF file: its metadata and tensor list within it."""
    try:
        with file.open("rb") as stream:
            found = tuple(_gguf_findings(stream, file.stat().st_size))
    except (_BrokenError, UnicodeDecodeError) as error:
        return Scan("gguf", (Finding("damaged", str(error)),))
    return Scan("gguf", found)


def _gguf_findings(stream: IO[bytes], size: int) -> Iterator[Finding]:
    _, version, tensors, pairs = struct.unpack("<4sIQQ", _exactly(stream, 24, size))
    if version not in {2, 3}:
        raise _BrokenError(f"has version {version} of the format, 2 and 3 are known")
    if tensors * 24 + pairs * 13 > size:  # the least that each can take
        raise _BrokenError(f"announces {tensors} tensors and {pairs} values in {size} bytes")
    for _ in range(pairs):
        key = _gguf_string(stream, size).decode()
        (kind,) = struct.unpack("<I", _exactly(stream, 4, size))
        _skip_gguf_value(stream, size, kind)
        if key.startswith("tokenizer.chat_template"):
            yield Finding("code", f"has a template, {key}, which some programs run")
    for _ in range(tensors):
        name = _gguf_string(stream, size).decode()
        (dimensions,) = struct.unpack("<I", _exactly(stream, 4, size))
        if dimensions > 8:
            raise _BrokenError(f"{name} has {dimensions} dimensions")
        *_, offset = struct.unpack(f"<{dimensions}QIQ", _exactly(stream, 8 * dimensions + 12, size))
        if offset > size:
            raise _BrokenError(f"{name} is at byte {offset} of {size}")


def _skip_gguf_value(stream: IO[bytes], size: int, kind: int, depth: int = 0) -> None:
    if kind == _GGUF_STRING:
        _gguf_string(stream, size)
    elif kind == _GGUF_ARRAY and depth < _MOST_GGUF_DEPTH:
        of, count = struct.unpack("<IQ", _exactly(stream, 12, size))
        if of in _GGUF_SIZES:
            _skip(stream, count * _GGUF_SIZES[of], size)
            return
        if count > size:
            raise _BrokenError(f"announces {count} values in {size} bytes")
        for _ in range(count):
            _skip_gguf_value(stream, size, of, depth + 1)
    elif kind in _GGUF_SIZES:
        _skip(stream, _GGUF_SIZES[kind], size)
    else:
        raise _BrokenError(f"has a value of kind {kind}, which is none")


def _gguf_string(stream: IO[bytes], size: int) -> bytes:
    (length,) = struct.unpack("<Q", _exactly(stream, 8, size))
    return _exactly(stream, length, size)


def _skip(stream: IO[bytes], count: int, size: int) -> None:
    if count > size - stream.tell():
        raise _BrokenError(f"is cut short: {count} bytes announced at byte {stream.tell()}")
    stream.seek(count, io.SEEK_CUR)


def _exactly(stream: IO[bytes], count: int, size: int) -> bytes:
    """So many bytes, of a stream of ``size``: Python reserves what is asked for."""
    if count > size - stream.tell():
        raise _BrokenError(f"is cut short: {count} bytes announced at byte {stream.tell()}")
    return stream.read(count)


def scan_npy(file: Path) -> Scan:
    """An array of NumPy; one of objects is a pickle."""
    with file.open("rb") as stream:
        return Scan("npy", tuple(_npy_findings(stream, file.name)))


def scan_npz(file: Path, archive: zipfile.ZipFile) -> Scan:
    """A zip file of such arrays."""
    found: list[Finding] = []
    try:
        members.check(map(members.Member.of_zip, archive.infolist()), "it", file.stat().st_size)
        for name in archive.namelist():
            with archive.open(name) as stream:
                found += _npy_findings(stream, name)
    except UnsafeError as error:
        found.append(Finding("unsafe", error.message.removeprefix("it ")))
    except Exception as error:  # zipfile and its decompressors raise anything
        found.append(Finding("damaged", str(error) or type(error).__name__))
    return Scan("npz", tuple(found))


def _npy_findings(stream: IO[bytes], name: str) -> Iterator[Finding]:
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        _, _, dtype = read(stream)
    except (ValueError, EOFError, SyntaxError) as error:
        yield Finding("damaged", f"{name} is no array of NumPy: {error}")
        return
    if dtype.hasobject:
        yield Finding("unsafe", f"{name} is an array of objects, which is a pickle")
        yield from pickles.findings(stream.read(pickles.MOST_BYTES), name)[0]
