"""YAML of plain values from files that nobody vouches for, within limits on what it stands for."""

from __future__ import annotations

import re
from typing import Any

import yaml

from catalog.errors import IntegrityError, UnsafeError

MAX_NODES = 1_000_000  # with every alias written out
MAX_DEPTH = 100
# Numbers that take forever to work out or to print: long ones in base 60, or in hex.
_ABSURD = re.compile(r"[-+]?(?:[\d_]+(?::[\d_.]+){8}|0[bx]?[\da-f_]{1000})", re.IGNORECASE)


def load(text: str, name: str) -> Any:
    """The value of a document; ``name`` is for messages.

    Raises:
        IntegrityError: it cannot be read as YAML.
        UnsafeError: it is nested too deeply, or its aliases stand for too much.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check(text, name, loader)
        return yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader
    except yaml.scanner.ScannerError as error:
        if "nesting depth" in str(error.problem):  # the scanner looks ahead of us
            raise UnsafeError(f"{name} is nested too deeply") from error
        raise IntegrityError(f"{name} is no YAML: {error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise IntegrityError(f"{name} is no YAML: {error}") from error


def _check(text: str, name: str, loader: Any) -> None:
    """Go through the events, which takes neither a stack nor memory, before values are made."""
    anchors: dict[str, int] = {}  # nodes that each stands for
    opened: list[tuple[str | None, int]] = []
    size = 0
    for event in yaml.parse(text, Loader=loader):
        match event:
            case yaml.AliasEvent(anchor=anchor):
                if anchor not in anchors:
                    raise UnsafeError(f"{name} has {anchor!r} in itself, or it is not there")
                size += anchors[anchor]
            case yaml.ScalarEvent(anchor=anchor, value=value):
                if event.implicit[0] and _ABSURD.match(value):
                    raise UnsafeError(f"{name} has an absurd number: {value[:20]}...")
                size += 1
                anchors |= {anchor: 1} if anchor else {}
            case yaml.CollectionStartEvent(anchor=anchor):
                opened.append((anchor, size))
                size += 1
            case yaml.CollectionEndEvent():
                anchor, before = opened.pop()
                anchors |= {anchor: size - before} if anchor else {}
        if size > MAX_NODES or len(opened) > MAX_DEPTH:
            raise UnsafeError(f"{name} stands for too many values, or is nested too deeply")
