"""What a search can ask for: one grammar of words, conditions and an order, parsed and checked.

``sentiment params:<100M license:apache-2.0 sort:size`` is words and ``field:value``; the keyword
arguments of `catalog.search.Catalog.search` are the same fields. See ``docs/reference/search.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from catalog.errors import UsageError
from catalog.languages import LANGUAGES
from catalog.record import Modality
from catalog.tasks import TASKS

MAX_RESULTS = 10_000
# Metric, or metric@dataset -> whether more is better.
Metrics = Mapping[str, bool]
NONE: Metrics = {}
Direction = Literal["asc", "desc"]

# Fields with a value out of a list; None is one that the catalog knows.
TERMS: dict[str, tuple[str, ...] | None] = {
    "task": tuple(sorted(TASKS)),
    "modality": get_args(Modality),
    "license": None,
    "commercial": ("yes", "no", "unknown"),
    "framework": None,
    "source": None,
    "dataset": None,
    "language": None,
}
# Fields that are compared -> the field of the index. Every metric is one too.
COMPARED = {"params": "params", "gmacs": "gmacs", "size": "size", "input_size": "side"}
# Sort -> the field of the index and its sensible direction. Unknown figures are last in both.
SORTS: dict[str, tuple[str, Direction]] = {
    "top1": ("top1", "desc"),
    "params": ("params", "asc"),
    "gmacs": ("gmacs", "asc"),
    "size": ("size", "asc"),
    "input_size": ("side", "asc"),
    "name": ("uid", "asc"),
}

_COUNT = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_MACS = {"": 1.0, "k": 1e-6, "m": 1e-3, "g": 1.0, "t": 1e3}  # in 1e9 multiply-accumulates
_DECIMAL = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
_BINARY = {"kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40}
_BYTES = {**_COUNT, **_DECIMAL, **_BINARY}
_PLAIN = {"": 1.0, "%": 1.0}
_UNITS: dict[str, dict[str, float]] = {
    "params": _COUNT,
    "gmacs": _MACS,
    "size": _BYTES,
    "input_size": {"": 1.0, "px": 1.0},
}
_EXAMPLES = {
    "params": "'<10M', '>=1.5B' or '5M..10M'",
    "gmacs": "'<0.5', '<500M' or '1..4'",
    "size": "'<50MB' or '10MB..100MB'",
    "input_size": "'224', '<=256' or '3x224x224'",
    "license": "'apache-2.0'",
    "framework": "'timm'",
    "source": "'torchvision'",
    "dataset": "'imagenet-1k'",
    "language": "'de'",
    "sort": "'top1'",
}
_SHOWN = 60  # valid values that an error lists
_SOME = 24  # how many of more than these
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z%]*)"
_COMPARISON = re.compile(rf"(<=|>=|<|>|==?)?\s*{_NUMBER}")
_BETWEEN = re.compile(rf"(?:{_NUMBER})?\s*\.\.\s*(?:{_NUMBER})?")
_SHAPE = re.compile(r"\d+(?:x\d+)+")
# A condition, words in quotes, or a word. `params<10M` is `params:<10M`, as is `params < 10M`,
# and `size < 10 MB` is `size:<10MB`; `https://...` is words.
_ITEM = re.compile(
    r"""(?P<field>[A-Za-z]\w*(?:@[\w.-]+)?) (?: :(?!//) | \s*(?=[<>=]) )
        (?P<value>"[^"]*"(?=\s|$)
          | (?:\s*[<>=]{1,2}\s*)? [\d.]+ \s+ [kmgt]i?b(?=\s|$)
          | \s*[<>=]{1,2}\s*[^\s"]+
          | \S*)
      | "(?P<quoted>[^"]*)"
      | (?P<word>\S+?(?=\s|$|")|")""",
    re.VERBOSE | re.IGNORECASE,
)


class Range(NamedTuple):
    """An interval; None is an open end."""

    low: float | None
    high: float | None
    with_low: bool = True
    with_high: bool = True


@dataclass(frozen=True)
class Request:
    """What is asked for: words, and what every result must be."""

    words: str
    terms: tuple[tuple[str, tuple[str, ...]], ...]  # field of the index -> any of these values
    ranges: tuple[tuple[str, Range], ...]  # field of the index -> its interval
    order: tuple[str, Direction] | None  # field of the index


def parse(
    text: str = "", fields: Mapping[str, str | float | None] | None = None, metrics: Metrics = NONE
) -> Request:
    """What ``text`` asks for, with more ``fields``; all conditions must hold.

    Raises:
        UsageError: an unknown field (with the valid ones), a task, modality, metric or sort that
            is none, a comparison that is none, or two orders.
    """
    plain, conditions = split(text, metrics)
    given = {name: value for name, value in (fields or {}).items() if value is not None}
    conditions += [(name, encodable(str(value))) for name, value in given.items()]
    terms: list[tuple[str, tuple[str, ...]]] = []
    ranges: list[tuple[str, Range]] = []
    orders: list[tuple[str, Direction]] = []
    for name, value in conditions:
        shape = value.lower().replace(" ", "")
        if name == "sort":
            orders.append(parse_sort(value, metrics))
        elif name == "input_size" and _SHAPE.fullmatch(shape):
            terms.append(("shape", (shape if shape.count("x") > 1 else f"3x{shape}",)))
        elif name in TERMS:
            terms.append((name, tuple(_term(name, part) for part in value.split(","))))
        else:
            ranges.append((COMPARED.get(name, name), parse_range(name, value)))
    if len(set(orders)) > 1:
        raise UsageError("the results are sorted by two things", hint="keep one sort")
    return Request(plain, tuple(terms), tuple(ranges), orders[0] if orders else None)


def split(text: str, metrics: Metrics = NONE) -> tuple[str, list[tuple[str, str]]]:
    """The words of a query, and its conditions as fields with their values.

    Raises:
        UsageError: a field that is none (with the valid ones), or one without a value.
    """
    plain: list[str] = []
    conditions: list[tuple[str, str]] = []
    for item in _ITEM.finditer(encodable(text)):
        if not item["field"]:
            plain.append(item["quoted"] or item["word"] or "")
            continue
        name, value = item["field"].lower().replace("-", "_"), item["value"].strip('"').strip()
        metric = item["field"].lower()
        if name in TERMS or name in COMPARED or name == "sort":
            field = name
        elif metric in metrics:
            field = metric
        elif not value or not item[0][len(item["field"]) :].startswith(":"):
            plain.append(item[0])  # `what is this:`, `a<b`
            continue
        else:
            raise _no_field(item[0], metric, metrics)
        if not value:
            raise UsageError(f"{field}: has no value", hint=f"such as {_example(field)}")
        if item["value"].startswith('"') and not item["value"].endswith('"', 1):
            raise UsageError(f"the quote in {item[0]} is not closed")
        conditions.append((field, value))
    return " ".join(plain), conditions


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
    half = 0.5 * 10.0**-decimals * _units(name)[match[3]]
    return Range(value - half, value + half, with_high=False)


def parse_sort(sort: str, metrics: Metrics = NONE) -> tuple[str, Direction]:
    """The index field and direction of a sort.

    Raises:
        UsageError: nothing can be sorted by that.
    """
    name = sort.strip().lower()
    if name in SORTS:
        return SORTS[name]
    if name in metrics:
        return name, "desc" if metrics[name] else "asc"
    plain = [metric for metric in metrics if "@" not in metric]
    raise unknown("sort", sort, [*SORTS, *plain], "any metric")


def check_page(limit: int, offset: int) -> None:
    """Refuse pages that are none, or deeper than `MAX_RESULTS`.

    Raises:
        UsageError: ``limit`` or ``offset`` is out of bounds.
    """
    for name, value in (("limit", limit), ("offset", offset)):
        if not 0 <= value <= MAX_RESULTS:
            raise UsageError(f"{name} {value} is not from 0 to {MAX_RESULTS:,}")


def encodable(text: str) -> str:
    """The text with `?` for what no UTF-8 has, such as bytes of an argument that are none."""
    return text.encode(errors="replace").decode()


def unknown(name: str, value: str, valid: Iterable[str], rest: str = "more") -> UsageError:
    """The error for a value that is none, with the valid ones nearest first."""
    from difflib import get_close_matches

    names = list(dict.fromkeys(valid))
    plain = value.strip().lower()
    within = sorted((name for name in names if plain and plain in name), key=len)[:3]
    close = within or get_close_matches(plain, names, 3, 0.5)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    more = f", ... ({rest})" if len(names) > _SHOWN else ""
    listed = ", ".join(names if len(names) <= _SHOWN else names[:_SOME])
    return UsageError(f"unknown {name} {value!r}", hint=f"{meant}one of: {listed}{more}")


def _term(name: str, text: str) -> str:
    value = text.strip().lower()
    if name == "language":
        value = LANGUAGES.get(value, value)
    valid = TERMS[name]
    if valid is not None and value not in valid:
        raise unknown(name, text, valid)
    return value


def _units(name: str) -> dict[str, float]:
    return _UNITS.get(name, _PLAIN)


def _value(name: str, text: str, number: str | None, unit: str) -> float | None:
    if number is None:
        return None
    if unit not in _units(name):
        raise _no_comparison(name, text)
    return float(number) * _units(name)[unit]


def _example(name: str) -> str:
    valid = TERMS.get(name)
    return f"'{valid[0]}'" if valid else _EXAMPLES.get(name, "'>80' or '75..80'")


def _no_comparison(name: str, text: str) -> UsageError:
    return UsageError(f"{name} {text!r} is not a comparison", hint=f"such as {_example(name)}")


def _no_field(said: str, name: str, metrics: Metrics) -> UsageError:
    from difflib import get_close_matches

    names = [*TERMS, *COMPARED, "sort"]
    metric, _, dataset = name.partition("@")
    if dataset and metric in metrics:
        sets = [other for other in metrics if other.startswith(f"{metric}@")]
        return unknown("metric", name, sets)
    close = get_close_matches(name, [*names, *metrics], 3, 0.6)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return UsageError(
        f"{said!r} asks for a field {name!r} that is none",
        hint=f"{meant}fields: {', '.join(names)}, or a metric such as top1; "
        "in quotes it is looked for as words",
    )
