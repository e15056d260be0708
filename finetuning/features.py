"""Features of images or texts, computed once: several vectors in one pass, kept by content.

A cached vector is found by the key of what made it and the SHA-256 of the content, whatever the
file is called and wherever it lies. Vectors are kept in shards of a few hundred, each written under
a temporary name and renamed when whole, so that what a killed run had computed is there for the
next one. What is missing goes through the network once, for all vectors that are missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalog.disk import replacing, writing
from catalog.errors import DataError, NotFoundError, StorageError, TlhubError
from finetuning.data.dataset import Example, Skipped
from finetuning.estimate import Estimate
from finetuning.ranks import ALONE, Ranks

_log = logging.getLogger(__name__)

Content = NDArray[np.uint8] | str  # an image (H, W, 3), or a text
Rows = NDArray[np.float32]
# Of contents and the names of vectors: each of them float32 (N, D), by its name.
Extract = Callable[[Sequence[Content], Sequence[str]], Mapping[str, Rows]]

_SHARD = 256  # examples; so many are computed again after a kill, at most
_AHEAD = 2  # chunks that wait for each worker
_SAID = 64  # examples between two lines of progress


@dataclass(frozen=True)
class Extractor:
    """A way from contents to one or several vectors each, opened when first needed."""

    # By the name of each vector, in hex: the same key gives the same vector of the same content.
    # Weights, preprocessing, layer, and the library and device that compute are all in it.
    keys: Mapping[str, str]
    open: Callable[[], Extract]
    batch: int = 1  # contents in one call
    workers: int = 1  # calls at the same time


@dataclass
class Features:
    """Vectors of examples by extractor and name, and what it took to get them."""

    arrays: dict[tuple[str, str], dict[str, Rows]]  # sha256 of the content -> (D,)
    unreadable: list[Skipped] = field(default_factory=list)
    extracted: dict[str, int] = field(default_factory=dict)  # extractor -> examples computed

    def of(self, name: str, vector: str, examples: Sequence[Example]) -> Rows:
        """The vectors float32 (N, D) of examples that could be read.

        Raises:
            DataError: one could not.
        """
        rows = self.arrays[name, vector]
        for example in examples:
            if example.sha256 not in rows:
                raise DataError(
                    f"{example.name} could be read at first and then no longer",
                    hint="leave the data folder as it is while this runs",
                )
        return np.stack([rows[example.sha256] for example in examples])

    def add(self, other: Features) -> None:
        """Take in what was found for other examples or by other extractors."""
        for key, rows in other.arrays.items():
            self.arrays[key] = {**self.arrays.get(key, {}), **rows}
        known = {item.name for item in self.unreadable}
        self.unreadable += [item for item in other.unreadable if item.name not in known]
        for name, count in other.extracted.items():
            self.extracted[name] = self.extracted.get(name, 0) + count


def key_of(*parts: str) -> str:
    """A key that is determined by these parts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def extract(
    examples: Sequence[Example],
    extractors: Mapping[str, Extractor],
    cache: Path,
    progress: Callable[[str], None],
    ranks: Ranks = ALONE,
) -> Features:
    """The vectors of every example by every extractor; an image is decoded once, if at all.

    Each of ``ranks`` computes a share and writes shards of its own into the cache, which all read.

    Raises:
        StorageError: the cache cannot be written, or is not one for all of ``ranks``.
    """
    shas = {example.sha256 for example in examples}
    stores = {
        (name, vector): _Store(cache / key, shas)
        for name, item in extractors.items()
        for vector, key in item.keys.items()
    }
    features = Features({key: store.known for key, store in stores.items()})
    features.extracted = dict.fromkeys(extractors, 0)
    failed: dict[str, str] = {}
    with writing(cache):
        work = _Work(extractors, stores, ranks.local)
        todo = {e.sha256: e for e in examples if work.missing(e.sha256) and _is_own(e, ranks)}
        estimate = Estimate(len(todo), cache)
        for done, chunk in enumerate(work.run(list(todo.values())), 1):
            failed |= chunk.failed
            said = estimate.of(min(done * work.batch, len(todo)), chunk.bytes_each, ranks.world)
            if said is not None:
                progress(said)
            for name, vector, these, rows in chunk.found:
                for sha, row in zip(these, rows, strict=True):
                    stores[name, vector].add(sha, row)
            for name, count in chunk.computed.items():
                features.extracted[name] += count
            if done * work.batch % _SAID < work.batch or done * work.batch >= len(todo):
                progress(f"features of {min(done * work.batch, len(todo))} of {len(todo)}")
        for store in stores.values():
            store.flush()
    if ranks.world > 1:
        failed = _put_together(features, stores, failed, ranks)
    features.unreadable += [
        Skipped(example.name, failed[example.sha256])
        for example in examples
        if example.sha256 in failed
    ]
    return features


def _is_own(example: Example, ranks: Ranks) -> bool:
    """Whether this process computes it: by its content, as what others did by now is in flux."""
    return int(example.sha256[:8], 16) % ranks.world == ranks.rank


def _put_together(
    features: Features,
    stores: Mapping[tuple[str, str], _Store],
    failed: Mapping[str, str],
    ranks: Ranks,
) -> dict[str, str]:
    """Read what the other processes computed; why contents could not be read."""
    every: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for reasons, computed in ranks.collected((dict(failed), features.extracted)):
        every |= reasons
        counts.update(computed)
    features.extracted = {name: counts[name] for name in features.extracted}
    for store in stores.values():
        store.read()
        lacking = store.wanted - store.known.keys() - every.keys()
        if lacking:
            raise StorageError(
                f"features of {len(lacking)} examples are not in {store.folder}, which another "
                "process has computed",
                hint="put TLHUB_HOME on a disk that all nodes have",
            )
    return every


@dataclass
class _Chunk:
    """What came out of a few examples: extractor, vector, of which contents, the rows."""

    found: list[tuple[str, str, list[str], Rows]] = field(default_factory=list)
    computed: Counter[str] = field(default_factory=Counter)  # contents by extractor
    failed: dict[str, str] = field(default_factory=dict)  # sha256 -> reason

    @property
    def bytes_each(self) -> int:
        """Of the vectors of one example, whatever made them."""
        return sum(rows[0].nbytes for _, _, _, rows in self.found if len(rows))


class _Work:
    """Runs extractors on what they lack, a few examples at a time, on several threads."""

    def __init__(
        self,
        extractors: Mapping[str, Extractor],
        stores: Mapping[tuple[str, str], _Store],
        processes: int,
    ) -> None:
        self.batch = max(item.batch for item in extractors.values())
        self._workers = max(1, min(item.workers for item in extractors.values()) // processes)
        self._extractors = extractors
        self._stores = stores
        self._opened: dict[str, Extract] = {}

    def missing(self, sha: str) -> dict[str, list[str]]:
        """Of each extractor the vectors that the cache has not, where there are any."""
        found: dict[str, list[str]] = {}
        for (name, vector), store in self._stores.items():
            if sha not in store.known:
                found.setdefault(name, []).append(vector)
        return found

    def run(self, examples: Sequence[Example]) -> Iterator[_Chunk]:
        """What comes out of these examples."""
        parts = _parts(examples, self.batch)
        for name in {name for example in examples for name in self.missing(example.sha256)}:
            self._opened[name] = self._extractors[name].open()
        with ThreadPoolExecutor(self._workers) as pool:
            left = iter(parts)
            waiting: list[Future[_Chunk]] = []
            try:
                for part in islice(left, _AHEAD * self._workers):
                    waiting.append(pool.submit(self._chunk, part))  # noqa: PERF401 - cancelled below
                while waiting:
                    yield waiting.pop(0).result()
                    waiting += [pool.submit(self._chunk, part) for part in islice(left, 1)]
            finally:
                for future in waiting:
                    future.cancel()

    def _chunk(self, examples: Sequence[Example]) -> _Chunk:
        chunk = _Chunk()
        contents: dict[str, Content] = {}
        for example in examples:
            try:
                contents[example.sha256] = _content(example)
            except (DataError, NotFoundError) as error:
                chunk.failed[example.sha256] = _reason(error, example)
        todo: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for sha in contents:
            for name, vectors in self.missing(sha).items():
                todo.setdefault((name, tuple(vectors)), []).append(sha)
        for (name, lacking), shas in todo.items():
            found = self._opened[name]([contents[sha] for sha in shas], lacking)
            chunk.found += [(name, vector, shas, found[vector]) for vector in lacking]
            chunk.computed[name] += len(shas)
        return chunk


def _parts(examples: Sequence[Example], size: int) -> list[Sequence[Example]]:
    """Images as they come; together texts of about one length, as shorter ones are padded.

    The first texts tell how long all take, so that parts are in no order.
    """
    ordered = sorted(examples, key=lambda example: example.length)
    parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return sorted(parts, key=lambda part: part[0].sha256 if part[0].length else "")


class _Store:
    """The cached vectors of one kind: what is known of the contents asked for, what is new."""

    def __init__(self, folder: Path, wanted: AbstractSet[str]) -> None:
        self.folder, self.wanted = folder, wanted
        self.known: dict[str, Rows] = {}
        self._new: list[str] = []
        self._seen: set[Path] = set()
        self.read()

    def read(self) -> None:
        """Take in what is there, other processes' shards too."""
        folder = self.folder
        with contextlib.suppress(OSError):  # not there yet, or ours to read only
            os.utime(folder)  # its last use, by which it is pruned
        for shard in sorted(set(folder.glob("*.npz")) - self._seen):
            self._seen.add(shard)
            try:
                with shard.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                    keys, values = arrays["keys"], arrays["features"]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                _log.warning("computing again what %s held: %s", shard, error)
                shard.unlink(missing_ok=True)
            else:
                pairs = zip(keys.tolist(), values, strict=True)
                self.known |= {key: value for key, value in pairs if key in self.wanted}

    def add(self, key: str, value: Rows) -> None:
        if key in self.known:
            return
        self.known[key] = value
        self._new.append(key)
        if len(self._new) == _SHARD:
            self.flush()

    def flush(self) -> None:
        if not self._new:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = key_of(*self._new)[:32]
        values = np.stack([self.known[key] for key in self._new])
        with replacing(self.folder / f"{name}.npz") as stream:
            np.savez(stream, allow_pickle=False, keys=np.array(self._new), features=values)
        self._new.clear()


def _content(example: Example) -> Content:
    return example.text if isinstance(example.content, str) else example.image()


def _reason(error: TlhubError, example: Example) -> str:
    """Why, without the name, which is said already."""
    return error.message.removeprefix(f"{example.name} ").removeprefix(f"{example.content} ")
