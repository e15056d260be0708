"""Tables of features: one row a name, as NumPy, CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from catalog.disk import replacing
from catalog.errors import UsageError

Rows = Iterable[NDArray[np.float32]]  # each (n, *shape), of all names in their order
FORMATS = (".npy", ".csv", ".parquet")


def check_format(out: Path) -> None:
    """Raise a `UsageError` unless the table at ``out`` can be written.

    Raises:
        UsageError: the ending is none of ours, or pyarrow is not installed.
    """
    if out.suffix not in FORMATS:
        raise UsageError(
            f"{out.name} ends in none of {', '.join(FORMATS)}", hint="--out features.npy"
        )
    if out.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise UsageError(
                "Parquet needs pyarrow, which is not installed",
                hint="pip install 'tlhub[parquet]', or write .npy or .csv",
            ) from error


def write(out: Path, names: Sequence[str], shape: Sequence[int], rows: Rows) -> None:
    """Write the table at ``out``, whole or not at all.

    `.npy` is float32 (len(names), *shape), with the names in a `.txt` beside it, one a line; `.csv`
    has the columns ``name``, ``f0``, ``f1``, ...; `.parquet` the columns ``name`` and ``features``.

    Raises:
        StorageError: it cannot be written.
    """
    writer = {".npy": _npy, ".csv": _csv, ".parquet": _parquet}[out.suffix]
    if out.suffix == ".npy":  # first: with its names alone the array says nothing
        with replacing(out.with_suffix(".txt")) as stream:
            stream.writelines(f"{' '.join(name.split())}\n".encode() for name in names)
    with replacing(out) as stream:
        writer(stream, names, tuple(shape), rows)


def _npy(stream: IO[bytes], names: Sequence[str], shape: tuple[int, ...], rows: Rows) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(names), *shape)}
    np.lib.format.write_array_header_1_0(stream, header)
    for part in rows:
        stream.write(part.astype("<f4").tobytes())


def _csv(stream: IO[bytes], names: Sequence[str], shape: tuple[int, ...], rows: Rows) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    table = csv.writer(text)
    table.writerow(["name", *(f"f{n}" for n in range(int(np.prod(shape))))])
    for name, row in _each(names, rows):
        table.writerow([name, *(f"{value:.9g}" for value in row.ravel())])
    text.detach()


def _parquet(stream: IO[bytes], names: Sequence[str], shape: tuple[int, ...], rows: Rows) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    width = int(np.prod(shape))
    schema = pa.schema({"name": pa.string(), "features": pa.list_(pa.float32(), width)})
    remaining = iter(names)
    with parquet.ParquetWriter(stream, schema) as table:
        for part in rows:
            values = pa.array(part.ravel(), pa.float32())
            lists = pa.FixedSizeListArray.from_arrays(values, width)
            these = pa.array(list(islice(remaining, len(part))), pa.string())
            table.write_batch(pa.record_batch([these, lists], schema=schema))


def _each(names: Sequence[str], rows: Rows) -> Iterator[tuple[str, NDArray[np.float32]]]:
    yield from zip(names, (row for part in rows for row in part), strict=True)
