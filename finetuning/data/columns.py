"""Which column of a table is what, and the examples in its rows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog.errors import DataError, UsageError
from converters.images import SUFFIXES
from finetuning.data.assemble import Found, Raw
from finetuning.data.dataset import (
    MAX_UNREADABLE,
    Modality,
    Part,
    Skipped,
    Stored,
    printable,
    some,
)
from finetuning.data.files import Content, suffix
from finetuning.data.folders import parts_of
from finetuning.data.labels import Label
from finetuning.data.options import Options
from finetuning.data.tables import Table

# The likelier first; names are compared in lower case.
_IMAGES = ("image", "img", "file_name", "filename", "image_path", "filepath", "path", "file", "jpg")
_TEXTS = ("text", "sentence", "review", "content", "comment", "message", "tweet", "body", "title")
_LABELS = (
    *("label", "labels", "class", "classes", "target", "category", "categories", "tag", "tags"),
    *("species", "sentiment", "rating", "score", "y", "value", "class_name", "label_name"),
)
_PARTS = ("split", "part", "subset", "partition", "fold")
_GROUPS = (
    "group",
    "patient",
    "patient_id",
    "subject",
    "subject_id",
    "video",
    "video_id",
    "user_id",
)
_IDENTITY = ("id", "index", "idx", "uid", "uuid", "")
_LOOKED_AT = 200  # rows
_NO_FILE, _NO_PART = "no file", "is in no part"  # how reasons begin


@dataclass(frozen=True)
class Columns:
    """The columns that were chosen."""

    content: str
    is_image: bool
    labels: tuple[str, ...]
    group: str | None
    part: str | None
    notes: tuple[str, ...]


def read(
    table: Table,
    root: Path,
    options: Options,
    files: Mapping[str, Content] | None,
    parts: Sequence[Part | None] | None = None,
) -> Found:
    """The examples in a table.

    Paths in it are looked up in ``files``, or where it is None from the folder of ``root`` on.
    ``parts`` says of each row which part of the data it is in, where the table's place does.

    Raises:
        UsageError: there is no such column.
        DataError: what is what cannot be told.
    """
    chosen = choose(table, options)
    finder = _Finder(root, files)
    if chosen.is_image and chosen.content not in table.blobs:
        sample = table.columns[chosen.content][:_LOOKED_AT]
        finder.look_around([str(value) for value in sample if value])
    skipped = list(table.skipped)
    raws: list[Raw] = []
    taken: set[str] = set()
    given = _given(table, chosen) if parts is None else parts
    for n, row in enumerate(table.rows):
        content = _content(table, chosen, n, finder)
        if content is None:
            value = table.columns.get(chosen.content, [None] * (n + 1))[n]
            skipped.append(Skipped(row, f"{_NO_FILE}: {value}" if value else "is empty"))
            continue
        if chosen.part is not None and parts is None and given[n] is None:
            skipped.append(Skipped(row, f"{_NO_PART}: {table.columns[chosen.part][n]}"))
            continue
        group = None if chosen.group is None else _text(table.columns[chosen.group][n])
        name = _name(table, chosen, n)
        name = row if name in taken else name
        taken.add(name)
        raws.append(Raw(printable(name), content, _label(table, chosen, n), given[n], group))
    if not raws:
        raise DataError(
            f"none of the files that {table.label} names is there: {skipped[0].reason}"
            if skipped
            else f"{table.label} has no rows",
            hint="paths are taken from the folder of the table on",
        )
    gone = [item for item in skipped if item.reason.startswith(_NO_FILE)]
    if len(gone) > MAX_UNREADABLE * len(table.rows):
        raise DataError(
            f"{len(gone)} of the {len(table.rows)} files that {table.label} names are not there: "
            f"{some([item.reason.removeprefix(f'{_NO_FILE}: ') for item in gone])}",
            hint="are they all here? Else take their rows out of the table",
        )
    classes = table.classes.get(chosen.labels[0], ()) if len(chosen.labels) == 1 else ()
    notes = (*table.notes, *chosen.notes, *finder.notes)
    modality: Modality = "image" if chosen.is_image else "text"
    column = chosen.labels[0]
    return Found(root, modality, raws, skipped, notes, classes, column)


def choose(table: Table, options: Options) -> Columns:
    """The columns of a table, named by ``options`` or guessed.

    Raises:
        UsageError: there is no such column.
        DataError: what is what cannot be told.
    """
    named = (options.image, options.text, options.group, *options.labels)
    for name in named:
        if name is not None:
            _must_have(table, name)
    notes = []
    free = [c for c in [*table.blobs, *table.columns] if c not in {options.group, *options.labels}]
    content, is_image = options.image or options.text, options.image is not None
    if content is None:
        content, is_image = _guess_content(table, free)
        notes.append(f"column {content!r} was taken for the {'images' if is_image else 'texts'}")
    rest = [c for c in table.columns if c not in {content, options.group}]
    labels = options.labels
    if not labels:
        part = _named(_PARTS, rest)
        labels = _guess_labels(table, [c for c in rest if c != part])
        word = "column" if len(labels) == 1 else "columns"
        notes.append(f"{word} {', '.join(map(repr, labels))} taken for the labels")
    part = next((c for c in rest if c.lower() in _PARTS and c not in labels), None)
    if part is not None and not parts_of({str(value) for value in table.columns[part]}):
        part = None
    if part is not None:
        notes.append(f"column {part!r} says what is held out")
    like = _named(_GROUPS, [c for c in rest if c not in labels])
    if options.group is None and like is not None:
        notes.append(
            f"column {like!r} may name groups that belong on one side of the split: "
            f"--group-column {like}"
        )
    return Columns(content, is_image, labels, options.group, part, tuple(notes))


def _must_have(table: Table, name: str) -> None:
    columns = [*table.columns, *table.blobs]
    if name not in columns:
        near = difflib.get_close_matches(name, columns, n=1)
        said = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(columns)}"
        raise UsageError(f"{table.label} has no column {name!r}", hint=said)


def _named(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """The column with the likeliest of these names."""
    by_name = {column.lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def _guess_content(table: Table, columns: Sequence[str]) -> tuple[str, bool]:
    blobs = [column for column in columns if column in table.blobs]
    if blobs:
        return _named(_IMAGES, blobs) or blobs[0], True
    samples = {c: [v for v in table.columns[c][:_LOOKED_AT] if isinstance(v, str)] for c in columns}
    paths = [
        column
        for column, values in samples.items()
        if values and sum(suffix(value) in SUFFIXES for value in values) > len(values) / 2
    ]
    if paths:
        return _named(_IMAGES, paths) or paths[0], True
    by_name = _named(_TEXTS, [column for column, values in samples.items() if values])
    if by_name is not None:
        return by_name, False
    by_name = _named(_IMAGES, [column for column, values in samples.items() if values])
    if by_name is not None:  # without endings, as ids of images are written
        return by_name, True
    long = {c: sum(map(len, v)) / len(v) for c, v in samples.items() if v}
    if long and max(long.values()) >= 20:
        return max(long, key=lambda column: long[column]), False
    raise DataError(
        f"no column of {table.label} looks like images or texts: {', '.join(columns)}",
        hint="name it with --image-column or --text-column",
    )


def _guess_labels(table: Table, columns: Sequence[str]) -> tuple[str, ...]:
    likely = [c for c in columns if c.lower() not in _IDENTITY and c.lower() not in _GROUPS]
    classes = [column for column in columns if column in table.classes]
    if len(classes) == 1 or len(likely) == 1:
        return (*classes, *likely)[:1]
    switches = [c for c in likely if {str(v).strip().lower() for v in table.columns[c]} <= _SWITCH]
    if len(switches) >= 2 and switches == likely:
        return tuple(switches)
    named = _named(_LABELS, classes) or _named(_LABELS, columns)
    if named is not None:
        return (named,)
    if len(switches) >= 2:
        return tuple(switches)
    raise DataError(
        f"which column of {table.label} is the label cannot be told: "
        f"{', '.join(columns) or 'there is no other'}",
        hint="name it with --label-column (again for each, where there are several)",
    )


_SWITCH = {"0", "1", "0.0", "1.0", "-1", "true", "false"}


def _given(table: Table, chosen: Columns) -> list[Part | None]:
    if chosen.part is None:
        return [None] * len(table.rows)
    values = [str(value) for value in table.columns[chosen.part]]
    parts = parts_of(values)
    return [parts.get(value) for value in values]


def _label(table: Table, chosen: Columns, n: int) -> Label:
    if len(chosen.labels) == 1:
        return table.columns[chosen.labels[0]][n]
    return {column: table.columns[column][n] for column in chosen.labels}


def _name(table: Table, chosen: Columns, n: int) -> str:
    """What a row is called: its image's path, else its number."""
    if not chosen.is_image or chosen.content in table.blobs:
        return table.rows[n]
    return _text(table.columns[chosen.content][n]) or table.rows[n]


def _content(
    table: Table, chosen: Columns, n: int, finder: _Finder
) -> Content | Stored | str | None:
    if chosen.content in table.blobs:
        return table.blobs[chosen.content][n]
    value = _text(table.columns[chosen.content][n])
    if not chosen.is_image:
        return value or ""
    return finder.find(value) if value else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


class _Finder:
    """Where the files are that a table names; those that lie elsewhere are found by their names."""

    def __init__(self, root: Path, files: Mapping[str, Content] | None) -> None:
        self.notes: list[str] = []
        self._folder = root if root.is_dir() else root.parent
        self._files = files
        self._elsewhere = False
        self._by_name: dict[str, Content | None] | None = None

    def look_around(self, values: Sequence[str]) -> None:
        """Look in other folders too, where most of these are not where the table says."""
        self._elsewhere = sum(self._direct(value) is None for value in values) > len(values) / 2

    def find(self, value: str) -> Content | None:
        direct = self._direct(value)
        if direct is not None or not self._elsewhere:
            return direct
        found = self._names().get(value.replace("\\", "/").rsplit("/", 1)[-1])
        if found is not None and not self.notes:
            self.notes.append("images were found by their names, elsewhere than the table says")
        return found

    def _direct(self, value: str) -> Content | None:
        if "\0" in value:
            return None
        for name in dict.fromkeys((value, value.replace("\\", "/"))):
            if self._files is None:
                path = self._folder / name
                if path.is_file():
                    return path
            elif (name := name.removeprefix("./")) in self._files:
                return self._files[name]
        return None

    def _names(self) -> dict[str, Content | None]:
        """Images by their file names, with the ending and without; None where two share one."""
        if self._by_name is None:
            from finetuning.data.files import of_folder

            files = of_folder(self._folder).found if self._files is None else self._files
            self._by_name = {}
            for name, content in files.items():
                last = name.rsplit("/", 1)[-1]
                if suffix(last) in SUFFIXES:
                    for key in {last, last.rsplit(".", 1)[0]}:
                        self._by_name[key] = None if key in self._by_name else content
        return self._by_name
