"""The records that ship with tlhub: compressed JSON lines, sorted by uid, the same bytes always."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from catalog.disk import replacing, writing
from catalog.errors import IntegrityError, UsageError
from catalog.record import ModelRecord, decode, encode

SHIPPED = Path(__file__).with_name("data") / "records.jsonl.xz"
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9}]


def read(path: Path = SHIPPED) -> Iterator[ModelRecord]:
    """The records of a snapshot, in the order of their uids.

    Raises:
        IntegrityError: the file is missing, cut short or not a snapshot.
    """
    try:
        with lzma.open(path) as stream:
            for line in stream:
                yield decode(line)
    except (OSError, EOFError, lzma.LZMAError, UsageError) as error:
        raise IntegrityError(
            f"the catalog at {path} cannot be read: {error}", hint="install tlhub again"
        ) from error


def digest(path: Path = SHIPPED) -> str:
    """The SHA-256 of the snapshot file in hex.

    Raises:
        IntegrityError: the file is missing.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise IntegrityError(
            f"the catalog at {path} cannot be read: {error}", hint="install tlhub again"
        ) from error


def dump(records: Iterable[ModelRecord]) -> bytes:
    """The snapshot of these records.

    Raises:
        UsageError: a record does not validate, or two have the same uid.
    """
    lines: dict[str, bytes] = {}
    for record in records:
        line = encode(record)
        decode(line)
        if record.uid in lines:
            raise UsageError(f"two records have the uid {record.uid}")
        lines[record.uid] = line
    data = b"".join(lines[uid] + b"\n" for uid in sorted(lines))
    return lzma.compress(data, check=lzma.CHECK_CRC64, filters=_FILTERS)


def write(records: Iterable[ModelRecord], path: Path) -> None:
    """Write the snapshot; after any failure ``path`` is what it was before.

    Raises:
        UsageError: a record does not validate, or two have the same uid.
        StorageError: ``path`` cannot be written.
    """
    data = dump(records)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.write(data)
