"""A list in JSON of which one item must not spoil the others."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

# A text that does not end is one, too: to look for its end from each of its quotes takes for ever.
_SIGNS = re.compile(rb'"(?>(?:[^"\\]|\\.)*)"?|[\[\]{},]', re.DOTALL)
_DIGITS = 40  # of a number; Python does not read those of thousands


def items(body: bytes) -> Any:
    """The value of a document; where an item of a list cannot be read, None is in its place.

    Such an item is nested too deeply, or holds bytes that are no text.

    Raises:
        ValueError: the document itself is no JSON.
    """
    try:
        return json.loads(body, parse_int=_whole)
    except (ValueError, RecursionError):
        return [_item(part) for part in _split(body)]


def _item(part: bytes) -> Any:
    try:
        return json.loads(part, parse_int=_whole)
    except (ValueError, RecursionError):
        return None


def _split(body: bytes) -> Iterator[bytes]:
    """What lies between the commas of the outermost list."""
    depth, start = 0, 0
    for found in _SIGNS.finditer(body):
        sign = found[0]
        if sign in {b"[", b"{"}:
            depth += 1
            start = found.end() if depth == 1 else start
        elif sign in {b"]", b"}"}:
            depth -= 1
        if (depth == 1 and sign == b",") or (depth == 0 and sign == b"]"):
            yield body[start : found.start()]
            start = found.end()
    if depth or not body.lstrip().startswith(b"["):
        raise ValueError("it is no list, or ends in the middle of one")


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS else math.inf
