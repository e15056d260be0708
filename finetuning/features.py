"""Features of images, computed once: one array for each extractor, kept by content.

A cached feature is found by the extractor's key and the SHA-256 of the image's bytes, whatever the
file is called and wherever it lies. Features are kept in shards of a few hundred images, each
written under a temporary name and renamed when whole, so that what a killed run had computed is
there for the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalog.disk import replacing, writing
from catalog.errors import DataError, NotFoundError, TlhubError
from finetuning.data.dataset import Example, Skipped

_log = logging.getLogger(__name__)

Extract = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

_SHARD = 256  # images; so many are computed again after a kill, at most


@dataclass(frozen=True)
class Extractor:
    """A way from an image uint8 (H, W, 3) to features float32 (D,), opened when first needed."""

    # In hex; the same key gives the same features of the same pixels: weights, preprocessing, and
    # the library and device that compute are all in it.
    key: str
    open: Callable[[], Extract]


@dataclass
class Features:
    """Features of photos by extractor, and what it took to get them."""

    arrays: dict[str, dict[str, NDArray[np.float32]]]  # extractor -> sha256 of the image -> (D,)
    unreadable: list[Skipped] = field(default_factory=list)
    extracted: dict[str, int] = field(default_factory=dict)  # extractor -> images not in the cache

    def of(self, name: str, photos: Sequence[Example]) -> NDArray[np.float32]:
        """The features float32 (N, D) of photos that could be read.

        Raises:
            DataError: one could not.
        """
        for photo in photos:
            if photo.sha256 not in self.arrays[name]:
                raise DataError(
                    f"{photo.name} could be read at first and then no longer",
                    hint="leave the data folder as it is while this runs",
                )
        return np.stack([self.arrays[name][photo.sha256] for photo in photos])


def key_of(*parts: str) -> str:
    """A key for an extractor that is determined by these parts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def extract(
    photos: Sequence[Example],
    extractors: Mapping[str, Extractor],
    cache: Path,
    progress: Callable[[str], None],
) -> Features:
    """The features of every photo by every extractor; an image is decoded once, if at all.

    Raises:
        StorageError: the cache cannot be written.
    """
    stores = {name: _Store(cache / item.key) for name, item in extractors.items()}
    features = Features({name: store.known for name, store in stores.items()})
    features.extracted = dict.fromkeys(extractors, 0)
    opened: dict[str, Extract] = {}
    with writing(cache):
        for done, photo in enumerate(photos, 1):
            missing = [name for name, store in stores.items() if photo.sha256 not in store.known]
            if missing:
                try:
                    image = photo.image()
                except (DataError, NotFoundError) as error:
                    features.unreadable.append(Skipped(photo.name, _reason(error, photo)))
                    continue
                for name in missing:
                    if name not in opened:
                        opened[name] = extractors[name].open()
                    stores[name].add(photo.sha256, opened[name](image))
                    features.extracted[name] += 1
            if done % 50 == 0 or done == len(photos):
                progress(f"features of {done} of {len(photos)} images")
        for store in stores.values():
            store.flush()
    return features


class _Store:
    """The cached features of one extractor: what is known, and what is not yet written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, NDArray[np.float32]] = {}
        self._new: list[str] = []
        with contextlib.suppress(OSError):  # not there yet, or ours to read only
            os.utime(folder)  # its last use, by which it is pruned
        for shard in sorted(folder.glob("*.npz")):
            try:
                with shard.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                    keys, values = arrays["keys"], arrays["features"]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                _log.warning("computing again what %s held: %s", shard, error)
                shard.unlink(missing_ok=True)
            else:
                self.known |= dict(zip(keys.tolist(), values, strict=True))

    def add(self, key: str, value: NDArray[np.float32]) -> None:
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


def _reason(error: TlhubError, photo: Example) -> str:
    """Why, without the name, which is said already."""
    return error.message.removeprefix(f"{photo.name} ").removeprefix(f"{photo.content} ")
