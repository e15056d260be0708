"""What a pickle would import and call, read from its opcodes; nothing of it is done.

Two look at every pickle. Ours follows the stack, so that a name is known however it gets there,
and allows only what `torch.save` needs to write tensors. picklescan has a maintained list of
what is dangerous, and says which of the rest is hostile and not merely unusual. Both are
advisory: what keeps code from running is `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import io
import logging
import pickletools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from converters.scan import Finding

MOST_BYTES = 64 << 20  # of a pickle without its tensors
_MOST_OPCODES = 2_000_000  # of some 70,000 tensors
_MOST_IMPORTS = 1000  # distinct ones
_MOST_DEPTH = 100  # of tuples in tuples, which are hashed by recursion without a check
_MOST_EXPANDED = 1_000_000  # elements of a tuple, those of its tuples counted
TORCH_MAGIC = 0x1950A86A20F9469CFC6C

_NEEDED = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|(builtins|__builtin__)\.set"
    r"|torch\.(Size|device|Tensor|bool|b?(float|complex)\d\w*|u?int\d+|q?u?int\w+|bits\w+)"
    r"|torch\.(cuda\.)?(sparse\.)?\w+(Storage|Tensor)|torch\.per_(tensor|channel)_\w+"
    r"|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\.storage\.\w+Storage|torch\.serialization\._get_layout"
    r"|torch\.nn\.parameter\.(Parameter|Buffer)"
)
# What in torch fetches, loads or builds code, and picklescan does not know of.
_RUNS_CODE = re.compile(
    r"torch\.((serialization|jit|jit\._serialization|export)\.)?(load|_load|_legacy_load)"
    r"|torch\.(hub|utils\.cpp_extension)\.\w+|torch\.(ops|classes|_ops\.\w+)\.load_library"
    r"|torch\.utils\._config_module\.\w*load_config|torch\._utils\._import_dotted_name"
    r"|torch\.package\.\w*[iI]mporter(\.\w+)*"
)
# What torch itself would make, of any size that the pickle says.
_FILLS_MEMORY = {"builtins.bytearray", "__builtin__.bytearray"}
_STRINGS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE"} | {
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
}
_REGISTRY = {"EXT1", "EXT2", "EXT4"}
_TUPLES = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}


@dataclass
class Contents:
    """What was seen in one pickle: as much as came before it broke, where it did.

    A name that is only made as the pickle runs is None.
    """

    imports: dict[str | None, int] = field(default_factory=dict)  # name -> where it is first
    faults: list[str] = field(default_factory=list)  # what is made to break a reader
    damage: str | None = None
    end: int = 0  # where it ends, in bytes from the start of the stream
    first: object = None  # the argument of the first opcode that has a value


@dataclass(frozen=True)
class _Value:
    """What stands for an object on the stack."""

    text: str | None = None
    depth: int = 0
    expanded: int = 1


_QUIET = logging.NullHandler()  # one for all files: each that is added is asked each time
_UNKNOWN = _Value()


def findings(data: bytes, where: str, pickles: int | None = None) -> tuple[list[Finding], int]:
    """Findings of the pickles in ``data``, one after the other, and where the last one ends.

    ``pickles`` is how many there must be; without it, as many as there are. ``where`` names
    ``data`` in what is found.
    """
    found: dict[str, Finding] = {}
    stream, start, number = io.BytesIO(data), 0, 0
    contents = Contents()
    while number < pickles if pickles is not None else (start < len(data) or not number):
        stream.seek(start)
        contents = read(stream, len(data))
        if number and pickles is None and contents.damage and not contents.imports:
            break  # what follows the last pickle is none
        for finding in _judge(contents, data[start : contents.end], where):
            found.setdefault(finding.what, finding)
        number, start = number + 1, contents.end
        if contents.damage:
            break
    return list(found.values()), start


def names(data: bytes) -> set[str]:
    """The names of all globals that the pickles in ``data`` import beyond what weights need."""
    contents, start, found = Contents(), 0, set[str]()
    stream = io.BytesIO(data)
    while start < len(data) and not contents.damage:
        stream.seek(start)
        contents = read(stream, len(data))
        found |= {name for name in contents.imports if name}
        start = contents.end
    return {name for name in found if not _NEEDED.fullmatch(name)}


def read(stream: IO[bytes], end: int) -> Contents:
    """What the pickle at the position of ``stream`` holds, which has ``end`` bytes in all."""
    contents = Contents()
    imports = contents.imports
    try:
        for opcode, argument, value, at in _walk(_Bounded(stream, end)):
            if contents.first is None and argument is not None and opcode != "PROTO":
                contents.first = argument
            if opcode in {"GLOBAL", "INST"}:
                imports.setdefault(str(argument).replace(" ", "."), at)
            elif opcode == "STACK_GLOBAL":
                imports.setdefault(value.text, at)
            elif opcode in _REGISTRY:
                imports.setdefault(f"copyreg extension {argument}", at)
            elif value.depth > _MOST_DEPTH or value.expanded > _MOST_EXPANDED:
                contents.faults.append(f"nests tuples without reason at byte {at}")
                break
            if len(imports) > _MOST_IMPORTS:
                contents.faults.append(f"imports over {_MOST_IMPORTS} names")
                break
    except _TooLongError as error:
        contents.faults.append(str(error))
    except Exception as error:  # damaged bytes make pickletools raise anything
        contents.damage = " ".join(str(error).split())[:200] or type(error).__name__
    contents.end = stream.tell()
    return contents


class _TooLongError(Exception):
    pass


class _Bounded:
    """A stream of which no more is asked than it has: Python reserves what is asked for."""

    def __init__(self, stream: IO[bytes], end: int) -> None:
        self._stream, self._end = stream, end

    def tell(self) -> int:
        return self._stream.tell()

    def read(self, size: int) -> bytes:
        left = self._end - self._stream.tell()
        if not 0 <= size <= left:
            raise ValueError(f"{size} bytes are announced where {left} are left")
        return self._stream.read(size)

    def readline(self) -> bytes:
        return self._stream.readline(MOST_BYTES)


def _walk(stream: _Bounded) -> Iterator[tuple[str, object, _Value, int]]:
    """Each opcode with its argument, what it leaves on the stack, and its position.

    For STACK_GLOBAL the value's text is the name, None where it is made as the pickle runs.
    """
    stack: list[_Value | None] = []  # None is a mark
    memo: dict[int, _Value] = {}
    for number, (opcode, argument, at) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
        if number > _MOST_OPCODES:
            raise _TooLongError(f"has over {_MOST_OPCODES} opcodes, more than weights need")
        name, position = opcode.name, int(at or 0)
        if name == "MARK":
            stack.append(None)
            continue
        if name == "MEMOIZE" or name.endswith("PUT"):
            key = len(memo) if name == "MEMOIZE" else int(argument or 0)
            memo[key] = _top(stack)
            continue
        taken = _take(opcode, stack)
        value = _result(name, argument, taken, memo)
        if opcode.stack_after:
            stack.append(value)
            stack.extend([value] * (len(opcode.stack_after) - 1))  # DUP
        yield name, argument, value, position


def _take(opcode: pickletools.OpcodeInfo, stack: list[_Value | None]) -> list[_Value]:
    """Pop what the opcode takes from the stack."""
    before = opcode.stack_before
    if pickletools.markobject in before:  # the mark and all above it, and what stands before
        above: list[_Value] = []
        while (item := stack.pop()) is not None:
            above.append(item)
        below = [_pop(stack) for _ in before[: before.index(pickletools.markobject)]]
        return [*below[::-1], *above[::-1]]
    if opcode.name == "POP" and stack and stack[-1] is None:
        stack.pop()
        return []
    return [_pop(stack) for _ in before][::-1]


def _pop(stack: list[_Value | None]) -> _Value:
    value = stack.pop()
    if value is None:
        raise ValueError("a mark stands where a value is taken")
    return value


def _top(stack: list[_Value | None]) -> _Value:
    value = stack[-1]
    if value is None:
        raise ValueError("a mark is remembered")
    return value


def _result(name: str, argument: object, taken: list[_Value], memo: dict[int, _Value]) -> _Value:
    if name in _STRINGS:
        return _Value(str(argument))
    if name.endswith("GET"):
        return memo[int(str(argument))]
    if name == "STACK_GLOBAL":
        module, attribute = (item.text for item in taken)
        return _Value(None if module is None or attribute is None else f"{module}.{attribute}")
    if name == "DUP":
        return taken[0]
    if name in _TUPLES:
        return _Value(
            depth=1 + max((item.depth for item in taken), default=0),
            expanded=1 + sum(item.expanded for item in taken),
        )
    return _UNKNOWN


def _judge(contents: Contents, data: bytes, where: str) -> Iterator[Finding]:
    beyond = {n: at for n, at in contents.imports.items() if not (n and _NEEDED.fullmatch(n))}
    dangerous: set[str] = set()
    try:
        dangerous = set() if contents.faults else _dangerous(data)
    except Exception as error:  # picklescan follows only what is whole
        if not contents.damage:
            yield Finding("unsafe", f"{where} is more than picklescan can follow: {error}")
    for name, at in beyond.items():
        place = f"at byte {at} of {where}"
        if name is None:
            yield Finding("unsafe", f"imports a name that it computes, {place}")
        elif name in dangerous or name in _FILLS_MEMORY or _is_known_to_run(name):
            yield Finding("unsafe", f"imports {name} {place}")
        elif _reaches_through(name):
            yield Finding("unsafe", f"imports {name}, of another module, {place}")
        else:
            yield Finding("trust", f"imports {name} {place}")
    for name in sorted(dangerous - set(contents.imports)):
        yield Finding("unsafe", f"imports {name}, says picklescan, in {where}")
    for fault in contents.faults:
        yield Finding("unsafe", f"{where} {fault}")
    if contents.damage:
        yield Finding("damaged", f"{where} is no whole pickle: {contents.damage}")


def _is_known_to_run(name: str) -> bool:
    return name.startswith("copyreg extension") or bool(_RUNS_CODE.fullmatch(name))


def _reaches_through(name: str) -> bool:
    """Does it name something by way of a module that merely imports it (`torch.serialization.os`)?

    A scanner that knows the module by its own name does not know it by that one.
    """
    parts = name.split(".")
    tails = (".".join(parts[start:]) for start in range(1, len(parts) - 1))
    return any(
        _dangerous(b"c%b\n%b\n." % tuple(part.encode() for part in tail.rpartition(".")[::2]))
        for tail in tails
    )


def _dangerous(data: bytes) -> set[str]:
    """The names that picklescan calls dangerous."""
    from picklescan import scanner

    logging.getLogger("picklescan").addHandler(_QUIET)  # it warns of what it finds
    result = scanner.scan_pickle_bytes(io.BytesIO(data), "pickle")
    return {
        f"{item.module}.{item.name}"
        for item in result.globals
        if item.safety is scanner.SafetyLevel.Dangerous
        and "unknown" not in {item.module, item.name}
    }
