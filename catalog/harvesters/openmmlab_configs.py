"""The configurations of OpenMMLab, Python files of plain assignments, worked out from their source.

A file names others as `_base_`, whose values it changes; `_base_.name` refers to one of theirs.
Only literals, calls of `dict`, plain loops, references and arithmetic are worked out, with a limit
on how much; what else a file says is `UNKNOWN`. Nothing is run.
"""

from __future__ import annotations

import ast
import logging
import operator
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from catalog.errors import TlhubError
from catalog.harvesters.literals import parse_text
from catalog.harvesters.package import Package

log = logging.getLogger(__name__)

Config = dict[str, Any]

MAX_CHARACTERS = 500_000
MAX_STEPS = 200_000  # a file has some 2,000 values
MAX_LENGTH = 10_000  # of a list or a text
MAX_DEPTH = 60
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()


class Configs:
    """The configurations of a wheel by their path in it, each worked out once."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._names = frozenset(package.names)
        self._read: dict[str, Config] = {}

    def get(self, path: str) -> Config:
        """What a file and its bases say; empty where there is no such file or it is broken."""
        return self._get(path, ())

    def _get(self, path: str, above: tuple[str, ...]) -> Config:
        if path in self._read:
            return self._read[path]
        if path not in self._names or path in above or len(above) > MAX_DEPTH:
            return {}
        try:
            found = self._worked_out(path, (*above, path))
        except (TlhubError, RecursionError, _TooMuchError) as error:
            log.warning("%s: %s", path, error)
            found = {}
        self._read[path] = found
        return found

    def _worked_out(self, path: str, above: tuple[str, ...]) -> Config:
        source = self._package.text(path)
        if len(source) > MAX_CHARACTERS:
            raise _TooMuchError("it is too long for a configuration")
        text = re.sub(r"\{\{\s*(_base_\.[\w.]+)\s*\}\}", r"\1", source)
        module = parse_text(text, path)
        work = _Work()
        names: Config = {}
        for node in module.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    names[name] = work.value(value, names)
                    if name == "_base_":
                        bases = self._bases(path, names[name], above, work)
                        names[name] = bases
        inherited = names.pop("_base_", {})
        return work.merged(inherited if isinstance(inherited, dict) else {}, names)

    def _bases(self, path: str, said: Any, above: tuple[str, ...], work: _Work) -> Config:
        found: Config = {}
        for base in said if isinstance(said, list | tuple) else [said]:
            if isinstance(base, str):
                place = posixpath.normpath(posixpath.join(posixpath.dirname(path), base))
                found = work.merged(found, self._get(place, above))
        return found


class _TooMuchError(Exception):
    """A file says more than a configuration would."""


class _Work:
    """Works out the values of one file and counts the steps that takes."""

    def __init__(self) -> None:
        self._steps = 0

    def _step(self, count: int = 1) -> None:
        self._steps += count
        if self._steps > MAX_STEPS:
            raise _TooMuchError("it has too many values for a configuration")

    def value(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        """The value of an expression; UNKNOWN where it is more than a plain one."""
        self._step()
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return names.get(name, UNKNOWN)
            case ast.Tuple(elts=items) | ast.List(elts=items):
                found = self._items(items, names)
                return tuple(found) if isinstance(node, ast.Tuple) else found
            case ast.Dict(keys=keys, values=values):
                return self._dict(zip(keys, values, strict=True), names)
            case ast.Call() | ast.ListComp():
                return self._made(node, names)
            case ast.Subscript(value=of, slice=key):
                return _item(self.value(of, names), self.value(key, names))
            case ast.Attribute(value=of, attr=key):
                return _item(self.value(of, names), key)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                number = self.value(operand, names)
                return -number if isinstance(number, int | float) else UNKNOWN
            case ast.BinOp(left=left, op=sign, right=right):
                found = _calculated(sign, self.value(left, names), self.value(right, names))
                self._step(len(found) if isinstance(found, str | list | tuple) else 1)
                return found
        return UNKNOWN

    def _made(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        match node:
            case ast.Call(func=ast.Name(id="dict"), args=args, keywords=keywords):
                first = self.value(args[0], names) if args else {}
                pairs = ((ast.Constant(k.arg) if k.arg else None, k.value) for k in keywords)
                return {**(first if isinstance(first, dict) else {}), **self._dict(pairs, names)}
            case ast.Call(func=ast.Name(id="tuple" | "list" | "sum" as kind), args=[arg]):
                return _gathered(kind, self.value(arg, names))
            case ast.ListComp(elt=each, generators=[ast.comprehension(ifs=[]) as loop]):
                items = self.value(loop.iter, names)
                if not isinstance(loop.target, ast.Name) or not isinstance(items, list | tuple):
                    return UNKNOWN
                self._step(len(items) * len(names))
                return [self.value(each, {**names, loop.target.id: item}) for item in items]
        return UNKNOWN

    def _items(self, nodes: list[ast.expr], names: Mapping[str, Any]) -> list[Any]:
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                more = self.value(node.value, names)
                found += more if isinstance(more, list | tuple) else [UNKNOWN]
                self._step(len(found))
            else:
                found.append(self.value(node, names))
        return found

    def _dict(self, pairs: Any, names: Mapping[str, Any]) -> Config:
        found: Config = {}
        for key, node in pairs:
            value = self.value(node, names)
            if key is None:
                found |= value if isinstance(value, dict) else {}
                self._step(len(found))
            elif isinstance(name := self.value(key, names), str):
                found[name] = value
        return found

    def merged(self, base: Config, changes: Config) -> Config:
        """``base`` with the changes: dicts are merged unless they say `_delete_`."""
        found = dict(base)
        self._step(len(found))
        for key, value in changes.items():
            self._step()
            if isinstance(value, dict):
                below = found.get(key)
                keeps = isinstance(below, dict) and value.get("_delete_") is not True
                plain = {k: v for k, v in value.items() if k != "_delete_"}
                value = self.merged(below, plain) if keeps and isinstance(below, dict) else plain
            found[key] = value
        return found


def _item(of: Any, key: Any) -> Any:
    try:
        return of[key] if isinstance(of, dict | list | tuple | str) else UNKNOWN
    except (LookupError, TypeError):
        return UNKNOWN


def _gathered(kind: str, items: Any) -> Any:
    if not isinstance(items, list | tuple):
        return UNKNOWN
    if kind == "sum":
        return sum(items) if all(isinstance(item, int | float) for item in items) else UNKNOWN
    return tuple(items) if kind == "tuple" else list(items)


def _calculated(sign: ast.operator, left: Any, right: Any) -> Any:
    found = _OPERATORS.get(type(sign))
    plain = (int, float, str, list, tuple)
    if found is None or not isinstance(left, plain) or not isinstance(right, plain):
        return UNKNOWN
    sized = [item for item in (left, right) if isinstance(item, str | list | tuple)]
    counts = [item for item in (left, right) if isinstance(item, int)]
    if isinstance(sign, ast.Mod) and isinstance(left, str):
        return UNKNOWN
    if sized and len(sized[0]) * max([1, *counts]) > MAX_LENGTH:
        return UNKNOWN
    if any(abs(item) > 1e15 for item in counts):
        return UNKNOWN
    try:
        return found(left, right)
    except (TypeError, ValueError, ArithmeticError):
        return UNKNOWN
