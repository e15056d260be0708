"""What a search can ask for: filters, comparisons and orders, parsed and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from catalog.errors import UsageError
from catalog.record import Modality
from catalog.tasks import TASKS

MAX_RESULTS = 10_000

# Sort -> the field of the index and its sensible direction. Unknown figures are last in both.
SORTS: dict[str, tuple[str, Literal["asc", "desc"]]] = {
    "top1": ("top1", "desc"),
    "params": ("params", "asc"),
    "gmacs": ("gmacs", "asc"),
    "size": ("size", "asc"),
    "name": ("uid", "asc"),
}

_COUNT = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_MACS = {"": 1.0, "k": 1e-6, "m": 1e-3, "g": 1.0, "t": 1e3}  # in 1e9 multiply-accumulates
_DECIMAL = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
_BINARY = {"kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40}
_BYTES = {**_COUNT, **_DECIMAL, **_BINARY}
_UNITS: dict[str, dict[str, float]] = {
    "params": _COUNT,
    "gmacs": _MACS,
    "top1": {"": 1.0, "%": 1.0},
    "size": _BYTES,
    "input_size": {"": 1.0, "px": 1.0},
}
_EXAMPLES = {
    "params": "'<10M', '>=1.5B' or '5M..10M'",
    "gmacs": "'<0.5', '<500M' or '1..4'",
    "top1": "'>80' or '75..80'",
    "size": "'<50MB' or '10MB..100MB'",
    "input_size": "'224', '<=256' or '3x224x224'",
}
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z%]*)"
_COMPARISON = re.compile(rf"(<=|>=|<|>|==?)?\s*{_NUMBER}")
_BETWEEN = re.compile(rf"(?:{_NUMBER})?\s*\.\.\s*(?:{_NUMBER})?")
_SHAPE = re.compile(r"\d+(?:x\d+)+")


class Range(NamedTuple):
    """An interval; None is an open end."""

    low: float | None
    high: float | None
    with_low: bool = True
    with_high: bool = True


@dataclass(frozen=True)
class Filters:
    """What every result must be; names as in `Catalog.search`."""

    terms: dict[str, str]  # field of the index -> its value
    ranges: dict[str, Range]


def parse_filters(
    *,
    task: str | None = None,
    modality: str | None = None,
    license: str | None = None,  # noqa: A002  (the word users know)
    framework: str | None = None,
    source: str | None = None,
    dataset: str | None = None,
    input_size: str | int | None = None,
    **comparisons: str | float | None,
) -> Filters:
    """The filters of a search, checked.

    Raises:
        UsageError: an unknown task or modality, or a comparison that is none.
    """
    if task is not None and task.lower() not in TASKS:
        raise _unknown("task", task, sorted(TASKS))
    if modality is not None and modality.lower() not in get_args(Modality):
        raise _unknown("modality", modality, list(get_args(Modality)))
    values = {
        "task": task,
        "modality": modality,
        "license": license,
        "framework": framework,
        "source": source,
        "dataset": dataset,
    }
    terms = {name: value.lower() for name, value in values.items() if value is not None}
    ranges = {
        name: parse_range(name, str(value))
        for name, value in comparisons.items()
        if value is not None
    }
    if input_size is not None:
        text = str(input_size).lower().replace(" ", "")
        if _SHAPE.fullmatch(text):
            terms["shape"] = text if text.count("x") > 1 else f"3x{text}"
        else:
            ranges["side"] = parse_range("input_size", text)
    return Filters(terms, ranges)


def parse_range(name: str, text: str) -> Range:
    """The interval a comparison means: ``<10M``, ``>=1.5G``, ``5M..10M``, ``25.6M``.

    A bare number with a unit or a decimal point means all that rounds to it.

    Raises:
        UsageError: it is no comparison, or its unit is not one of this figure.
    """
    plain = text.strip().lower()
    if match := _BETWEEN.fullmatch(plain):
        low = _value(name, text, match[1], match[2])
        high = _value(name, text, match[3], match[4])
        if (low is None and high is None) or (low is not None and high is not None and low > high):
            raise _no_comparison(name, text)
        return Range(low, high)
    match = _COMPARISON.fullmatch(plain)
    value = _value(name, text, match[2], match[3]) if match else None
    if match is None or value is None:
        raise _no_comparison(name, text)
    match match[1]:
        case "<":
            return Range(None, value, with_high=False)
        case "<=":
            return Range(None, value)
        case ">":
            return Range(value, None, with_low=False)
        case ">=":
            return Range(value, None)
    if not match[3] and "." not in match[2]:
        return Range(value, value)
    decimals = len(match[2].partition(".")[2])
    half = 0.5 * 10.0**-decimals * _UNITS[name][match[3]]
    return Range(value - half, value + half, with_high=False)


def parse_sort(sort: str) -> tuple[str, Literal["asc", "desc"]]:
    """The index field and direction of a sort.

    Raises:
        UsageError: nothing can be sorted by that.
    """
    if sort not in SORTS:
        raise _unknown("sort", sort, list(SORTS))
    return SORTS[sort]


def check_page(limit: int, offset: int) -> None:
    """Refuse pages that are none, or deeper than `MAX_RESULTS`.

    Raises:
        UsageError: ``limit`` or ``offset`` is out of bounds.
    """
    for name, value in (("limit", limit), ("offset", offset)):
        if not 0 <= value <= MAX_RESULTS:
            raise UsageError(f"{name} {value} is not from 0 to {MAX_RESULTS:,}")


def _value(name: str, text: str, number: str | None, unit: str) -> float | None:
    if number is None:
        return None
    if unit not in _UNITS[name]:
        raise _no_comparison(name, text)
    return float(number) * _UNITS[name][unit]


def _no_comparison(name: str, text: str) -> UsageError:
    return UsageError(f"{name} {text!r} is not a comparison", hint=f"such as {_EXAMPLES[name]}")


def _unknown(name: str, value: str, valid: list[str]) -> UsageError:
    from difflib import get_close_matches

    close = get_close_matches(value.lower(), valid, 3, 0.5)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return UsageError(f"unknown {name} {value!r}", hint=f"{meant}one of: {', '.join(valid)}")
