"""The Python files of a package read as data: values of names, followed through imports, and calls.

Nothing is run. What cannot be told without running it is `UNKNOWN`. A call is kept as a `Call`,
except for ``dict(...)``, ``set()``, ``int(...)`` and their like, which are values.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from catalog.errors import TlhubError
from catalog.harvesters.literals import bounded, parse
from catalog.harvesters.package import Package

MAX_NUMBER = 1e30


class Unknown(Enum):
    """A type of its own for the one value `UNKNOWN`."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN
_INFINITIES = {"np.inf", "numpy.inf", "math.inf"}
_SEQUENCES: dict[type[ast.expr], type[Any]] = {ast.List: list, ast.Tuple: tuple, ast.Set: set}
_CONTAINERS: dict[str, type[Any]] = {
    "dict": dict,
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}


@dataclass(frozen=True)
class Call:
    """A call as it stands in the source; arguments that cannot be told are `UNKNOWN`."""

    function: str  # as written, `models.Meta`
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    line: int


@dataclass
class Module:
    """The names that a source file binds at its top level."""

    tree: ast.Module
    modules: Modules
    _nodes: dict[str, ast.expr | None] = field(default_factory=dict)  # None: bound more than once
    _imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    _values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, modules: Modules, name: str) -> Module:
        """The module in a file of a package.

        Raises:
            IntegrityError: it is no Python source.
        """
        module = cls(parse(modules.package, name), modules)
        for statement in module.tree.body:
            module._bind(statement, name)
        return module

    def _bind(self, statement: ast.stmt, name: str) -> None:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=target)], value=value)
                | ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value)
            ):
                self._nodes[target] = None if target in self._nodes else value
            case ast.AugAssign(target=ast.Name(id=target)):
                self._nodes[target] = None
            case ast.ImportFrom(module=origin, names=names, level=level):
                folder = name.split("/")[:-level] if level else []
                path = ".".join([*folder, *([origin] if origin else [])])
                self._imports |= {item.asname or item.name: (path, item.name) for item in names}

    @property
    def names(self) -> tuple[str, ...]:
        """The names assigned at the top level, in the order of the source."""
        return tuple(self._nodes)

    def get(self, name: str) -> Any:
        """The value of a top-level name, of an imported one too where its module is at hand."""
        if name not in self._values:
            self._values[name] = UNKNOWN  # stands for a name that is defined by itself
            node = self._nodes.get(name)
            if node is not None:
                self._values[name] = self.value(node)
            elif name in self._imports:
                self._values[name] = self.modules.get(*self._imports[name])
        return self._values[name]

    def calls(self, *functions: str) -> Iterator[Call]:
        """Every call of one of these functions, wherever it is in the module."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and _dotted(node.func) in functions:
                found = self.value(node)
                if isinstance(found, Call):
                    yield found

    def value(self, node: ast.expr, local: Mapping[str, Any] | None = None) -> Any:
        """The value of an expression; names in ``local`` stand before those of the module."""
        try:
            return self._value(node, local or {})
        except (RecursionError, ArithmeticError, LookupError, TypeError, ValueError):
            return UNKNOWN

    def _value(self, node: ast.expr, local: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return local[name] if name in local else self.get(name)
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return _SEQUENCES[type(node)](self._items(items, local))
            case ast.Dict():
                return self._dict(node, local)
            case ast.Call():
                return self._call(node, local)
            case ast.Attribute():
                return math.inf if _dotted(node) in _INFINITIES else UNKNOWN
        return self._computed(node, local)

    def _computed(self, node: ast.expr, local: Mapping[str, Any]) -> Any:
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -_number(self._value(operand, local))
            case ast.BinOp(left=left, op=op, right=right):
                return _combined(self._value(left, local), op, self._value(right, local))
            case ast.JoinedStr(values=parts):
                return bounded("".join(str(_plain(self._value(p, local))) for p in parts))
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                return self._value(value, local)
        return UNKNOWN

    def _items(self, nodes: list[ast.expr], local: Mapping[str, Any]) -> list[Any]:
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += self._value(node.value, local)
            else:
                found.append(self._value(node, local))
        if any(item is UNKNOWN for item in found):
            raise ValueError("an item cannot be told")
        bounded(found)
        return found

    def _dict(self, node: ast.Dict, local: Mapping[str, Any]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            inner = self._value(value, local)
            found |= inner if key is None else {self._value(key, local): inner}
        bounded(found)
        return found

    def _call(self, node: ast.Call, local: Mapping[str, Any]) -> Any:
        function = _dotted(node.func)
        arguments = tuple(self.value(item, local) for item in node.args)
        keywords: dict[str, Any] = {}
        for item in node.keywords:
            value = self.value(item.value, local)
            if item.arg is not None:
                keywords[item.arg] = value
            elif isinstance(value, dict):
                keywords |= value
        if function in {"int", "float"}:
            return int(arguments[0]) if function == "int" else float(arguments[0])
        if function in _CONTAINERS:
            return (
                UNKNOWN if UNKNOWN in arguments else _CONTAINERS[function](*arguments, **keywords)
            )
        return Call(function, arguments, keywords, node.lineno)


@dataclass
class Modules:
    """The Python files of a package, each parsed when it is asked for."""

    package: Package
    _parsed: dict[str, Module] = field(default_factory=dict)

    def module(self, name: str) -> Module:
        """The module in a file of the package.

        Raises:
            IntegrityError: it cannot be read as Python source.
        """
        if name not in self._parsed:
            self._parsed[name] = Module.parse(self, name)
        return self._parsed[name]

    def get(self, path: str, name: str) -> Any:
        """What ``from path import name`` would give, `UNKNOWN` where it cannot be told."""
        stem = path.replace(".", "/")
        for file in (f"{stem}.py", f"{stem}/__init__.py"):
            if file in self.package.names:
                try:
                    return self.module(file).get(name)
                except TlhubError:
                    return UNKNOWN
        return UNKNOWN


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_dotted(value)}.{name}"
    return ""


def _plain(value: Any) -> str | int | float:
    if isinstance(value, str | int | float):
        return value
    raise TypeError(f"{value!r} does not belong into a text")


def _number(value: Any) -> int | float:
    if isinstance(value, int | float):
        return value
    raise TypeError(f"{value!r} is no number")


def _combined(left: Any, op: ast.operator, right: Any) -> Any:
    if isinstance(op, ast.BitOr):
        return bounded(left | right)
    if isinstance(op, ast.Add) and not isinstance(left, int | float):
        return bounded(left + right)
    first, second = _number(left), _number(right)
    found: Any = UNKNOWN
    match op:
        case ast.Add():
            found = first + second
        case ast.Sub():
            found = first - second
        case ast.Mult():
            found = first * second
        case ast.Div():
            found = first / second
        case ast.FloorDiv():
            found = first // second
        case ast.Pow() if abs(first) <= 1000 and 0 <= second <= 9:
            found = first**second
    return found if found is not UNKNOWN and abs(found) < MAX_NUMBER else UNKNOWN
