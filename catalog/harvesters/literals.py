"""Values written out in Python source, read from its syntax tree; nothing is run or imported."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from typing import Any

from catalog.errors import IntegrityError
from catalog.harvesters.package import Package

MAX_LENGTH = 100_000  # of a sequence or text put together from others


def parse(package: Package, name: str) -> ast.Module:
    """The syntax tree of a file.

    Raises:
        IntegrityError: it is no Python source.
    """
    return parse_text(package.text(name), f"{name} of {package.path}")


def parse_text(text: str, name: str) -> ast.Module:
    """The syntax tree of Python source.

    Raises:
        IntegrityError: it is none; the message has its ``name``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in somebody else's source
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise IntegrityError(f"{name} is no Python source: {error}") from error


def literal(node: ast.expr, names: Mapping[str, Any] | None = None) -> Any:
    """The value of a literal, of a name in ``names``, or of strings and dicts put together.

    Raises:
        ValueError: it is anything else.
    """
    known = names or {}
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.Tuple(elts=items):
            return tuple(literal(item, known) for item in items)
        case ast.List(elts=items):
            return [literal(item, known) for item in items]
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {literal(key, known): literal(value, known) for key, value in pairs if key}
        case ast.JoinedStr(values=parts):
            return bounded("".join(_plain(literal(part, known)) for part in parts))
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return literal(value, known)
        case ast.BinOp(left=left, op=operator, right=right):
            return _joined(literal(left, known), operator, literal(right, known))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise ValueError(f"no literal: {ast.unparse(node)[:80]}")


def _joined(first: Any, operator: ast.operator, second: Any) -> Any:
    match operator, first, second:
        case ast.Add(), str(), str():
            return bounded(first + second)
        case ast.BitOr(), dict(), dict():
            return bounded(first | second)
    raise ValueError(f"no literal: {type(operator).__name__} of {type(first).__name__}")


def _plain(value: Any) -> str:
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"no part of a text: {type(value).__name__}")


def bounded(value: Any) -> Any:
    """The value, if it has not grown out of all measure: each of a few lines can double it.

    Raises:
        ValueError: it is longer than `MAX_LENGTH`.
    """
    if len(value) > MAX_LENGTH:
        raise ValueError(f"longer than {MAX_LENGTH:,}")
    return value


def constants(module: ast.Module) -> dict[str, Any]:
    """The names a module assigns literals to, at its top level."""
    found: dict[str, Any] = {}
    for node in module.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                try:
                    found[name] = literal(value, found)
                except (ValueError, RecursionError):
                    continue
    return found


def keywords(call: ast.Call, names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The keyword arguments of a call that are literals."""
    found: dict[str, Any] = {}
    for item in call.keywords:
        if item.arg:
            try:
                found[item.arg] = literal(item.value, names)
            except (ValueError, RecursionError):
                continue
    return found
