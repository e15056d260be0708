"""ONNX files, written a tensor at a time: in one piece protobuf holds a graph three times over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

_LENGTH = 2  # the kind of a field that says how long it is


def write(model: onnx.ModelProto, file: Path) -> None:
    """Write a graph, its weights inline: the same bytes for the same graph.

    Source: the encoding of Protocol Buffers, in which the fields of a message may have any order.

    Raises:
        OSError: it cannot be written.
    """
    around, graph = _without(model, "graph"), _without(model.graph, "initializer")
    start = graph.SerializeToString(deterministic=True)
    weights = model.graph.initializer
    sizes = [tensor.ByteSize() for tensor in weights]
    heads = [_head(model.graph, "initializer", size) for size in sizes]
    length = len(start) + sum(map(len, heads)) + sum(sizes)
    with file.open("wb") as stream:
        stream.write(around.SerializeToString(deterministic=True))
        stream.write(_head(model, "graph", length))
        stream.write(start)
        for head, tensor in zip(heads, weights, strict=True):
            stream.write(head)
            stream.write(tensor.SerializeToString(deterministic=True))


def size(model: onnx.ModelProto) -> int:
    """Bytes of a graph with its weights, without what a file has around fields.

    The message's own ``ByteSize`` writes it all into memory to see.
    """
    rest = (_without(model, "graph"), _without(model.graph, "initializer"))
    return sum(part.ByteSize() for part in (*rest, *model.graph.initializer))


def _without(message: Any, name: str) -> Any:
    """A copy of a message but for one of its fields."""
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name == name:
            continue
        if hasattr(value, "MergeFrom"):  # a message, or several values
            getattr(copy, field.name).MergeFrom(value)
        else:
            setattr(copy, field.name, value)
    return copy


def _head(message: Any, name: str, length: int) -> bytes:
    """What stands before a field of this length."""
    number = message.DESCRIPTOR.fields_by_name[name].number
    return _varint(number << 3 | _LENGTH) + _varint(length)


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    return bytes([*groups, number])
