"""PyTorch's files as they are before one is loaded: zip, legacy and tar checkpoints.

What a file is, is decided as `torch.load` decides it, so that the scan sees what would be read.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from catalog import members
from catalog.errors import UnsafeError
from converters import pickles
from converters.scan import Finding, Scan

ZIP_START = b"PK\x03\x04"
_PICKLES_IN_LEGACY_FILE = 5  # magic number, protocol, system info, the dict, storage keys
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".pk", ".p", ".pt", ".pth", ".bin", ".joblib", ".dill")
_OF_TORCHSCRIPT = "__torch__."
_CHUNK_BYTES = 1 << 20


def scan_zip(file: Path, archive: zipfile.ZipFile) -> Scan:
    """A zip file: what `torch.save` writes, TorchScript, or any other archive with pickles."""
    names = archive.namelist()
    program = [n for n in names if n.rpartition("/")[2] == "constants.pkl" or "/code/" in n]
    checkpoint = any(n.rpartition("/")[2] == "data.pkl" for n in names)
    format_ = "zip"
    if checkpoint:
        format_ = "pytorch (TorchScript)" if program else "pytorch (zip)"
    found = list(_look_over(map(members.Member.of_zip, archive.infolist()), file))
    unpacked, there = sum(i.file_size for i in archive.infolist()), file.stat().st_size
    if checkpoint and unpacked > 2 * there + _CHUNK_BYTES:  # torch does not compress
        found.append(Finding("unsafe", f"has {there} bytes that unpack to {unpacked}"))
    if program and checkpoint:
        found.append(Finding("code", f"is a program of TorchScript, not weights: {program[0]}"))
    for info in archive.infolist():
        if info.filename.endswith(_PICKLE_SUFFIXES) and not info.is_dir():
            found += _member_findings(archive, info)
    own = f"imports {_OF_TORCHSCRIPT}" if program else "-"  # classes that the archive itself has
    return Scan(format_, tuple(one for one in found if not one.what.startswith(own)))


def scan_legacy(file: Path) -> Scan:
    """What `torch.save` wrote before 1.6, or a bare pickle of anything."""
    legacy, end = _extent(file)
    with file.open("rb") as stream:
        data = stream.read(end)
    if legacy:
        found, _ = pickles.findings(data, "the file", _PICKLES_IN_LEGACY_FILE)
        return Scan("pytorch (legacy)", tuple(found))
    found, _ = pickles.findings(data, "the file")
    if end < file.stat().st_size:
        found.append(Finding("unknown", f"only the first {end} bytes are a pickle"))
    elif not any(finding.verdict == "damaged" for finding in found):
        found.append(Finding("unknown", "is a bare pickle, which tlhub does not load"))
    return Scan("pickle", tuple(found))


def _extent(file: Path) -> tuple[bool, int]:
    """Did `torch.save` write the pickles at the start of a file, and where do they end?

    So that no more than they is read of a file that may be large.
    """
    size, number, legacy = file.stat().st_size, 0, False
    with file.open("rb") as stream:
        while stream.tell() < min(size, pickles.MOST_BYTES):
            contents = pickles.read(stream, size)
            legacy = legacy or (number == 0 and contents.first == pickles.TORCH_MAGIC)
            number += 1
            last = legacy and number == _PICKLES_IN_LEGACY_FILE
            if last or contents.damage or contents.faults:
                break
        return legacy, min(max(stream.tell(), 1), pickles.MOST_BYTES)


def scan_tar(file: Path) -> Scan:
    """A tar file; `torch.load` reads those of before 0.2 only by running their pickles."""
    found: list[Finding] = []
    names: list[str] = []
    try:
        with tarfile.open(file, "r:") as archive:
            infos = list(_first(archive))
            found += _look_over(map(members.Member.of_tar, infos), file)
            for info in infos:
                names.append(info.name.removeprefix("./"))
                stream = archive.extractfile(info) if info.isfile() else None
                if stream is not None and names[-1] in {"pickle", "storages", "tensors"}:
                    found += pickles.findings(
                        stream.read(min(info.size, pickles.MOST_BYTES)), names[-1]
                    )[0]
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        found.append(Finding("damaged", f"is no whole tar file: {error}"))
    if not {"pickle", "storages", "tensors"} <= set(names):
        return Scan("tar", (*found, Finding("unknown", "its members were not looked into")))
    found.append(Finding("unsafe", "is a tar checkpoint, which only a plain pickle can read"))
    return Scan("pytorch (tar)", tuple(found))


def unneeded_names(file: Path) -> set[str]:
    """What the pickles of a checkpoint that was scanned import beyond what weights need."""
    with file.open("rb") as stream:
        if stream.read(4) != ZIP_START:
            stream.seek(0)
            return pickles.names(stream.read(_extent(file)[1]))
    with zipfile.ZipFile(file) as archive:
        inside = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        return set().union(*(pickles.names(archive.read(name)) for name in inside))


def _first(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for number, info in enumerate(archive):
        if number > members.MOST_MEMBERS:
            return  # `check` says that there are more
        yield info


def _look_over(found: Iterator[members.Member], file: Path) -> Iterator[Finding]:
    try:
        members.check(found, "it", file.stat().st_size)
    except UnsafeError as error:
        yield Finding("unsafe", error.message.removeprefix("it "))


def _member_findings(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> list[Finding]:
    name = info.filename
    if info.file_size > pickles.MOST_BYTES:
        if name.endswith((".pt", ".pth", ".bin")):
            return [Finding("unknown", f"{name} was not looked into: {info.file_size} bytes")]
        return [Finding("unsafe", f"{name} is a pickle of {info.file_size} bytes")]
    data, damage = _read(archive, info)
    nested = not name.endswith((".pkl", ".pickle", ".pk", ".p"))
    if nested and not data.startswith(tuple(b"\x80" + bytes([n]) for n in range(2, 6))):
        return [] if damage is None else [Finding("damaged", f"{name}: {damage}")]
    found, end = pickles.findings(data, name)
    if damage is not None:
        found.append(Finding("damaged", f"{name}: {damage}"))
    elif end < len(data) and not nested:
        found.append(Finding("unsafe", f"{name} goes on after its pickle, at byte {end}"))
    return found


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[bytes, str | None]:
    """As much of a member as can be had, and what is wrong with it.

    Others read on where Python finds a checksum wrong, so that the bytes count all the same.
    """
    data = bytearray()
    try:
        with archive.open(info) as stream:
            data += stream.read(max(info.file_size - 1, 0))  # at the last byte it is checked
            data += stream.read(_CHUNK_BYTES)
    except Exception as error:  # zipfile and its decompressors raise anything
        return bytes(data), str(error) or type(error).__name__
    return bytes(data), None
