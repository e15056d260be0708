"""The tantivy index over a snapshot: derived, in the user's cache, always possible to rebuild.

It is built in a temporary folder and renamed into place under a lock, so that a killed build
leaves nothing a reader would open and two processes build it once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tantivy

from catalog import snapshot
from catalog.disk import flush
from catalog.families import WELL_KNOWN
from catalog.query import Metrics
from catalog.record import SCHEMA_VERSION, ModelRecord, encode
from catalog.synonyms import CALLED
from catalog.tasks import TASKS
from catalog.words import compact, tokens, words

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

# Raise it when the fields below or what goes into them change.
INDEX_VERSION = 2
FACETS = ("task", "framework", "source", "license")
_COMPLETE = "complete.json"
_HEAP_BYTES = 50_000_000
_WEEK_S = 7 * 24 * 3600
_LEAST = frozenset(["test", "quantized"])  # tags of weights that few mean
_PIECES = ("-decoder", "-encoder")
_SHORT = 5  # words in the name of weights that are no variant of others
_CHECKED_BYTES = 8 << 20  # a larger file is checked by its length alone


@dataclass(frozen=True)
class Opened:
    """An index, and the metrics that its records have figures of."""

    index: tantivy.Index
    metrics: Metrics


def open_index(cache_dir: Path, records: Path = snapshot.SHIPPED) -> Opened:
    """The index of a snapshot, built now if it is not there or not whole.

    Where ``cache_dir`` cannot be written the index is built in memory, with a warning.

    Raises:
        IntegrityError: the snapshot cannot be read.
    """
    name = f"index-{snapshot.digest(records)[:16]}-{_version()}"
    place = cache_dir / name
    found = _open(place)
    if found is not None:
        return found
    try:
        with _lock(cache_dir, name):
            return _open(place) or _build(place, records)
    except OSError as error:
        log.warning("the search index cannot be kept in %s (%s): built in memory", cache_dir, error)
        metrics = _metrics(snapshot.read(records))
        return Opened(_fill(tantivy.Index(schema(metrics)), snapshot.read(records)), metrics)


def schema(metrics: Iterable[str]) -> tantivy.Schema:
    """The fields: what is searched, what is filtered, counted and sorted by, and the record."""
    fields = tantivy.SchemaBuilder()
    fields.add_text_field("uid", tokenizer_name="raw", fast=True)
    fields.add_text_field("key", tokenizer_name="raw")  # uids in lower case, other homes too
    fields.add_text_field("exact", tokenizer_name="raw")  # names without separators
    fields.add_text_field("name", tokenizer_name="whitespace")
    fields.add_text_field("text", tokenizer_name="whitespace")
    for name in (*FACETS, "kind", "modality", "dataset", "language", "commercial", "shape"):
        fields.add_text_field(name, tokenizer_name="raw", fast=True)
    for name in ("params", "size", "side", "prior"):
        fields.add_unsigned_field(name, fast=True)
    for name in sorted({"gmacs", "top1", *metrics}):
        fields.add_float_field(name, fast=True)
    fields.add_bytes_field("record", stored=True)
    return fields.build()


def _document(record: ModelRecord) -> tantivy.Document:
    document = tantivy.Document()
    name = record.uid.partition("/")[2]
    homes = (record.uid, *record.also)
    document.add_text("uid", record.uid)
    for home in homes:
        document.add_text("key", home.lower())
    for word in _exact(record):
        document.add_text("exact", word)
    # A short name says more than a long one: what follows the architecture is text.
    base = record.architecture or ""
    rest = name.removeprefix(base) if base and name.startswith(base) else ""
    document.add_text("name", " ".join(tokens(name.removesuffix(rest))))
    document.add_text("text", " ".join(_text(record, rest)))
    keywords: dict[str, Iterable[str | None]] = {
        "task": [record.task],
        "framework": [record.framework],
        "source": sorted({home.partition("/")[0] for home in homes}),
        "license": [(record.license.spdx or "").lower() if record.license else None],
        "commercial": [record.license.commercial if record.license else "unknown"],
        # What it does: the task, and what tags say beyond it or where there is none.
        "kind": [record.task, *(tag for tag in record.tags if not (record.task and tag in TASKS))],
        "modality": [record.modality],
        "language": sorted({language.lower() for language in record.languages}),
        "dataset": sorted({dataset.id for dataset in record.source_datasets}),
        "shape": ["x".join(map(str, record.input_size))] if record.input_size else [],
    }
    for field, values in keywords.items():
        for value in values:
            if value:
                document.add_text(field, value)
    counts = {
        "params": record.params,
        "size": record.size_bytes,
        "side": record.input_size[-1] if record.input_size else None,
        "prior": _prior(record),
    }
    for field, count in counts.items():
        if count is not None:
            document.add_unsigned(field, count)
    for field, figure in {"gmacs": record.gmacs, **figures(record)}.items():
        if figure is not None:
            document.add_float(field, figure)
    document.add_bytes("record", encode(record))
    return document


def figures(record: ModelRecord) -> dict[str, float]:
    """What was measured: by ``metric@dataset``, and by ``metric`` alone what is listed first.

    ``top1`` and ``top5`` alone are those on ImageNet-1k.
    """
    found: dict[str, float] = {}
    for item in record.evals:
        metric = item.metric_type.lower()
        found.setdefault(f"{metric}@{item.dataset.lower()}", item.value)
        if metric not in {"top1", "top5"} or item.dataset == "imagenet-1k":
            found.setdefault(metric, item.value)
    return found


def _metrics(records: Iterable[ModelRecord]) -> dict[str, bool]:
    """The names of all figures, those of most records first -> whether more is better."""
    counts: Counter[str] = Counter()
    better: dict[str, bool] = {}
    for record in records:
        counts.update(figures(record))
        for item in record.evals:
            metric = item.metric_type.lower()
            better[metric] = item.higher_is_better
    return {name: better[name.partition("@")[0]] for name, _ in counts.most_common()}


def _text(record: ModelRecord, rest: str) -> Iterator[str]:
    said = (
        *(rest, record.description, record.task, record.modality, record.framework),
        *(record.family, record.architecture, record.label_set, record.hf_hub_id),
        *(*record.tags, *record.also, *record.languages),
        *(dataset.id for dataset in record.source_datasets),
    )
    for part in said:
        yield from tokens(part or "")


def vocabulary(record: ModelRecord) -> set[str]:
    """Every word under which a record can be found."""
    return {*tokens(record.uid), *_text(record, ""), *_exact(record)}


def _exact(record: ModelRecord) -> list[str]:
    name = record.uid.partition("/")[2]
    names = (record.architecture, record.family, name, record.uid, *CALLED.get(record.uid, ()))
    return sorted({compact(said) for said in names if said})


def _prior(record: ModelRecord) -> int:
    """How well known the weights are: the score is multiplied by ``log2(2 + prior)``."""
    if _LEAST & set(record.tags) or record.uid.endswith(_PIECES):
        return 0
    named = record.architecture in WELL_KNOWN
    default = "default" in record.tags or record.uid in CALLED
    short = len(words(record.uid.partition("/")[2])) <= _SHORT
    return 4 * default * (1 + 2 * named) + (record.top1 is not None) + bool(record.also) + short


def _version() -> str:
    engine = tantivy.__version__  # type: ignore[attr-defined]  # `tantivy v0.27.0, index_format v7`
    return f"{SCHEMA_VERSION}.{INDEX_VERSION}" + re.sub(r"[^0-9.]+", "-", engine)


def _lock(cache_dir: Path, name: str) -> BaseFileLock:
    from filelock import FileLock

    cache_dir.mkdir(parents=True, exist_ok=True)
    return FileLock(cache_dir / f".{name}.lock")


def _open(place: Path) -> Opened | None:
    """The index at ``place`` if every file is there as it was written."""
    try:
        listed = json.loads((place / _COMPLETE).read_bytes())
        changed = [name for name, mark in listed["files"].items() if _mark(place / name) != mark]
        if not changed:
            return Opened(tantivy.Index.open(str(place)), dict(listed["metrics"]))
        error: Exception = ValueError(f"changed: {', '.join(changed)}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, LookupError, TypeError) as failure:
        error = failure
    log.warning("the search index at %s is not whole (%s): built again", place, error)
    return None


def _mark(file: Path) -> list[int]:
    """What a file is checked by: its length and, if it is not large, its CRC-32."""
    size = file.stat().st_size
    return [size, zlib.crc32(file.read_bytes()) if size <= _CHECKED_BYTES else 0]


def _build(place: Path, records: Path) -> Opened:
    started = time.monotonic()
    _sweep(place)
    work = Path(tempfile.mkdtemp(prefix=f".building-{place.name}-", dir=place.parent))
    try:
        metrics = _metrics(snapshot.read(records))
        _fill(tantivy.Index(schema(metrics), path=str(work)), snapshot.read(records))
        files = [file for file in work.iterdir() if not file.name.startswith(".")]
        marks = {file.name: _mark(file) for file in sorted(files)}
        listed = json.dumps({"files": marks, "metrics": metrics})
        (work / _COMPLETE).write_text(listed, encoding="utf-8")
        for path in (*work.iterdir(), work):
            flush(path)
        shutil.rmtree(place, ignore_errors=True)  # one that was not whole
        work.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    log.info("search index built in %.2f s", time.monotonic() - started)
    return Opened(tantivy.Index.open(str(place)), metrics)


def _fill(index: tantivy.Index, records: Iterator[ModelRecord]) -> tantivy.Index:
    # One thread and one segment: documents stay in the order of their uids, which breaks ties.
    writer = index.writer(_HEAP_BYTES, 1)
    for record in records:
        writer.add_document(_document(record))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    return index


def _sweep(place: Path) -> None:
    """Remove what killed builds left, and indexes of other versions unused for a week."""
    for left in place.parent.glob(f".building-{place.name}-*"):  # we hold its lock
        shutil.rmtree(left, ignore_errors=True)
    for other in place.parent.glob("index-*"):
        with contextlib.suppress(OSError):
            if other != place and time.time() - (other / _COMPLETE).stat().st_atime > _WEEK_S:
                shutil.rmtree(other, ignore_errors=True)


def stored(searcher: tantivy.Searcher, address: Any) -> bytes:
    """The JSON of the record at an address of the index."""
    data: bytes = searcher.doc(address)["record"][0]
    return data
