"""ONNX files before they are opened: what they read from elsewhere, and what they ask to be run."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, TYPE_CHECKING, Any

from catalog.errors import IntegrityError, UnsafeError
from converters.scan import Finding, Scan

if TYPE_CHECKING:
    import onnx

_STANDARD = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training"}
_RUNTIMES_OWN = ("com.microsoft", "ai.onnxruntime", "com.ms.internal", "org.pytorch.aten")
_BITS = {  # of an element in the raw data, by the number of its type (onnx.proto)
    **dict.fromkeys((7, 11, 13, 14), 64),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((21, 22, 23), 4),
    15: 128,
}
_MOST_FINDINGS = 20
_MOST_METADATA_BYTES = 16 << 20
_MOST_FIELDS = 100_000  # of a model, beside those within its graph
_METADATA_PROPS = 14  # the field of ModelProto (onnx.proto)
_VARINT, _LENGTHS = 0, {1: 8, 2: None, 5: 4}  # kinds of fields, and how long they are
_AGAIN = "pull or fine-tune it again"


def scan(file: Path) -> Scan:
    """An ONNX graph: its external data, its operators, and tensors that claim what is not there."""
    bloat = _bloat(file)
    if bloat is not None:
        return Scan("onnx", (Finding("unsafe", bloat),))
    try:
        model = _parse(file)
    except IntegrityError as error:
        return Scan("onnx", (Finding("damaged", error.message),))
    found = [*_external(model, file), *_tensors(model), *_operators(model)]
    if _calls_itself(model):
        found.append(Finding("unsafe", "has functions that call themselves"))
    return Scan("onnx", tuple(dict.fromkeys(found)))


def check_external_data(file: Path) -> None:
    """Allow weights outside the file only in files of its own folder, and only where they are.

    Raises:
        UnsafeError: a tensor is read from elsewhere.
        IntegrityError: the file it is read from is missing or too short, or the graph cannot be
            parsed.
    """
    if not _mentions(file, b"location"):  # the key every external tensor must have
        return
    for finding in _external(_parse(file), file):
        kind = UnsafeError if finding.verdict == "unsafe" else IntegrityError
        raise kind(f"{file} {finding.what}", hint=_AGAIN)


def locations(file: Path) -> tuple[str, ...]:
    """The files in its folder, or below, that a graph says it keeps tensors in.

    Raises:
        IntegrityError: it is no graph. OSError: it cannot be read.
    """
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    if not _mentions(file, b"location"):
        return ()
    names = {
        entry.value
        for tensor in _get_all_tensors(_parse(file))
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    inside = (n for n in names if n and not PurePosixPath(n).is_absolute() and "\0" not in n)
    return tuple(sorted(n for n in inside if ".." not in PurePosixPath(n).parts))


def _bloat(file: Path) -> str | None:
    """What makes it too large to parse; None if nothing does. It is skipped, not read.

    In a message every field says how long it is.
    """
    noted, size = 0, file.stat().st_size
    with file.open("rb") as stream:
        for _ in range(_MOST_FIELDS):
            number, kind = divmod(_varint(stream), 8)
            if stream.tell() >= size or not number or kind not in (_VARINT, *_LENGTHS):
                break  # the end, or no graph
            if kind == _VARINT:
                _varint(stream)
                continue
            length = _LENGTHS[kind] or _varint(stream)
            if length > size - stream.tell():
                break  # cut short
            noted += length if number == _METADATA_PROPS else 0
            stream.seek(length, os.SEEK_CUR)
        else:
            return f"has more than {_MOST_FIELDS:,} fields"
    return f"has {noted >> 20} MiB of metadata" if noted > _MOST_METADATA_BYTES else None


def _varint(stream: IO[bytes]) -> int:
    """A number of protobuf; 0 at the end."""
    number = 0
    for shift in range(0, 70, 7):
        byte = (stream.read(1) or b"\0")[0]
        number |= (byte & 127) << shift
        if byte < 128:
            break
    return number


def _parse(file: Path) -> onnx.ModelProto:
    """The graph without its external data.

    Raises:
        IntegrityError: it is none.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load(str(file), load_external_data=False)
    except DecodeError as error:
        raise IntegrityError(f"{file} is not an ONNX graph: {error}", hint=_AGAIN) from error


def _external(model: onnx.ModelProto, file: Path) -> Iterator[Finding]:
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    for tensor in _get_all_tensors(model):
        if uses_external_data(tensor):
            yield from _where(tensor, file)


def _where(tensor: onnx.TensorProto, file: Path) -> Iterator[Finding]:
    said = {entry.key: entry.value for entry in tensor.external_data}
    location = said.get("location", "")
    folder = file.parent.resolve()
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).is_absolute()
    target = None
    if "\0" not in location and not absolute:
        target = (folder / location).resolve()
    if target is None or target == folder or not any(map(target.is_relative_to, _roots(file))):
        yield Finding("unsafe", f"reads {tensor.name} from {location!r}, outside its folder")
        return
    if not target.is_file():
        yield Finding("damaged", f"needs {location}, which is missing")
        return
    try:
        offset, length = int(said.get("offset") or 0), int(said.get("length") or 0)
    except ValueError:
        offset = length = -1
    if min(offset, length) < 0 or offset + length > target.stat().st_size:
        yield Finding(
            "damaged",
            f"reads {tensor.name} from bytes {said.get('offset', 0)} and {said.get('length', 0)} "
            f"more of {location}, which has {target.stat().st_size}",
        )


def _roots(file: Path) -> Iterator[Path]:
    """Where the data of a graph may lie: its folder, and the cache that the folder has links to."""
    yield file.parent.resolve()
    if file.is_symlink():
        yield from (above for above in file.resolve().parents if above.name == "blobs")


def _tensors(model: onnx.ModelProto) -> Iterator[Finding]:
    for tensor in _first(_claiming(model.graph.initializer)):
        yield Finding("damaged", f"has a tensor {tensor.name} of {list(tensor.dims)}, not its data")


def _claiming(tensors: Iterable[onnx.TensorProto]) -> Iterator[onnx.TensorProto]:
    for tensor in tensors:
        raw, bits = len(tensor.raw_data), _BITS.get(tensor.data_type)
        if tensor.data_location == tensor.EXTERNAL or not bits:
            continue
        elements = math.prod(tensor.dims) if min(tensor.dims, default=0) >= 0 else -1
        wrong = raw != (elements * bits + 7) // 8 if raw else elements > tensor.ByteSize() * 8
        if elements < 0 or wrong:
            yield tensor


def _operators(model: onnx.ModelProto) -> Iterator[Finding]:
    own = {(function.domain, function.name) for function in model.functions}
    foreign = {
        f"{node.domain}::{node.op_type}"
        for node in _nodes(model)
        if node.domain not in _STANDARD
        and not node.domain.startswith(_RUNTIMES_OWN)
        and (node.domain, node.op_type) not in own
    }
    for name in _first(sorted(foreign)):
        yield Finding("unsafe", f"needs the operator {name}, which only a library of its own has")


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    todo: list[Any] = [model.graph, *model.functions]
    while todo:
        for node in todo.pop().node:
            yield node
            for attribute in node.attribute:
                todo += [attribute.g] if attribute.HasField("g") else []
                todo += attribute.graphs


def _calls_itself(model: onnx.ModelProto) -> bool:
    """Is there a circle in what the functions of the model call? It could never be unfolded."""
    names = {(function.domain, function.name) for function in model.functions}
    calls = {
        (function.domain, function.name): {(node.domain, node.op_type) for node in function.node}
        & names
        for function in model.functions
    }
    while calls:  # take away what calls nothing that is left
        last = {name for name, called in calls.items() if not called & calls.keys()}
        if not last:
            return True
        calls = {name: called for name, called in calls.items() if name not in last}
    return False


def _first(items: Iterable[Any]) -> Iterator[Any]:
    for number, item in enumerate(items):
        if number == _MOST_FINDINGS:
            return
        yield item


def _mentions(file: Path, word: bytes) -> bool:
    with file.open("rb") as stream:
        if not file.stat().st_size:
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(word) >= 0
