"""What a reader found to a data set: labels understood, contents hashed, contradictions out."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog.errors import DataError, TlhubError
from converters.folder import sha256_of
from finetuning.data import labels
from finetuning.data.dataset import (
    MAX_UNREADABLE,
    Dataset,
    Example,
    Kind,
    Modality,
    Part,
    Skipped,
    Stored,
    classes_of,
    some,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Raw:
    """One example as a reader finds it; its label may mean anything yet."""

    name: str
    content: Path | Stored | str
    label: labels.Label
    part: Part | None = None
    group: str | None = None


@dataclass(frozen=True)
class Found:
    """All that a reader found."""

    root: Path
    modality: Modality
    raws: Sequence[Raw]
    skipped: Sequence[Skipped] = ()
    notes: Sequence[str] = ()  # what was guessed
    classes: Sequence[str] = ()  # the names of classes that labels are the numbers of
    column: str = labels.NUMBER  # the name of the one column of labels


def assemble(found: Found, kind: Kind | None, *, learns: bool = True) -> Dataset:
    """The data set, every example hashed.

    An example that lies byte for byte in two classes is left out, for nobody can say which is
    right; one that is learned from and held out is left out of training.

    Raises:
        DataError: most contents cannot be read; or, where something ``learns`` from them, fewer
            than two classes are left, or one of them has no example to learn from.
    """
    classes_to_come = kind == "embedding"
    told = [raw.label for raw in found.raws]
    meant: Kind | None = "classification" if classes_to_come else kind
    understood = labels.resolve(told, meant, found.classes, found.column)
    skipped = list(found.skipped)
    hashed = _hashed(found, understood, skipped)
    examples = _without_conflicts(hashed, understood.kind, skipped)
    notes = (*found.notes, *([understood.note] if understood.note else []))
    data = Dataset(
        found.root,
        "embedding" if classes_to_come else understood.kind,
        found.modality,
        understood.classes,
        tuple(examples),
        tuple(skipped),
        notes,
        understood.numbers,
    )
    is_one = understood.kind == "classification"
    return _checked(data, {e.target for e in hashed} if is_one else set(), learns=learns)


def _hashed(found: Found, understood: labels.Labels, skipped: list[Skipped]) -> list[Example]:
    examples = []
    unreadable: list[Skipped] = []
    for raw, target in zip(found.raws, understood.targets, strict=True):
        if target is None:
            skipped.append(Skipped(raw.name, "has no label"))
        elif isinstance(raw.content, str) and not raw.content.strip():
            skipped.append(Skipped(raw.name, "is an empty text"))
        else:
            try:
                digest = _digest(raw.content)
            except UnicodeEncodeError:
                skipped.append(Skipped(raw.name, "is no Unicode: it has half a surrogate pair"))
            except OSError as error:
                unreadable.append(Skipped(raw.name, f"cannot be read: {error.strerror}"))
            except TlhubError as error:
                unreadable.append(Skipped(raw.name, error.message))
            else:
                examples.append(Example(raw.content, raw.name, digest, target, raw.part, raw.group))
    tried = len(examples) + len(unreadable)
    if len(unreadable) > MAX_UNREADABLE * tried:
        raise DataError(
            f"{len(unreadable)} of {tried} {found.modality}s in {found.root} cannot be read: "
            + some([f"{item.name} ({item.reason})" for item in unreadable]),
            hint="are the files complete, where the data say they are, and may you read them?",
        )
    skipped += unreadable
    return examples


def _digest(content: Path | Stored | str) -> str:
    if isinstance(content, Path):
        return sha256_of(content)
    data = content.encode() if isinstance(content, str) else content.read()
    return hashlib.sha256(data).hexdigest()


def _without_conflicts(
    examples: Sequence[Example], kind: Kind, skipped: list[Skipped]
) -> list[Example]:
    copies: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        copies[example.sha256].append(example)
    torn = {s for s, found in copies.items() if len({e.target for e in found}) > 1}
    torn = torn if kind != "regression" else set()
    held = {e.sha256: e for e in reversed(examples) if e.part == "test"}
    usable: list[Example] = []
    for example in examples:
        others = copies[example.sha256] if example.sha256 in torn else []
        clash = next((other for other in others if other.target != example.target), None)
        leak = held.get(example.sha256) if example.part == "train" else None
        if clash:
            word = "in another class" if kind == "classification" else "with other labels"
            skipped.append(Skipped(example.name, f"same bytes {word}: {clash.name}"))
        elif leak:
            skipped.append(Skipped(example.name, f"same bytes held out: {leak.name}"))
        else:
            usable.append(example)
    return usable


def _checked(data: Dataset, before: set[object], *, learns: bool) -> Dataset:
    """The data set where it can be learned from, classes that are held out alone refused."""
    if not data.examples:
        reasons = Counter(item.reason.split(":")[0] for item in data.skipped)
        raise DataError(
            f"nothing in {data.root} can be learned from: "
            + some([f"{reason} ({count:,})" for reason, count in reasons.most_common()]),
            hint="is it the right folder, and are these the right columns?",
        )
    if data.kind == "regression" or not learns:
        return data
    if len(data.classes) < 2:
        raise DataError(
            f"{data.root} has only one class, {some(data.classes)}; at least two are needed",
            hint="add examples of another class, or name another label column",
        )
    used = Counter(n for e in data.examples for n in classes_of(e.target))
    learned = Counter(n for e in data.examples if e.part != "test" for n in classes_of(e.target))
    for n, name in enumerate(data.classes):
        if not used[n] and n in before:
            raise DataError(
                f"every {data.modality} of class {name!r} lies in another class or in the test "
                "part as well",
                hint="delete the copies that do not belong there",
            )
    counted = used if data.kind == "embedding" else learned
    gone = [name for n, name in enumerate(data.classes) if not counted[n]]
    if gone:
        raise DataError(
            f"{data.root} has classes that nothing can be learned of: {some(gone)}",
            hint="add examples of them to the training part, or take them out",
        )
    if data.kind == "embedding":
        return data
    given = {e.part for e in data.examples} - {None}
    held = {n for e in data.examples if e.part == "test" for n in classes_of(e.target)}
    if "test" in given and (missing := [c for n, c in enumerate(data.classes) if n not in held]):
        _log.warning("nothing is held out of these classes: %s", some(missing))
    return data
