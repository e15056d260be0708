"""The tantivy index over the records: derived, in the user's cache, always possible to rebuild.

Every state of it is a folder of its own, filled under a temporary name and renamed into place
under a lock: the index of a snapshot, and that with one's own records up to some version. The
second is the first, or an older second, by hard links to the files that both have: tantivy writes
no file twice. So a killed build leaves nothing a reader would open, two processes build it once,
and whoever searches meanwhile uses what is there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tantivy

from catalog import snapshot
from catalog.disk import flush
from catalog.document import INDEX_VERSION, document, schema
from catalog.locks import lock_file
from catalog.record import SCHEMA_VERSION, decode

if TYPE_CHECKING:
    from catalog.overlay import Overlay

log = logging.getLogger(__name__)

_COMPLETE = "complete.json"
_USED = "used"  # its date says when the index was last opened
_HEAP_BYTES = 100_000_000
# An update is part of a search: it does with less memory, of which replaced records take most.
_UPDATE_BYTES = 30_000_000
_UPDATED = 20_000
_DAY_S = 24 * 3600
_WEEK_S = 7 * _DAY_S
_CHECKED_BYTES = 8 << 20  # a larger file is checked by its length alone


def open_index(
    cache_dir: Path, records: Path = snapshot.SHIPPED, overlay: Path | None = None
) -> tantivy.Index:
    """The index of a snapshot and of one's own records, brought up to date where it is not.

    While another process does that, it is as it was before. Where ``cache_dir`` cannot be written
    it is as it was before too, or built in memory, with a warning.

    Raises:
        IntegrityError: the snapshot or the overlay is damaged.
        StorageError: the overlay cannot be read.
    """
    base = cache_dir / f"index-{snapshot.digest(records)[:16]}-{_version()}"
    own = _own(overlay)
    place = base if own is None else _place(base, own)
    found = _open(place)
    if found is not None:
        return found
    older = None if own is None else _source(base, place)
    try:
        with _lock(base, wait=older is None) as locked:
            if locked or older is None:
                return _open(place, again=True) or _build(base, place, records, own)
    except OSError as error:
        if older is not None:
            log.warning("the search does not have your latest records: %s", error)
        else:
            log.warning(
                "the search index cannot be kept in %s (%s): built in memory", cache_dir, error
            )
    if older is not None:
        try:
            return _open(place, again=True) or _opened(older)
        except ValueError:  # another process has put a newer one in its place
            return open_index(cache_dir, records, overlay)
    index = tantivy.Index(schema(), sort_by_field="uid")
    _fill(index, records)
    if own is not None:
        _bring(index, own, 0, records)
    return index


def _version() -> str:
    engine = tantivy.__version__  # type: ignore[attr-defined]  # `tantivy v0.27.0, index_format v7`
    return f"{SCHEMA_VERSION}.{INDEX_VERSION}" + re.sub(r"[^0-9.]+", "-", engine)


def _own(path: Path | None) -> Overlay | None:
    """One's own records; None where nothing was ever put."""
    if path is None or not path.exists():
        return None
    from catalog.overlay import Overlay

    own = Overlay.open(path)
    return own if own.version else None


def _place(base: Path, own: Overlay) -> Path:
    """Where the index is that has these records up to their version; of one file, not another."""
    return base.with_name(f"{base.name}-own-{own.id}-{own.version:012}")


def _source(base: Path, place: Path) -> Path | None:
    """The newest whole index that `place` can be made from."""
    older = sorted(base.parent.glob(f"{place.name.rpartition('-')[0]}-*"), reverse=True)
    for other in [*(other for other in older if other.name < place.name), base]:
        if _open(other) is not None:
            return other
    return None


@contextlib.contextmanager
def _lock(base: Path, *, wait: bool) -> Iterator[bool]:
    """Whether we may write beside ``base``; without ``wait``, False where another process does."""
    from filelock import Timeout

    base.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_file(base.parent / f".{base.name}.lock", timeout_s=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _open(place: Path, *, again: bool = False) -> tantivy.Index | None:
    """The index at ``place`` if every file is there as it was written; ``again``: said already."""
    try:
        listed = json.loads((place / _COMPLETE).read_bytes())
        changed = [name for name, mark in listed["files"].items() if _mark(place / name) != mark]
        if not changed:
            return _opened(place)
        error: Exception = ValueError(f"changed: {', '.join(changed)}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, LookupError, TypeError) as failure:
        error = failure
    if not again:
        log.warning("the search index at %s is not whole (%s): built again", place, error)
    return None


def _opened(place: Path) -> tantivy.Index:
    index = tantivy.Index.open(str(place))
    with contextlib.suppress(OSError):
        if time.time() - _last_used(place) > _DAY_S:
            (place / _USED).touch()
    return index


def _last_used(place: Path) -> float:
    for file in (place / _USED, place / _COMPLETE):
        with contextlib.suppress(FileNotFoundError):
            return file.stat().st_mtime
    return place.stat().st_mtime


def _mark(file: Path) -> list[int]:
    """What a file is checked by: its length and, if it is not large, its CRC-32."""
    size = file.stat().st_size
    return [size, zlib.crc32(file.read_bytes()) if size <= _CHECKED_BYTES else 0]


def _build(base: Path, place: Path, records: Path, own: Overlay | None) -> tantivy.Index:
    """The index at ``place``, made from what is there; we hold the lock."""
    import tempfile

    started = time.monotonic()
    source = None
    if own is not None:
        source = _source(base, place)
        if source is None:
            _build(base, base, records, None)
            source = base
    _sweep(base)
    work = Path(tempfile.mkdtemp(prefix=f".building-{base.name}-", dir=base.parent))
    try:
        if own is None:
            with _written():
                empty = tantivy.Index(schema(), path=str(work), sort_by_field="uid")
            _fill(empty, records)
        elif source is not None:
            _link(source, work)
            since = 0 if source == base else int(source.name.rpartition("-")[2])
            _bring(tantivy.Index.open(str(work)), own, since, records)
        _complete(work, source)
        if place.exists():  # one that was not whole
            shutil.rmtree(place)
        work.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for other in base.parent.glob(f"{base.name}-own-*"):
        if place not in (base, other):
            shutil.rmtree(other, ignore_errors=True)
    log.info("search index brought up to date in %.2f s", time.monotonic() - started)
    return tantivy.Index.open(str(place))


@contextlib.contextmanager
def _written() -> Iterator[None]:
    """Where tantivy cannot write it says so by a `ValueError`, and by no other: an `OSError`."""
    try:
        yield
    except ValueError as error:
        raise OSError(str(error).partition("..")[0]) from error


@contextlib.contextmanager
def _writer(index: tantivy.Index, heap_bytes: int) -> Iterator[tantivy.IndexWriter]:
    """Writes to an index; all of it is there after the block.

    Raises:
        OSError: it cannot be written.
    """
    with _written():
        writer = index.writer(heap_bytes, 1)
        yield writer
        writer.commit()
        writer.wait_merging_threads()
    index.reload()


def _fill(index: tantivy.Index, records: Path) -> None:
    with _writer(index, _HEAP_BYTES) as writer:
        for record in snapshot.read(records):
            writer.add_document(document(record))


def _bring(index: tantivy.Index, own: Overlay, since: int, records: Path) -> None:
    """Replace in the index what changed in one's own records after a version."""
    before = index.searcher()
    removed = set()
    with _writer(index, _UPDATE_BYTES) as writer:
        for number, (uid, record) in enumerate(own.changes(since), 1):
            if before.doc_freq("uid", uid):
                writer.delete_documents_by_term("uid", uid)
            if record is None:
                removed.add(uid)
            else:
                writer.add_document(document(decode(record)))
            if number % _UPDATED == 0:
                writer.commit()
        if removed:  # what ships under these uids is shown again
            for shipped in snapshot.read(records):
                if shipped.uid in removed:
                    writer.add_document(document(shipped))


def _link(source: Path, work: Path) -> None:
    """The files of an index once more, without their bytes where the file system can."""
    for file in source.iterdir():
        if file.name not in {_COMPLETE, _USED} and not file.name.endswith(".lock"):
            try:
                os.link(file, work / file.name)
            except OSError:
                shutil.copyfile(file, work / file.name)


def _complete(work: Path, source: Path | None) -> None:
    """Bring a new index to the disk, and write by what it can be seen to be whole."""
    known = json.loads((source / _COMPLETE).read_bytes())["files"] if source else {}
    marks = {}
    for file in sorted(work.iterdir()):
        if not file.name.startswith("."):
            same = source and file.name in known and file.samefile(source / file.name)
            marks[file.name] = known[file.name] if same else _mark(file)
    (work / _COMPLETE).write_text(json.dumps({"files": marks}), encoding="utf-8")
    (work / _USED).touch()
    for path in (*work.iterdir(), work):
        flush(path)


def _sweep(base: Path) -> None:
    """Remove what killed builds left, and indexes of other snapshots unused for a week."""
    for left in base.parent.glob(f".building-{base.name}-*"):  # we hold its lock
        shutil.rmtree(left, ignore_errors=True)
    for other in base.parent.glob("index-*"):
        with contextlib.suppress(OSError):
            if not other.name.startswith(base.name) and time.time() - _last_used(other) > _WEEK_S:
                shutil.rmtree(other, ignore_errors=True)
