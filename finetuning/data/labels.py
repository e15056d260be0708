"""What the labels of data are: classes, several classes at once, or numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from catalog.errors import DataError
from finetuning.data.dataset import Kind, Target, some

Label = object  # as a reader finds it: a name, a number, a list of names, {column: value}

_SEPARATORS = ("|", ";", ",")
NUMBER = "value"  # what a number is called where nothing has a name for it
_FEW = 20  # different whole numbers, up to which they are classes
_ON, _OFF = {"1", "1.0", "true", "yes", "x"}, {"", "0", "0.0", "false", "no", "-1"}


@dataclass(frozen=True)
class Labels:
    """The targets of examples in their order; None where there is no label."""

    kind: Kind
    classes: tuple[str, ...]
    targets: tuple[Target | None, ...]
    note: str | None = None  # what was guessed
    numbers: tuple[str, ...] = ()  # what each number of a target is called


def resolve(
    found: Sequence[Label], kind: Kind | None, names: Sequence[str] = (), column: str = NUMBER
) -> Labels:
    """What labels mean; ``names`` are those of classes that are given as their numbers.

    ``column`` is what a number is called.

    Raises:
        DataError: they cannot be what ``kind`` says, or make no sense.
    """
    values = [_plain(value) for value in found]
    blanks = {v for v in found if isinstance(v, str) and v.strip() and v != v.strip()}
    said = f"blanks around labels are taken off: {some(sorted(map(repr, blanks)))}"
    labels = _resolve(values, kind, names, column)
    notes = [note for note in (labels.note, said if blanks else None) if note]
    return replace(labels, note="; ".join(notes) or None)


def _resolve(
    values: Sequence[Label], kind: Kind | None, names: Sequence[str], column: str
) -> Labels:
    if any(isinstance(value, dict) for value in values):
        return _columns([value if isinstance(value, dict) else {} for value in values], kind)
    if names:
        values = [_named(value, names) for value in values]
    if any(isinstance(value, list) for value in values):
        lists = [value if isinstance(value, list) or value is None else [value] for value in values]
        return _several(lists, kind, names)
    present = [value for value in values if value is not None]
    numbers = [_number(value) for value in present] if not names else []
    if kind == "regression" or (kind is None and _measured(numbers)):
        rows = [None if value is None else [value] for value in values]
        return _regression(rows, (column,), guessed=kind is None)
    separator = _separator([str(value) for value in present], sure=kind == "multi-label")
    if kind == "multi-label" or (kind is None and not names and separator):
        lists = [None if value is None else _parts(str(value), separator) for value in values]
        said = f"labels are separated by {separator!r}: several may hold of one example"
        labels = _several(lists, kind, names)
        return Labels(labels.kind, labels.classes, labels.targets, said if kind is None else None)
    return _classes(values, names)


def check_name(name: str) -> None:
    """Raise unless ``name`` can stand in a line of `labels.txt`.

    Raises:
        DataError: it cannot.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"the class name {name!r} is not valid UTF-8", hint="rename it") from None
    if name.splitlines() != [name] or not name.strip():
        raise DataError(
            f"the class name {name!r} has a line break in it or is blank", hint="rename it"
        )


def _plain(value: Label) -> Label:
    """Strings without blanks around them, None for what is missing."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, (list, tuple, set, frozenset)):
        return [item for item in map(_plain, value) if item is not None]
    return value


def _named(value: Label, names: Sequence[str]) -> Label:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    number = _number(value) if value is not None else None
    if number is None or not number.is_integer():
        return value
    if number == -1:  # as Hugging Face datasets write that there is none
        return None
    if not 0 <= number < len(names):
        raise DataError(f"the label {value!r} is none of the {len(names)} classes")
    return names[int(number)]


def _number(value: Label) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _measured(numbers: Sequence[float | None]) -> bool:
    """Whether these are measurements and not the numbers of classes."""
    known = {number for number in numbers if number is not None}
    if not numbers or None in numbers:
        return False
    if any(not number.is_integer() for number in known):
        return True
    first, last = int(min(known)), int(max(known))
    counted = first in {0, 1} and len(known) == last - first + 1 and len(known) < len(numbers)
    return len(known) > _FEW and not counted


def _regression(
    rows: Sequence[Sequence[Label] | None], columns: tuple[str, ...], *, guessed: bool
) -> Labels:
    """Numbers; a row that lacks one of them has no label."""
    values = [v for row in rows if row is not None for v in row if v is not None]
    wrong = [str(value) for value in values if _number(value) is None]
    if wrong:
        raise DataError(
            f"{len(wrong)} labels are no numbers: {some(wrong)}",
            hint="mend them, or say --kind classification",
        )
    note = "labels are numbers: a regression (--kind classification makes classes of them)"
    found = [None if row is None else [_number(v) for v in row if v is not None] for row in rows]
    targets = tuple(
        None if row is None or len(row) < len(columns) else tuple(n for n in row if n is not None)
        for row in found
    )
    return Labels("regression", (), targets, note if guessed else None, columns)


def _classes(values: Sequence[Label], names: Sequence[str]) -> Labels:
    numbers = [_number(value) for value in values if value is not None] if not names else []
    counted = bool(numbers) and all(n is not None and n.is_integer() for n in numbers)
    written = [_written(value, counted=counted) for value in values]
    classes = _ordered((name for name in written if name is not None), names, counted=counted)
    index = {name: n for n, name in enumerate(classes)}
    targets = tuple(None if name is None else index[name] for name in written)
    note = "labels are whole numbers: classes (--kind regression takes them as numbers)"
    return Labels("classification", classes, targets, note if counted else None)


def _written(value: Label, *, counted: bool) -> str | None:
    if value is None:
        return None
    if counted:
        return str(int(_number(value) or 0))
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise DataError(
            f"the label {str(value)[:80]!r} is neither a name nor a number",
            hint="name another column with --label-column",
        )
    return str(value)


def _ordered(used: Iterable[str], names: Sequence[str], *, counted: bool) -> tuple[str, ...]:
    """The classes that are used, in the order they were given in, else sorted."""
    present = set(used)
    for name in present:
        check_name(name)
    given = [name for name in names if name in present]
    rest = sorted(present - set(given), key=int if counted else None)
    return (*given, *rest)


def _several(
    lists: Sequence[list[Label] | None], kind: Kind | None, names: Sequence[str]
) -> Labels:
    if kind not in {None, "multi-label"}:
        raise DataError(
            f"an example has several labels, which is no {kind}", hint="leave out --kind"
        )
    written = [None if v is None else [str(_written(i, counted=False)) for i in v] for v in lists]
    used = (name for held in written if held is not None for name in held)
    classes = _ordered(used, names, counted=False)
    index = {name: n for n, name in enumerate(classes)}
    targets = tuple(
        None if held is None else tuple(sorted({index[name] for name in held})) for held in written
    )
    return Labels("multi-label", classes, targets)


def _columns(rows: Sequence[Mapping[str, Label]], kind: Kind | None) -> Labels:
    """Several label columns: each a class that holds or not, the name of one, or a number."""
    rows = [{column: _plain(value) for column, value in row.items()} for row in rows]
    values = {str("" if v is None else v).lower() for row in rows for v in row.values()}
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    numeric = all(_number(value) is not None for value in values if value)
    if kind == "regression" or (kind is None and numeric and not values <= _ON | _OFF):
        numbers = [[row.get(column) for column in columns] for row in rows]
        return _regression(numbers, columns, guessed=kind is None)
    if not values <= _ON | _OFF:
        return _several([[v for v in row.values() if v is not None] for row in rows], kind, ())
    held: list[list[Label] | None] = [
        [column for column, value in row.items() if str(value).lower() in _ON] for row in rows
    ]
    labels = _several(held, kind, columns)
    missing = sorted(set(columns) - set(labels.classes))
    note = f"no example has the label {some(missing)}: left out" if missing else None
    return Labels(labels.kind, labels.classes, labels.targets, note)


def _separator(values: Sequence[str], *, sure: bool) -> str:
    """What separates several labels in one value; empty where nothing does.

    A class whose name has a comma in it, "bird, black", is one class: what is separated comes in
    more combinations than there are parts.
    """
    wholes = Counter(values)
    for separator in _SEPARATORS:
        parts = Counter(part for value in wholes for part in _parts(value, separator))
        if any(separator in value for value in wholes) and (sure or len(parts) < len(wholes)):
            return separator
    return ""


def _parts(value: str, separator: str) -> list[Label]:
    parts = value.split(separator) if separator else [value]
    return [part.strip() for part in parts if part.strip()]
