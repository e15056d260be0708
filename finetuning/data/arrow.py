"""Parquet files, and Arrow files as Hugging Face's `datasets` saves them, read by pyarrow."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.errors import DataError, UsageError
from finetuning.data.files import Content, read_bytes
from finetuning.data.tables import Table

if TYPE_CHECKING:
    import pyarrow as pa

_Stamp = tuple[int, ...]
_WHOLE = -1  # in the place of a row group, for files that are mapped into memory


@dataclass(frozen=True)
class Cell:
    """The bytes in one cell of a table."""

    file: Content
    column: str
    group: int  # the row group of a Parquet file
    row: int  # within it

    def read(self) -> bytes:
        """The bytes.

        Raises:
            DataError: the cell is empty, or the file is damaged or gone.
        """
        with _reading(self.file):
            value = _column(self.file, _stamp(self.file), self.column, self.group)[self.row].as_py()
        if isinstance(value, dict):
            value = value["bytes"]
        if not value:
            raise DataError("holds no image")
        return bytes(value)


def read_parquet(file: Content, name: str) -> Table:
    """The table in a Parquet file.

    Raises:
        DataError: it is damaged.
        UsageError: pyarrow is not installed.
    """
    needs_pyarrow(name)
    with _reading(file):
        source = _parquet(file, _stamp(file))
        schema = source.schema_arrow
        groups = [source.metadata.row_group(n).num_rows for n in range(source.num_row_groups)]
        places = [(group, row) for group, rows in enumerate(groups) for row in range(rows)]
        images = _images(schema)
        plain = [column for column in schema.names if column not in images]
        columns = source.read(columns=plain).to_pydict() if plain else {}
        paths = {column: _paths(source, column) for column in images}
    blobs = {
        column: [Cell(file, column, group, row) for group, row in places]
        for column in images
        if paths[column] is None
    }
    columns |= {column: found for column, found in paths.items() if found is not None}
    features = _features((schema.metadata or {}).get(b"huggingface", b"{}"))
    rows = [f"{name}:{n}" for n in range(1, len(places) + 1)]
    return Table(name, rows, columns, blobs, classes_in(features))


def read_arrow(file: Path, name: str, features: object) -> Table:
    """The table in an Arrow file, a stream or a file.

    Raises:
        DataError: it is damaged.
        UsageError: pyarrow is not installed.
    """
    needs_pyarrow(name)
    with _reading(file):
        table = _mapped(file, _stamp(file))
        images = _images(table.schema)
        plain = [column for column in table.schema.names if column not in images]
        columns = table.select(plain).to_pydict()
    count = range(table.num_rows)
    blobs = {column: [Cell(file, column, _WHOLE, n) for n in count] for column in images}
    for column in images:
        found = _first_paths(table.column(column))
        if found is not None:
            columns[column] = found
            del blobs[column]
    rows = [f"{name}:{n + 1}" for n in count]
    return Table(name, rows, columns, blobs, classes_in(features))


def _features(metadata: bytes) -> object:
    """What `datasets` writes into the schema of a Parquet file."""
    try:
        value = json.loads(metadata)
    except (ValueError, RecursionError):
        return None
    for key in ("info", "features"):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def classes_in(features: object) -> dict[str, Sequence[str]]:
    """The names of the classes by column, as `datasets` writes them down."""
    found: dict[str, Sequence[str]] = {}
    if not isinstance(features, dict):
        return found
    for column, feature in features.items():
        while isinstance(feature, list) or (isinstance(feature, dict) and "feature" in feature):
            inner = feature[:1] if isinstance(feature, list) else [feature["feature"]]
            feature = inner[0] if inner else None
        names = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(names, list):
            found[column] = [str(name) for name in names]
    return found


def needs_pyarrow(name: str) -> None:
    """Raise where pyarrow is not installed.

    Raises:
        UsageError: it is not.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{name} is read by pyarrow, which is not installed",
            hint="pip install 'tlhub[parquet]', or give the data as CSV or a folder",
        ) from error


def _images(schema: pa.Schema) -> list[str]:
    """The columns that hold bytes, on their own or beside a path."""
    import pyarrow as pa

    def holds_bytes(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            names = [kind.field(n).name for n in range(kind.num_fields)]
            return "bytes" in names
        return bool(
            pa.types.is_binary(kind)
            or pa.types.is_large_binary(kind)
            or pa.types.is_fixed_size_binary(kind)
        )

    return [part.name for part in schema if holds_bytes(part.type)]


def _paths(source: Any, column: str) -> list[object] | None:
    """The paths in a column of {bytes, path} where the first row has no bytes."""
    if not source.num_row_groups:
        return None
    part = source.read_row_group(0, columns=[column]).column(0)
    if _first_paths(part) is None:
        return None
    return [(row or {}).get("path") for row in source.read(columns=[column]).column(0).to_pylist()]


def _first_paths(column: pa.ChunkedArray) -> list[object] | None:
    first = column[0].as_py() if len(column) else None
    if not isinstance(first, dict) or first.get("bytes") or not first.get("path"):
        return None
    return [(row or {}).get("path") for row in column.to_pylist()]


def _stamp(file: Content) -> _Stamp:
    """What tells a file from another that took its place."""
    if not isinstance(file, Path):
        return ()
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=2)
def _parquet(file: Content, stamp: _Stamp) -> Any:  # noqa: ARG001 - a part of the key
    from pyarrow import parquet

    source = file if isinstance(file, Path) else io.BytesIO(read_bytes(file))
    return parquet.ParquetFile(source)


@lru_cache(maxsize=8)
def _mapped(file: Path, stamp: _Stamp) -> pa.Table:  # noqa: ARG001 - a part of the key
    import pyarrow as pa

    with pa.memory_map(str(file)) as stream:
        try:
            return pa.ipc.open_stream(stream).read_all()
        except pa.ArrowInvalid:
            stream.seek(0)
            return pa.ipc.open_file(stream).read_all()


@lru_cache(maxsize=2)
def _column(file: Content, stamp: _Stamp, column: str, group: int) -> pa.ChunkedArray:
    if group == _WHOLE and isinstance(file, Path):
        return _mapped(file, stamp).column(column)
    return _parquet(file, stamp).read_row_group(group, columns=[column]).column(0)


@contextmanager
def _reading(file: Content) -> Iterator[None]:
    """What pyarrow raises over damaged files, as a `DataError`."""
    try:
        yield
    except (OSError, ValueError, KeyError, IndexError) as error:  # pyarrow's own are among them
        where = file if isinstance(file, Path) else "the table"
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{where} cannot be read: {said}", hint="is it complete? make or fetch it again"
        ) from error
