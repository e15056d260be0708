"""Folders of labelled images or texts: one folder is one class.

Folders inside a class are only for keeping order. Where there is `train/` with `test/` or `val/`
beside it, those are the split. Everything that is left out is kept by name with its reason, so
that a report can say so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from catalog.errors import DataError, TlhubError
from converters.images import SUFFIXES
from finetuning.data import texts
from finetuning.data.assemble import Found, Raw
from finetuning.data.dataset import Kind, Modality, Part, Skipped, printable, some
from finetuning.data.files import Content, Files, read_bytes, suffix
from finetuning.data.labels import check_name

_TRAIN, _VALIDATION = {"train", "training"}, {"val", "valid", "validation", "dev"}

_HINT = "make one folder for each class, with its images or texts inside"

_Classes = dict[tuple[Part | None, str], dict[str, Content]]


def check(files: Files, kind: Kind | None = None) -> None:
    """Raise early what `read` would: no file is opened, so that it takes no time.

    Raises:
        DataError: there are fewer than two classes, a class is empty or its name cannot be a
            label, or `test/` has others than `train/`, which of an embedding it may.
    """
    found = _classes(files, _modality(files), [])
    learned = {name for part, name in found if part != "test"}
    held = {name for part, name in found if part == "test"}
    if (unknown := held - learned) and kind != "embedding":
        raise DataError(
            f"{files.root} has classes to test that nothing can be learned of: "
            f"{some(sorted(unknown))}",
            hint="add them to train/, or delete them from the test part",
        )
    if len(learned) < 2:
        seen = f"only one class, {learned.pop()}" if learned else "no class to learn from"
        raise DataError(f"{files.root} has {seen}; at least two are needed", hint=_HINT)


def read(files: Files) -> Found:
    """The images or texts of the class folders.

    Raises:
        DataError: there are none, a class is empty, or its name cannot be a label.
    """
    skipped = list(files.skipped)
    modality = _modality(files)
    classes = _classes(files, modality, skipped)
    raws, notes = [], []
    for (part, label), members in classes.items():
        for name, content in members.items():
            shown = printable(name)
            if modality == "image":
                raws.append(Raw(shown, content, label, part))
                continue
            try:
                text, encoding = texts.decode(read_bytes(content), shown)
            except TlhubError as error:
                skipped.append(Skipped(shown, error.message.removeprefix(f"{shown} ")))
                continue
            if encoding != "utf-8":
                notes.append(f"{shown} is not UTF-8 and was read as {encoding}")
            raws.append(Raw(shown, text, label, part))
    return Found(files.root, modality, raws, skipped, notes)


def parts_of(names: Iterable[str]) -> dict[str, Part]:
    """Which of these names stand for parts of the data, where they do.

    With no `test`, `val` is what is held out; with one, it is more to learn from.
    """
    known = {name: name.lower() for name in names}
    held = {"test"} & set(known.values()) or _VALIDATION & set(known.values())
    if not held or not _TRAIN & set(known.values()):
        return {}
    parts: dict[str, Part] = {}
    for name, lower in known.items():
        if lower in held:
            parts[name] = "test"
        elif lower in _TRAIN | _VALIDATION:
            parts[name] = "train"
    return parts


def _modality(files: Files) -> Modality:
    endings = {suffix(name) for name in files.found if "/" in name}
    return "text" if endings & texts.SUFFIXES and not endings & SUFFIXES else "image"


def _classes(files: Files, modality: Modality, skipped: list[Skipped]) -> _Classes:
    """The files of each part and class."""
    parts = parts_of(files.top()[0])
    endings = SUFFIXES if modality == "image" else texts.SUFFIXES
    found: _Classes = defaultdict(dict)
    for name in files.folders:
        place = _place(name + "/", parts)
        if place is not None and place[1]:
            found[place[0], place[1]] = {}
    left_out: dict[str, str] = {}
    for name, content in files.found.items():
        place = _place(name, parts)
        if place is None:
            left_out[name.split("/", 1)[0]] = "not in train/, val/ or test/"
        elif not place[1]:
            left_out[name] = "not in a class folder"
        elif suffix(name) not in endings:
            word = "an image" if modality == "image" else "a text"
            left_out[name] = f"not {word} by its name"
            found.setdefault(place, {})
        else:
            found[place][name] = content
    skipped += [Skipped(printable(name), reason) for name, reason in left_out.items()]
    _refuse(files, found, modality)
    return dict(sorted(found.items(), key=lambda item: (item[0][0] or "", item[0][1])))


def _place(name: str, parts: dict[str, Part]) -> tuple[Part | None, str] | None:
    """The part and the class a file lies in; the class is empty where it lies in none."""
    pieces = name.split("/")
    part = None
    if parts:
        if pieces[0] not in parts:
            return None
        part = parts[pieces.pop(0)]
    return part, pieces[0] if len(pieces) > 1 else ""


def _refuse(files: Files, found: _Classes, modality: Modality) -> None:
    if not found:
        raise DataError(
            f"{files.root} has no class folders; at least two classes are needed", hint=_HINT
        )
    for (_, name), members in found.items():
        check_name(name)
        if not members:
            endings = " ".join(sorted(SUFFIXES | texts.SUFFIXES))
            raise DataError(
                f"the class folder {name!r} in {files.root} holds no {modality}s",
                hint=f"add some ({endings}) or delete the folder",
            )
