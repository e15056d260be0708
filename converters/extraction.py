"""Features of many files or texts into one table: taken up where a killed run stopped.

Features are kept in parts of a few hundred rows, each renamed when whole, in a hidden folder beside
the table; when all are there they become the table, by one rename too. What cannot be read is left
out and named.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from catalog.disk import replacing, writing
from catalog.errors import DataError, NotFoundError
from converters.folder import is_channels_last
from converters.interface import EMBEDDING
from converters.tables import write

if TYPE_CHECKING:
    from converters.runtime import OnnxModel

_log = logging.getLogger(__name__)

PART = 512  # rows; so many are computed again after a kill, at most
_AHEAD = 32  # inputs that are read while others are computed
_MOST_SKIPPED = 0.5  # of the inputs; more is a mistake in what was asked for


@dataclass(frozen=True)
class Extraction:
    """What became of the inputs."""

    rows: int
    shape: tuple[int, ...]  # of one row
    skipped: tuple[tuple[str, str], ...]  # name and reason
    kept: int  # rows that an earlier run had computed


def extract(
    model: OnnxModel[Any, Any],
    names: Sequence[str],
    read: Callable[[str], Any],
    out: Path,
    *,
    key: str,
    layer: str | None = None,
    pool: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Extraction:
    """Write the features of what ``read`` makes of each name to ``out``, in the order of names.

    ``out`` ends in `.npy` (with the names in `.txt` beside it), `.csv` or `.parquet`. ``key`` says
    what computes, and of what: parts of an earlier run with another key, layer or other names are
    not used. ``layer`` is one that ``model`` was opened with, by default its embedding; with
    ``pool`` a map (C, H, W) or (H, W, C) or tokens (T, C) become their mean (C,).

    Raises:
        DataError: too many cannot be read.
        StorageError: the disk is full, or cannot be written.
    """
    order = hashlib.sha256("\0".join([key, layer or "", str(pool), *names]).encode()).hexdigest()
    parts = _Parts(out.with_name(f".{out.name}.parts-{order[:16]}"))
    for other in out.parent.glob(f".{out.name}.parts-*"):
        if other != parts.folder:
            _log.info("%s is of another order, and removed", other)
            shutil.rmtree(other, ignore_errors=True)
    kept = 0
    with writing(out), ThreadPoolExecutor(4) as pool_:
        out.parent.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(names), PART):
            if parts.has(start):
                kept += parts.rows(start)
            else:
                chosen = names[start : start + PART]
                parts.put(start, *_compute(model, chosen, read, layer, pool_, pool=pool))
            progress(f"features of {min(start + PART, len(names)):,} of {len(names):,}")
        found = parts.all(range(0, len(names), PART))
        skipped = [(names[n], reason) for n, reason in found.skipped]
        if len(skipped) > _MOST_SKIPPED * len(names) or not found.rows:
            name, reason = skipped[0] if skipped else ("nothing", "there is no input")
            raise DataError(
                f"{len(skipped):,} of {len(names):,} inputs cannot be read, the first {name}: "
                f"{reason}",
                hint="look at what was given: images, or a list of them, or of texts",
            )
        left_out = {n for n, _ in found.skipped}
        write(
            out, [n for i, n in enumerate(names) if i not in left_out], found.shape, found.arrays()
        )
        shutil.rmtree(parts.folder, ignore_errors=True)
    return Extraction(found.rows, found.shape, tuple(skipped), kept)


def _compute(
    model: OnnxModel[Any, Any],
    names: Sequence[str],
    read: Callable[[str], Any],
    layer: str | None,
    threads: ThreadPoolExecutor,
    *,
    pool: bool,
) -> tuple[NDArray[np.float32], list[tuple[int, str]]]:
    """The features of those that can be read, and the places of the others with the reason."""
    rows: list[NDArray[np.float32]] = []
    skipped: list[tuple[int, str]] = []

    def attempt(numbered: tuple[int, str]) -> tuple[int, Any, str | None]:
        number, name = numbered
        try:
            return number, read(name), None
        except (DataError, NotFoundError) as error:
            return number, None, error.message.removeprefix(f"{name} ")

    results = _ahead(threads, attempt, enumerate(names))
    while batch := list(islice(results, _AHEAD)):
        skipped += [(number, reason) for number, _, reason in batch if reason is not None]
        inputs = [value for _, value, reason in batch if reason is None]
        if inputs:
            found = model.rows(inputs, layer or EMBEDDING)
            rows += [_pooled(row) for row in found] if pool else found
    if len({row.shape for row in rows}) > 1:
        raise DataError(
            f"{layer} has another shape for each input, which no table holds",
            hint="leave out --no-pool: the mean over tokens has one shape",
        )
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32), skipped


def _ahead(
    threads: ThreadPoolExecutor, function: Callable[[Any], Any], items: Iterator[Any]
) -> Iterator[Any]:
    """As `map`, with a few results under way."""
    waiting = [threads.submit(function, item) for item in islice(items, 2 * _AHEAD)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [threads.submit(function, item) for item in islice(items, 1)]


def _pooled(row: NDArray[np.float32]) -> NDArray[np.float32]:
    if row.ndim == 3:
        mean: NDArray[np.float32] = row.mean((0, 1) if is_channels_last(row.shape) else (1, 2))
        return mean
    return row.mean(0) if row.ndim == 2 else row


class _Parts:
    """The parts that are there, each by the place of its first row."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, start: int) -> bool:
        return self._load(start) is not None

    def rows(self, start: int) -> int:
        return len(self._whole(start)[0])

    def put(self, start: int, rows: NDArray[np.float32], skipped: list[tuple[int, str]]) -> None:
        self.folder.mkdir(exist_ok=True)
        numbers = np.array([number for number, _ in skipped], np.int64)
        reasons = np.array([reason for _, reason in skipped], np.str_)
        with replacing(self._file(start)) as stream:
            np.savez(stream, allow_pickle=False, rows=rows, numbers=numbers, reasons=reasons)

    def all(self, starts: Sequence[int]) -> _Found:
        total, shape, skipped = 0, (0,), []
        for start in starts:
            rows, numbers, reasons = self._whole(start)
            total += len(rows)
            shape = rows.shape[1:] if len(rows) else shape
            skipped += [(start + int(n), str(r)) for n, r in zip(numbers, reasons, strict=True)]
        return _Found(total, shape, skipped, lambda: (self._whole(start)[0] for start in starts))

    def _file(self, start: int) -> Path:
        return self.folder / f"{start:012}.npz"

    def _whole(self, start: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        found = self._load(start)
        if found is None:
            raise DataError(
                f"{self._file(start)} is gone", hint="run it again: the rest is still there"
            )
        return found

    def _load(self, start: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
        try:
            with np.load(self._file(start), allow_pickle=False) as part:
                return part["rows"], part["numbers"], part["reasons"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            _log.warning("computing again what %s held: %s", self._file(start), error)
            return None


@dataclass(frozen=True)
class _Found:
    rows: int
    shape: tuple[int, ...]
    skipped: list[tuple[int, str]]
    arrays: Callable[[], Iterator[NDArray[np.float32]]]
