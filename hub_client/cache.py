"""What a store holds: each blob, folder and leftover with its size, and how one is removed.

A file goes by one unlink. A folder is renamed aside first and emptied then, so that after a kill
it is whole or gone; what is left aside is swept by whoever removes something next.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from catalog.disk import writing
from catalog.record import Artifact
from hub_client.store import Store
from hub_client.usage import exclusive, is_free, running

Kind = Literal["model", "blob", "features", "index", "hf", "hub", "partial", "leftover"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DAY_S = 24 * 3600.0
_TRASH = ".trash-"
_WORK = ".tlhub-new"  # `converters.folder` fills a folder under this name


@dataclass(frozen=True)
class Item:
    """One thing that can be listed, and removed whole."""

    kind: Kind
    name: str
    path: Path
    size_bytes: int  # links count as themselves
    used_at: float  # of its last use as far as we stamp it; seconds since the epoch


def blobs(store: Store) -> Iterator[Item]:
    """The blobs, by their hashes."""
    for path in sorted((store.home / "blobs" / "sha256").glob("??/*")):
        if _SHA256.fullmatch(path.name):
            yield from _item("blob", f"sha256:{path.name}", path)


def folders(kind: Kind, root: Path) -> Iterator[Item]:
    """The folders in ``root``, by their names; hidden ones are at work or left over."""
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.is_dir() and not path.name.startswith("."):
            yield from _item(kind, path.name, path)


def leftovers(store: Store, roots: Iterable[Path], idle_s: float = _DAY_S) -> Iterator[Item]:
    """What nobody works on any more: partials idle for so long, folders half made or half removed.

    A partial is resumed by the next pull of its file, so a young one is none.
    """
    idle_since = time.time() - idle_s
    for path in sorted(store.tmp.iterdir()) if store.tmp.is_dir() else []:
        lock = store.home / "locks" / f"{path.name.partition('.part')[0]}.lock"
        for item in _item("partial", path.name, path):
            if item.used_at <= idle_since and (not lock.exists() or is_free(lock)):
                yield item
    yield from unfinished(roots, idle_s)


def unfinished(roots: Iterable[Path], idle_s: float = _DAY_S) -> Iterator[Item]:
    """The folders in ``roots`` that killed processes left half made or half removed."""
    idle_since = time.time() - idle_s
    for root in roots:
        for path in sorted(root.iterdir()) if root.is_dir() else []:
            name = path.name
            if not name.startswith(".") or not path.is_dir():
                continue
            lock = path.with_name(name.removesuffix(_WORK) + ".tlhub-lock")
            dead = name.endswith(_WORK) and (not lock.exists() or is_free(lock))
            for item in _item("leftover", name, path):
                building = name.startswith(".building-") and item.used_at <= idle_since
                if _TRASH in name or dead or building:
                    yield item


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; a link counts as itself."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                total += (Path(folder) / name).lstat().st_size
    return total


def remove(store: Store, item: Item, *, force: bool = False) -> bool:
    """Remove ``item``; False where it was used since it was listed, or a running process needs it.

    ``force`` removes it all the same. After a kill it is whole or gone.
    """
    with writing(item.path), exclusive(store.home):
        try:
            stamp = item.path.lstat().st_mtime
        except FileNotFoundError:
            return True
        needed = any(process.since <= stamp for process in running(store.home))
        if not force and (stamp > item.used_at or needed):
            return False
        aside = _unlink_or_rename(item.path)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)  # another process may sweep it already
    return True


def hashes(store: Store, artifact: Artifact) -> set[str]:
    """The hashes of the blobs that are this artifact, by all that is known of it."""
    urls = artifact.urls or (None,)
    return {sha256 for url in urls for sha256 in store._candidates(artifact, url)}


def forget_refs(store: Store) -> int:
    """Remove the notes on blobs that are gone; how many."""
    gone = 0
    with writing(store.home), exclusive(store.home):
        for ref in (store.home / "refs").glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                if not store.blob(ref.read_text(encoding="ascii", errors="replace")).is_file():
                    ref.unlink()
                    gone += 1
    return gone


def _item(kind: Kind, name: str, path: Path) -> Iterator[Item]:
    with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
        yield Item(kind, name, path, size_of(path), path.lstat().st_mtime)


def _unlink_or_rename(path: Path) -> Path | None:
    """Take it out of its place in one step; what is left to be emptied."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return None
    aside = path.with_name(f".{path.name.lstrip('.')}{_TRASH}{os.urandom(4).hex()}")
    path.rename(aside)
    return aside
