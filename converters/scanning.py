"""`scan`: what a file is by its first bytes, and whether reading it could do harm.

Nothing is loaded and no framework is imported; see docs/reference/safety.md for what is looked at.
"""

from __future__ import annotations

import bz2
import json
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.errors import UnsafeError
from converters import checkpoints, headers, keras_files, pickles
from converters.scan import Finding, Scan

_MOST_TEXT_BYTES = 16 << 20
_PICKLE_STARTS = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_COMPRESSED: dict[bytes, Callable[[bytes], Any]] = {
    b"\x1f\x8b": lambda _: zlib.decompressobj(wbits=31),
    b"BZh": lambda _: bz2.BZ2Decompressor(),
    b"\xfd7zXZ": lambda _: lzma.LZMADecompressor(),
    b"\x78\x01": lambda _: zlib.decompressobj(),
    b"\x78\x5e": lambda _: zlib.decompressobj(),
    b"\x78\x9c": lambda _: zlib.decompressobj(),
    b"\x78\xda": lambda _: zlib.decompressobj(),
}
_CODE_STARTS = (b"#!", b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
_CODE_SUFFIXES = (".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".exe", ".bat", ".ps1", ".js")
_SAVED_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".p", ".pk")


def scan(file: Path, name: str | None = None) -> Scan:
    """What the file at ``file`` is, and what was found in it.

    ``name`` is what it is called, where that is not the name of ``file`` (in a store it is a
    hash): some formats are known by their suffix only.

    Raises:
        OSError: it cannot be read.
    """
    look = _Look(file, name or file.name)
    with file.open("rb") as stream:
        start = stream.read(512)
    found = next(filter(None, (make(look) for fits, make in _FORMATS if fits(look, start))), None)
    found = found or _nothing_known(look, start)
    if look.suffix == ".safetensors" and found.format != "safetensors":
        wrong = Finding("unsafe", f"is named .safetensors and is {found.format}")
        return Scan(found.format, (*found.findings, wrong))
    return found


def refuse(files: Mapping[str, Path], *, trust: bool) -> None:
    """Refuse files (by their names) that a program which trusts them would run code from.

    This is for files that are handed on as they are; ``trust`` hands on all of them.

    Raises:
        UnsafeError: there is one; the message names it and what was found.
    """
    for name, path in () if trust else files.items():
        for finding in scan(path, name).findings:
            if finding.verdict == "unsafe":
                raise UnsafeError(
                    f"{name} was not kept: it {finding.what}",
                    hint="do not load it; --trust keeps the file as it is, for you to look into",
                )


@dataclass(frozen=True)
class _Look:
    file: Path
    name: str

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix


def _is_safetensors(look: _Look, start: bytes) -> bool:
    # The length of the header comes first: no header has 2**40 bytes, and no text begins so.
    return start[8:9] == b"{" and (look.suffix == ".safetensors" or start[5:8] == b"\0\0\0")


def _scan_zip(look: _Look) -> Scan:
    file = look.file
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if look.suffix == ".keras" or keras_files.is_archive(names):
                return keras_files.scan_archive(file, archive)
            if names and all(name.endswith(".npy") for name in names):
                return headers.scan_npz(file, archive)
            return checkpoints.scan_zip(file, archive)
    except Exception as error:  # zipfile raises anything over bytes that make no sense
        said = str(error) or type(error).__name__
        return Scan("zip", (Finding("damaged", f"is no whole zip file: {said}"),))


def _scan_compressed(look: _Look) -> Scan | None:
    file = look.file
    with file.open("rb") as stream:
        data = stream.read(min(file.stat().st_size, pickles.MOST_BYTES))
    make = next(make for start, make in _COMPRESSED.items() if data.startswith(start))
    try:
        inside = make(data).decompress(data, pickles.MOST_BYTES)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return None
    if inside.startswith(_PICKLE_STARTS) or look.name.split(".")[1:2] in (["pkl"], ["joblib"]):
        return Scan("pickle (compressed)", tuple(pickles.findings(inside, "the file")[0]))
    return Scan("compressed", (Finding("unknown", "its content was not looked into"),))


def _scan_graph(look: _Look) -> Scan:
    from converters import graphs

    return graphs.scan(look.file)


def _scan_json(look: _Look) -> Scan | None:
    file = look.file
    if file.stat().st_size > _MOST_TEXT_BYTES:
        return None
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return None
    if isinstance(content, dict) and "auto_map" in content:
        return Scan("json", (Finding("code", "asks `trust_remote_code` loaders to run code"),))
    return Scan("json")


def _scan_bare_pickle(look: _Look) -> Scan | None:
    """A pickle of the protocols that begin with nothing of their own."""
    found = checkpoints.scan_legacy(look.file)
    return found if found.verdict in {"unsafe", "trust", "unknown"} else None


def _nothing_known(look: _Look, start: bytes) -> Scan:
    if start.startswith(_CODE_STARTS) or look.suffix in _CODE_SUFFIXES:
        return Scan("program", (Finding("code", "is a program: tlhub never runs it"),))
    if PurePosixPath(look.name).name == "saved_model.pb":
        return Scan(
            "savedmodel", (Finding("code", "is a TensorFlow program: tlhub never runs it"),)
        )
    if start[4:8] == b"TFL3":
        return Scan("tflite")
    try:
        start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # not merely cut in a character
            return Scan(
                look.suffix.lstrip(".") or "data", (Finding("unknown", "of no known format"),)
            )
    return Scan("text")


# What a file may be, in this order; one that says None is something else after all.
_FORMATS: tuple[tuple[Callable[[_Look, bytes], bool], Callable[[_Look], Scan | None]], ...] = (
    (lambda _, start: start.startswith(checkpoints.ZIP_START), _scan_zip),
    (_is_safetensors, lambda look: headers.scan_safetensors(look.file)),
    (
        lambda _, start: start[:8] == b"\x89HDF\r\n\x1a\n",
        lambda look: keras_files.scan_h5(look.file),
    ),
    (lambda _, start: start[:4] == b"GGUF", lambda look: headers.scan_gguf(look.file)),
    (lambda _, start: start[:6] == b"\x93NUMPY", lambda look: headers.scan_npy(look.file)),
    (lambda _, start: start[257:262] == b"ustar", lambda look: checkpoints.scan_tar(look.file)),
    (lambda look, _: look.suffix == ".onnx", _scan_graph),
    (lambda _, s: s.startswith(_PICKLE_STARTS), lambda look: checkpoints.scan_legacy(look.file)),
    (lambda _, start: start.startswith(tuple(_COMPRESSED)), _scan_compressed),
    (lambda look, _: look.suffix in _SAVED_PICKLES, lambda k: checkpoints.scan_legacy(k.file)),
    (lambda _, start: start.lstrip()[:1] in {b"{", b"["}, _scan_json),
    (lambda _, start: bool(start), _scan_bare_pickle),
)
