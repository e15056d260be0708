"""What this machine keeps, what needs it, and removing what nothing needs."""

from __future__ import annotations

import contextlib
import difflib
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from catalog.errors import NotFoundError, UnsafeError, UsageError
from converters.folder import MANIFEST, Manifest
from hub_client import lockfile
from hub_client.cache import (
    Item,
    blobs,
    folders,
    forget_refs,
    hashes,
    leftovers,
    remove,
    size_of,
    unfinished,
)
from hub_client.lockfile import LockFile
from hub_client.mirrors import places
from hub_client.sources.hf import HuggingFaceSource
from hub_client.sources.hf_errors import repo_files
from hub_client.sources.source import Job
from hub_client.store import Store
from hub_client.usage import running
from tlhub.settings import Settings
from tlhub.user_paths import here

_MINUTE_S = 60.0
_DAY_S = 24 * 3600.0
_WEEK_S = 7 * _DAY_S
HUBS = {"hf", "hub"}  # kinds that are listed and left alone


@dataclass(frozen=True)
class Kept:
    """One thing that is here, and why it stays."""

    item: Item
    uid: str | None = None  # of the model, where it is one
    needs: frozenset[str] = frozenset()  # hashes of the blobs it was made of
    repos: frozenset[Path] = frozenset()  # caches of the hubs' repositories that it was made of
    models: tuple[str, ...] = ()  # uids of the models here that need it
    locks: tuple[Path, ...] = ()  # the lock files that name it
    used_by: tuple[int, ...] = ()  # other processes that are running and may need it


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be; ``spared`` came into use meanwhile."""

    removed: tuple[Kept, ...]
    spared: tuple[Kept, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes that this frees."""
        return sum(kept.item.size_bytes for kept in self.removed)


def paths(settings: Settings) -> dict[str, Path]:
    """Where everything is kept, by what it is."""
    from huggingface_hub.constants import HF_HUB_CACHE

    store = settings.store
    return {
        "home": settings.home,
        "blobs": settings.home / "blobs",
        "models": store.models,
        "features": settings.features,
        "index": settings.index,
        "hubs": settings.home / "hubs",
        "hf": Path(HF_HUB_CACHE),
    }


def known_locks(settings: Settings) -> dict[Path, LockFile]:
    """The lock files that this machine remembers, and the one of the current folder.

    Raises:
        UsageError: one cannot be read, so that nobody knows what it needs.
    """
    return lockfile.known(settings.home, Path.cwd() / lockfile.LOCK)


def manifest_of(folder: Path) -> Manifest | None:
    """The manifest of a folder, if it can be read; `ModelFolder.open` says what is wrong."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError, UnsafeError):
        return None


def inventory(settings: Settings) -> list[Kept]:
    """All that is here: models, blobs, features, indexes, repositories of hubs.

    Of those in the Hugging Face cache only what a model here or a lock file is from. These, and
    those of other hubs, tlhub lists and leaves alone.

    Raises:
        UsageError: a lock file cannot be read.
    """
    store, locks = settings.store, known_locks(settings)
    processes = running(settings.home)  # before we look: what one made that ends now is young
    hubs = _Hubs(settings)
    models = [_model(item, store, locks, hubs) for item in folders("model", store.models)]
    found = [*models, *_blobs(store, models, locks)]
    found += [Kept(item) for item in folders("features", settings.features)]
    found += [Kept(item) for item in folders("index", settings.index)]

    def used_by(item: Item) -> tuple[int, ...]:
        stamp = item.used_at
        if item.kind == "features":  # a run reads and writes several, and stamps them together
            stamp = max(stamp, settings.features.stat().st_mtime)
        return tuple(process.pid for process in processes if process.since <= stamp)

    found = [replace(kept, used_by=used_by(kept.item)) for kept in found]
    return [*found, *hubs.kept(models, locks)]


def prune(
    settings: Settings,
    *,
    older_than_s: float | None = None,
    keep_bytes: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove what nothing needs, and with the options what was not used for longest.

    Nothing needs: blobs of no model (but of the last minute), partials idle for a day (or for
    ``older_than_s``), what a killed process left, indexes unused for a week. ``older_than_s`` also
    removes models and features unused for so long, ``keep_bytes`` the least recently used until
    no more is kept.
    What a lock file names or a running process uses stays. A kill leaves each thing whole or gone.

    Raises:
        UsageError: a lock file cannot be read, so that nobody knows what it needs.
        StorageError: something cannot be removed.
    """
    store = settings.store
    idle_s = _DAY_S if older_than_s is None else older_than_s
    left = leftovers(store, (store.models, settings.index, settings.features), idle_s)
    chosen = [*map(Kept, left), *_chosen(_ours(settings), older_than_s, keep_bytes)]
    return Pruned(tuple(chosen)) if dry_run else _remove(store, chosen)


def rm(uids: Collection[str], settings: Settings, *, force: bool = False) -> Pruned:
    """Remove models, by uid or by their folder, and the blobs that nothing else needs.

    Raises:
        NotFoundError: one is not here; nothing was removed.
        UsageError: a lock file names one or a running process uses it, and it is not ``force``;
            nothing was removed.
    """
    store, kept = settings.store, _ours(settings)
    chosen = [model for uid in uids for model in _named(uid, kept)]
    for model in chosen:
        why = _needed(model)
        if why and not force:
            raise UsageError(
                f"{model.uid or model.item.path} is {why}; nothing was removed",
                hint="--force removes it all the same",
            )
    blobs_too = [blob for blob in _freed(chosen, kept) if not _needed(blob)]
    swept = map(Kept, unfinished((store.models,)))
    return _remove(store, [*chosen, *blobs_too, *swept], force=chosen if force else ())


def _remove(store: Store, chosen: Sequence[Kept], *, force: Sequence[Kept] = ()) -> Pruned:
    removed: list[Kept] = []
    spared: list[Kept] = []
    for kept in chosen:
        done = remove(store, kept.item, force=kept in force)
        (removed if done else spared).append(kept)
    forget_refs(store)
    return Pruned(tuple(removed), tuple(spared))


def _ours(settings: Settings) -> list[Kept]:
    return [kept for kept in inventory(settings) if kept.item.kind not in HUBS]


def _chosen(kept: Sequence[Kept], older_than_s: float | None, keep_bytes: int | None) -> list[Kept]:
    """What `prune` removes of it."""
    now = time.time()
    chosen = [one for one in kept if _garbage(one, now)]
    total = sum(one.item.size_bytes for one in kept) - sum(one.item.size_bytes for one in chosen)
    for one in sorted(kept, key=lambda one: one.item.used_at):
        if one.item.kind == "blob" or one in chosen or _needed(one):
            continue
        old = older_than_s is not None and now - one.item.used_at > older_than_s
        if not old and (keep_bytes is None or total <= keep_bytes):
            continue
        more = [blob for blob in _freed([*chosen, one], kept) if blob not in chosen]
        chosen += [one, *(blob for blob in more if not _needed(blob))]
        total = sum(o.item.size_bytes for o in kept) - sum(o.item.size_bytes for o in chosen)
    return chosen


def _garbage(kept: Kept, now: float) -> bool:
    if kept.used_by or kept.locks:
        return False
    if kept.item.kind == "blob":  # a young one: its model may have been made after we looked
        return not kept.models and now - kept.item.used_at > _MINUTE_S
    return kept.item.kind == "index" and now - kept.item.used_at > _WEEK_S


def _needed(kept: Kept) -> str:
    """By what lock file or process it is needed, in words; empty where by none."""
    if kept.locks:
        return f"named in {', '.join(map(str, kept.locks))}"
    if kept.used_by:
        return f"in use by process {', '.join(map(str, kept.used_by))}"
    return ""


def _freed(models: Iterable[Kept], kept: Iterable[Kept]) -> list[Kept]:
    """The blobs that only these models need."""
    models = list(models)
    theirs = frozenset[str]().union(*(model.needs for model in models))
    others = frozenset[str]().union(*(one.needs for one in kept if one not in models))
    return [
        one
        for one in kept
        if one.item.kind == "blob" and one.item.path.name in theirs - others and not one.locks
    ]


def _named(uid: str, kept: Iterable[Kept]) -> list[Kept]:
    models = [one for one in kept if one.item.kind == "model"]
    path = here(uid)
    folder = path.absolute() if path is not None else None
    found = [one for one in models if uid == one.uid or folder == one.item.path]
    if not found:
        near = difflib.get_close_matches(uid, [one.uid for one in models if one.uid], n=3)
        raise NotFoundError(
            f"{uid} is not here",
            hint=f"here is {', '.join(near)}" if near else "`tlhub cache list` lists what is",
        )
    return found


def _model(item: Item, store: Store, locks: Mapping[Path, LockFile], hubs: _Hubs) -> Kept:
    manifest = manifest_of(item.path)
    links = [path.readlink() for path in item.path.rglob("*") if path.is_symlink()]
    needs = frozenset(link.name for link in links)  # of originals: blobs of ours, or of a hub's
    repos = frozenset(_real(link.parent.parent) for link in links if link.parent.name == "blobs")
    if manifest is None:
        return Kept(item, needs=needs, repos=repos)
    artifacts = manifest.record.artifacts
    urls = [url for artifact in artifacts for url in artifact.urls]
    return Kept(
        item,
        manifest.uid,
        needs=needs.union(*(hashes(store, artifact) for artifact in artifacts)),
        repos=repos | hubs.folders(urls),
        locks=tuple(path for path, lock in locks.items() if lock.get(manifest.uid)),
    )


def _blobs(store: Store, models: Iterable[Kept], locks: Mapping[Path, LockFile]) -> Iterator[Kept]:
    needed: dict[str, list[str]] = {}
    for model in models:
        for sha256 in model.needs:
            needed.setdefault(sha256, []).append(model.uid or model.item.name)
    for item in blobs(store):
        sha256 = item.path.name
        named = tuple(path for path, lock in locks.items() if sha256 in lock.sha256s)
        yield Kept(item, models=tuple(sorted(set(needed.get(sha256, ())))), locks=named)


class _Hubs:
    """Where repositories of hubs are kept: other hubs' in a place of ours (decision 0031)."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.home / "hubs"
        self._mirrors = settings.mirrors
        self._source = hub_source(settings)

    def folders(self, urls: Iterable[str]) -> frozenset[Path]:
        """The folders that repositories of files are in, or may be by what is set now."""
        found: set[Path] = set()
        for url in places(urls, self._mirrors):
            with contextlib.suppress(UsageError, UnsafeError):  # somebody wrote it by hand
                found |= {_real(self._source.cache(file).folder) for file in repo_files([url])}
        return frozenset(found)

    def kept(self, models: Sequence[Kept], locks: Mapping[Path, LockFile]) -> Iterator[Kept]:
        """Each with what needs it."""
        named = {
            path: self.folders(url for m in lock.model for file in m.file for url in file.urls)
            for path, lock in locks.items()
        }
        ours = _real(self._root)
        needed = frozenset[Path]().union(*named.values(), *(model.repos for model in models))
        for folder in sorted(needed | {*ours.glob("*/models--*")}):
            if not folder.is_dir():
                continue
            by = [model for model in models if folder in model.repos]
            used_at = max([folder.stat().st_mtime, *(model.item.used_at for model in by)])
            is_other = folder.is_relative_to(ours)
            repo = repo_of(folder)
            name = f"{folder.parent.name}/{repo}" if is_other else f"hf:{repo}"
            yield Kept(
                Item("hub" if is_other else "hf", name, folder, size_of(folder), used_at),
                models=tuple(sorted({model.uid or model.item.name for model in by})),
                locks=tuple(path for path, repos in named.items() if folder in repos),
            )


def hub_source(settings: Settings) -> HuggingFaceSource:
    """What knows where the cache of a repository is."""
    return HuggingFaceSource(Job(settings.store, mirrors=settings.mirrors))


def repo_of(folder: Path) -> str:
    """The repository, owner/name, that a folder of a hub's cache is of."""
    return folder.name.removeprefix("models--").replace("--", "/", 1)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
