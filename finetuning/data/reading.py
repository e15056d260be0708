"""Labelled data of any form that is known, by where they are."""

from __future__ import annotations

from pathlib import Path

from finetuning.data.dataset import Dataset
from finetuning.data.folders import check_folder, read_folder


def check_place(data: Path) -> None:
    """Raise early what `read` would: no file is opened, so that it takes no time.

    Raises:
        DataError: there are no data at ``data`` in a form that is known.
    """
    check_folder(data)


def read(data: Path) -> Dataset:
    """The labelled examples at ``data``, every one hashed, no image decoded yet.

    Raises:
        DataError: there are none, or they cannot be used.
    """
    return read_folder(data)
