"""Labelled data of any form that is known: one function for each, chosen by what is there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from catalog.errors import DataError
from finetuning.data import archives, columns, folders, saved, shards, tables
from finetuning.data.assemble import Found, assemble
from finetuning.data.dataset import Dataset, Kind, Part, some
from finetuning.data.files import Content, Files, of_folder, reading, suffix
from finetuning.data.options import Options
from finetuning.data.splits import parts_in

_FORMS = "a folder of class folders, a table, an archive, WebDataset shards, or a saved data set"


def read(data: Path, options: Options | None = None, *, learns: bool = True) -> Dataset:
    """The labelled examples at ``data``, every one hashed, no image decoded yet.

    Where nothing ``learns`` from them, one class will do.

    Raises:
        DataError: there are none in a form that is known, or they cannot be used.
        UsageError: ``options`` name a column that is not there, or a package is missing.
        UnsafeError: an archive is none that can be meant well.
    """
    options = options or Options()
    with reading(data):
        found, kind = _found(data, options)
    if options.split is not None:
        found = _parted(found, options.split)
    return assemble(found, options.kind or kind, learns=learns)


def _parted(found: Found, file: Path) -> Found:
    """The same in the parts of a split that was written down; what is new is learned from.

    Raises:
        DataError: the split is of other data.
    """
    parts = parts_in(file)
    names = {raw.name for raw in found.raws}
    gone, new = sorted(parts.keys() - names), sorted(names - parts.keys())
    if len(gone) > len(parts) / 2:
        raise DataError(
            f"{file} is a split of other data: {len(gone)} of its {len(parts)} names are not here, "
            f"among them {some(gone)}",
            hint="it has names as `tlhub data check` prints them",
        )
    notes = list(found.notes)
    if gone:
        notes.append(f"{len(gone)} names of the split are not in the data: {some(gone)}")
    if new:
        notes.append(f"{len(new)} examples are not in the split and are learned from: {some(new)}")
    raws = [replace(raw, part=parts.get(raw.name, "train")) for raw in found.raws]
    return replace(found, raws=raws, notes=notes)


def check_place(data: Path, options: Options | None = None, *, learns: bool = True) -> None:
    """Raise early what `read` would raise of a folder or a name: nothing is opened.

    Raises:
        DataError: there are no data at ``data`` in a form that is known.
    """
    with reading(data):
        if data.is_file() or _is_pattern(data):
            if _is_pattern(data):
                shards.expand(data)
            else:
                _known(data)
        elif not data.is_dir() or not (saved.is_saved(data) or shards.expand(data)):
            files = of_folder(data)
            if learns and not _tables(files):
                folders.check(files, (options or Options()).kind)


def _found(data: Path, options: Options) -> tuple[Found, Kind | None]:
    """What is there, and what kind of labels its form means."""
    if _is_pattern(data):
        return shards.read(shards.expand(data), data.parent, options), None
    if data.is_file():
        _known(data)
        if not archives.is_archive(data):
            return columns.read(tables.read(data, data.name), data, options, None), None
        files = archives.files_of(data).inside()
        if shards.is_shards(files):
            return shards.read([data], data, options), None
        return _in_files(files, options)
    if data.is_dir() and saved.is_saved(data):
        return saved.read(data, options), None
    paths = shards.expand(data) if data.is_dir() else []
    if paths and shards.is_shards(archives.files_of(paths[0])):
        return shards.read(paths, data, options), None
    return _in_files(of_folder(data), options)


def _in_files(files: Files, options: Options) -> tuple[Found, Kind | None]:
    """What a folder or an archive holds: tables that say what is what, or class folders."""
    named = _tables(files)
    if not named:
        return folders.read(files), "classification"
    read_ones = [(tables.read(files.found[name], name), part) for name, part in named.items()]
    table = tables.joined([one for one, _ in read_ones])
    parts = [part for one, part in read_ones for _ in one.rows]
    within = None if files.root.is_dir() else _beside(files, next(iter(named)))
    found = columns.read(table, files.root, options, within, parts if any(parts) else None)
    return replace(found, skipped=(*files.skipped, *found.skipped)), None


def _tables(files: Files) -> dict[str, Part | None]:
    """The tables to read: `metadata.csv`, or one alone, or `train.csv` with `test.csv`.

    They count only beside folders that are no classes on their own: a list of what is in class
    folders is often beside them.
    """
    names = [name for name in files.found if tables.is_table(name)]
    top = [name for name in names if "/" not in name] or names
    metadata = [name for name in top if re.match(r"metadata\.", name.lower())]
    if metadata:
        return {metadata[0]: None}
    words = {name: re.split(r"[-_.]", name.rsplit("/", 1)[-1].lower())[0] for name in top}
    parts = folders.parts_of(words.values())
    if parts:
        return {name: parts[word] for name, word in words.items() if word in parts}
    if len(top) > 1 and len(set(words.values())) > 1:
        if _has_classes(files):
            return {}
        raise DataError(
            f"{files.root} holds several tables: {', '.join(top[:5])}",
            hint="give one of them as the data, or call them train, val and test",
        )
    return {} if _has_classes(files) else dict.fromkeys(top)


def _has_classes(files: Files) -> bool:
    try:
        folders.check(files)
    except DataError:
        return False
    return True


def _beside(files: Files, table: str) -> dict[str, Content]:
    """The files of an archive, as a table in it names them: from its own folder on."""
    folder = table.rpartition("/")[0]
    prefix = folder + "/" if folder else ""
    near = {n.removeprefix(prefix): c for n, c in files.found.items() if n.startswith(prefix)}
    return {**files.found, **near}


def _is_pattern(data: Path) -> bool:
    return not data.exists() and bool(re.search(r"\{\d+\.\.\d+\}|[*?]", data.name))


def _known(data: Path) -> None:
    if not archives.is_archive(data) and not tables.is_table(data.name):
        ending = suffix(data.name) or "no ending"
        raise DataError(f"{data} is a file with {ending}", hint=f"give {_FORMS}")
