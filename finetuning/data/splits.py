"""Which examples are learned from and which are held out.

What belongs together (the same bytes, nearly the same image, one group) is a unit and falls on one
side. Which side follows from the seed and the unit's own bytes, so that adding examples moves few
of the others. Units are drawn label by label, the rarest first, until each label has its share
held out (after Sechidis et al., 2011); numbers are drawn by their quantiles.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalog.disk import replacing
from catalog.errors import DataError, UsageError
from finetuning.data import texts
from finetuning.data.dataset import Dataset, Example, Kind, Part, Target, classes_of, some
from finetuning.data.drawing import drawn
from finetuning.data.files import read_bytes
from finetuning.data.joining import joined

_log = logging.getLogger(__name__)

SPLIT = "split.csv"  # of a run

_BINS = 10  # of numbers
_IN_A_BIN = 4  # examples at least
_LEAST_CLASSES = 4  # of an embedding
_NONE = -1  # the label of an example of which no label holds


@dataclass(frozen=True)
class Split:
    """Which examples train and which are held out, as indices into ``Dataset.examples``."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    given: bool  # the data said so themselves


def split(data: Dataset, *, seed: int, test_fraction: float) -> Split:
    """The data's own split where they have one, else a stratified one.

    A class that cannot be parted, since it has one example or all of it belongs together, is
    learned from alone. For an embedding whole classes are held out, ``test_fraction`` of them.

    Raises:
        UsageError: ``test_fraction`` is not between 0 and 1.
        DataError: nothing can be held out, or the data's own parts leave nothing to learn from.
    """
    if not 0 < test_fraction < 1:
        raise UsageError(
            f"a test fraction of {test_fraction} makes no sense", hint="give one such as 0.25"
        )
    if any(example.part for example in data.examples):
        train = tuple(i for i, example in enumerate(data.examples) if example.part == "train")
        test = tuple(i for i, example in enumerate(data.examples) if example.part == "test")
        _check_given(data, train, test)
        return Split(train, test, given=True)
    if data.kind == "embedding":
        return _by_class(data, seed, test_fraction)
    labels = strata(data.kind, [example.target for example in data.examples])

    def place(unit: Sequence[int]) -> bytes:
        """By the seed and what is in the unit alone."""
        least = min(data.examples[n].sha256 for n in unit)
        return hashlib.sha256(f"{seed}:{least}".encode()).digest()

    ordered = sorted(_units(data, labels), key=place)
    held = set(drawn(ordered, labels, test_fraction))
    if not held:
        raise DataError(
            f"nothing in {data.root} can be held out: every class has only one example, or "
            "examples that belong together",
            hint="add examples, or give a test part of their own",
        )
    whole = {label for row in labels for label in row} - {n for i in held for n in labels[i]}
    if data.classes and whole - {_NONE}:
        names = [data.classes[label] for label in sorted(whole - {_NONE})]
        _log.warning("nothing is held out of these classes: %s", some(names))
    train = tuple(i for i in range(len(data.examples)) if i not in held)
    return Split(train, tuple(sorted(held)), given=False)


def _check_given(data: Dataset, train: Sequence[int], test: Sequence[int]) -> None:
    """See that the parts the data came in still hold something when odd examples are out."""
    for part, what in ((train, "to learn from"), (test, "held out")):
        if not part:
            raise DataError(
                f"nothing is {what} in {data.root}, as its own parts have it",
                hint="are all files of the split there? `tlhub data check` says what was left out",
            )
    if data.kind == "embedding":
        check_search([data.examples[n] for n in test], data)
        return
    learned = {label for n in train for label in classes_of(data.examples[n].target)}
    gone = [name for label, name in enumerate(data.classes) if label not in learned]
    if gone:
        raise DataError(
            f"{data.root} has classes of which all there is to learn from was left out: "
            f"{some(gone)}",
            hint="`tlhub data check` says why: examples that are held out too, for instance",
        )


def _by_class(data: Dataset, seed: int, test_fraction: float) -> Split:
    """Whole classes held out, as the seed and their names say.

    Raises:
        DataError: there are too few classes of several examples.
    """
    several = _several(data.examples)
    if len(several) < _LEAST_CLASSES:
        raise DataError(
            f"{data.root} has {len(several)} classes of several examples; an embedding is learned "
            f"from some and judged by others, {_LEAST_CLASSES} at least",
            hint="add classes, or a test part of their own",
        )

    def place(n: int) -> bytes:
        return hashlib.sha256(f"{seed}:{data.classes[n]}".encode()).digest()

    count = min(max(2, round(test_fraction * len(several))), len(several) - 2)
    held = set(sorted(several, key=place)[:count])
    sides = [bool(held.intersection(classes_of(e.target))) for e in data.examples]
    train = tuple(i for i, is_held in enumerate(sides) if not is_held)
    return Split(train, tuple(i for i, is_held in enumerate(sides) if is_held), given=False)


def check_search(examples: Sequence[Example], data: Dataset) -> None:
    """See that there is something to find among examples, and something else to find instead.

    Raises:
        DataError: there is not.
    """
    if len(_several(examples)) < 2:
        raise DataError(
            f"fewer than two classes of what is held out of {data.root} have several examples that "
            "do not belong together: nothing can be searched for",
            hint="hold out more of them",
        )


def _several(examples: Sequence[Example]) -> list[int]:
    """The classes of several examples that do not belong together."""
    of_class: dict[int, set[str]] = defaultdict(set)
    for example in examples:
        for n in classes_of(example.target):
            of_class[n].add(example.unit)
    return [n for n, found in of_class.items() if len(found) > 1]


def write(file: Path, data: Dataset, sides: Split) -> None:
    """Write who is on which side: a CSV with the columns name, part and sha256.

    Raises:
        StorageError: it cannot be written.
    """
    parts = dict.fromkeys(sides.train, "train") | dict.fromkeys(sides.test, "test")
    with replacing(file) as stream:
        stream.write(b"name,part,sha256\r\n")
        for n, part in sorted(parts.items()):
            example = data.examples[n]
            name = '"' + example.name.replace('"', '""') + '"'
            stream.write(f"{name},{part},{example.sha256}\r\n".encode())


def places(data: Dataset, sides: Split) -> dict[str, tuple[Part, str]]:
    """The part and the digest of each example by name."""
    found: dict[str, tuple[Part, str]] = {}
    for n in sides.train:
        found[data.examples[n].name] = ("train", data.examples[n].sha256)
    for n in sides.test:
        found[data.examples[n].name] = ("test", data.examples[n].sha256)
    return found


def parts_in(file: Path) -> dict[str, Part]:
    """The part of each name in a split that was written down.

    ``file`` is a CSV of `write`, the `metrics.json` of a run, or the run's folder.

    Raises:
        NotFoundError, DataError: it cannot be read, or is no split.
    """
    file = file / "metrics.json" if file.is_dir() else file
    text = texts.decode(read_bytes(file), str(file))[0]
    rows = _json(text) if file.suffix == ".json" else _csv(text)
    known = {name: part for name, part in rows if part in {"train", "test"}}
    if len(set(known.values())) < 2:
        raise DataError(
            f"{file} is no split: it names nothing to learn from or nothing to hold out",
            hint="a CSV with the columns name and part (train or test) is expected",
        )
    return {name: "test" if part == "test" else "train" for name, part in known.items()}


def _json(text: str) -> list[tuple[str, str]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    value = value.get("split", value) if isinstance(value, dict) else {}
    return [
        (str(name), part)
        for part in ("train", "test")
        for name in (value.get(part, ()) if isinstance(value, dict) else ())
    ]


def _csv(text: str) -> list[tuple[str, str]]:
    rows = list(csv.reader(text.splitlines(keepends=True)))
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if not {"name", "part"} <= set(header):
        return []
    name, part = header.index("name"), header.index("part")
    return [(row[name], row[part].strip()) for row in rows[1:] if len(row) > max(name, part)]


def strata(kind: Kind, targets: Sequence[Target]) -> list[tuple[int, ...]]:
    """What each example is stratified by: its classes, or the bin of each of its numbers."""
    if kind != "regression":
        return [classes_of(target) or (_NONE,) for target in targets]
    values = np.array(targets, np.float64)
    found = [n * _BINS + binned(column, _BINS) for n, column in enumerate(values.T)]
    return [tuple(row) for row in np.stack(found, axis=1).tolist()]


def binned(values: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """The quantile that each of some numbers is in; there are fewer of few numbers."""
    bins = max(1, min(bins, len(values) // _IN_A_BIN))
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def _units(data: Dataset, labels: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """The examples that belong together; near copies part where a class has nothing else."""
    units = _joined(data.examples, lambda example: example.near)
    of_label: dict[int, set[int]] = defaultdict(set)
    for number, members in enumerate(units):
        for n in members:
            for label in labels[n]:
                of_label[label].add(number)
    stuck = {label for label, numbers in of_label.items() if len(numbers) == 1}
    parted = {data.examples[n].name for n, row in enumerate(labels) if stuck & set(row)}
    if not parted:
        return units
    return _joined(data.examples, lambda e: None if e.name in parted else e.near)


def _joined(examples: Sequence[Example], near: Callable[[Example], str | None]) -> list[list[int]]:
    first: dict[tuple[str, str], int] = {}
    pairs = [
        (first.setdefault((kind, mark), n), n)
        for n, example in enumerate(examples)
        for kind, mark in (
            ("bytes", example.sha256),
            ("group", example.group),
            ("near", near(example)),
        )
        if mark is not None
    ]
    return joined(len(examples), pairs)
