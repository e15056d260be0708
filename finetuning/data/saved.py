"""Data sets that Hugging Face's `datasets` saved to disk: Arrow files with JSON beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from catalog.errors import DataError
from catalog.members import leaves_folder
from finetuning.data import arrow, columns, tables
from finetuning.data.assemble import Found
from finetuning.data.dataset import Part
from finetuning.data.folders import parts_of
from finetuning.data.options import Options

_SPLITS, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (folder / _SPLITS).is_file() or (folder / _STATE).is_file()


def read(folder: Path, options: Options) -> Found:
    """The examples of a `Dataset` or a `DatasetDict`.

    Raises:
        DataError: a file is damaged or missing.
        UsageError: pyarrow is not installed, or there is no such column.
    """
    if (folder / _STATE).is_file():
        return columns.read(_table(folder, folder.name), folder, options, None)
    names = _json(folder / _SPLITS).get("splits")
    if not isinstance(names, list):
        raise DataError(f"{folder / _SPLITS} names no splits")
    parts = parts_of(map(str, names))
    found, given = [], list[Part | None]()
    for name in names:
        if leaves_folder(str(name)):
            raise DataError(f"{folder / _SPLITS} names {name!r}, which lies elsewhere")
        if not parts or name in parts:
            found.append(_table(folder / str(name), str(name)))
            given += [parts.get(name)] * len(found[-1].rows)
    if not found:
        raise DataError(f"{folder} has no splits")
    said: Sequence[Part | None] | None = given if parts else None
    return columns.read(tables.joined(found), folder, options, None, said)


def _table(folder: Path, name: str) -> tables.Table:
    state = _json(folder / _STATE)
    if state.get("_indices_data_files"):
        raise DataError(
            f"{folder} holds a selection of rows beside all of them",
            hint="dataset.flatten_indices().save_to_disk(...) writes what was selected",
        )
    listed = state.get("_data_files")
    items = listed if isinstance(listed, list) else []
    files = [str(item.get("filename")) for item in items if isinstance(item, dict)]
    if not files or any(map(leaves_folder, files)):
        raise DataError(f"{folder / _STATE} names no Arrow files in its folder: {files[:1]}")
    info = folder / _INFO
    features = _json(info).get("features") if info.is_file() else None
    return tables.joined(
        [
            arrow.read_arrow(folder / file, name if len(files) == 1 else f"{name}/{n}", features)
            for n, file in enumerate(files)
        ]
    )


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{file} cannot be read: {error}", hint="save the data set again"
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{file} holds no JSON object")
    return value
