"""Hashing again all that is kept, and fetching or making again what is damaged."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from catalog.errors import ConversionError, IntegrityError, NotFoundError, TlhubError
from catalog.record import Artifact, Digest
from converters.folder import MANIFEST, PRECISIONS, file_of
from hub_client.cache import hashes, remove
from hub_client.digests import Hasher
from hub_client.fetch import fetch
from hub_client.sources.hf import fault
from hub_client.sources.hf_cache import RepoCache
from hub_client.sources.hf_errors import repo_files
from hub_client.store import Store
from tlhub import keeping, locking, pulling
from tlhub.keeping import Kept
from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings

_Outcome = Literal["damaged", "repaired", "removed"]
_CHUNK_BYTES = 1 << 20
_THREADS = 4  # more than a disk gives
_TICK_S = 0.2


@dataclass(frozen=True)
class Fault:
    """One thing that was not what it should be, and what became of it."""

    kept: Kept
    said: str  # what is wrong with it, and why it could not be mended
    outcome: _Outcome


@dataclass(frozen=True)
class Checked:
    """What was hashed, and what was wrong."""

    files: int
    size_bytes: int
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        """Whether all is now what it should be."""
        return all(fault.outcome != "damaged" for fault in self.faults)


_Check = Callable[[Callable[[int], None]], str]
"""Says what is wrong, or nothing, and counts the bytes that it reads."""


@dataclass(frozen=True)
class _Task:
    """One file of something kept."""

    kept: Kept
    path: Path
    check: _Check
    artifact: Artifact | None = None  # that it is to be, where that is known


def verify(
    settings: Settings,
    *,
    repair: bool = True,
    progress: Progress = silent,
) -> Checked:
    """Every byte that is kept, hashed; what is damaged is fetched or made again in its place.

    Blobs against their names, model folders against their manifests, files in caches
    of hubs that models here were made of against the record, shards of features against their own
    checksums. The search index checks itself when it is opened. With ``repair`` off, or offline,
    nothing is changed. A damaged file that nothing here is from is removed.

    Raises:
        UsageError: a lock file cannot be read.
    """
    store, kept = settings.store, keeping.inventory(settings)
    tasks = [task for one in kept for task in _tasks(one, store, kept)]
    wrong: dict[Path, list[tuple[_Task, str]]] = {}
    for task, said in _run(tasks, progress):
        wrong.setdefault(task.kept.item.path, []).append((task, said))
    faults = []
    # Models are made of the others.
    order = {"blob": 0, "hf": 1, "hub": 1, "model": 2, "features": 3}
    for found in sorted(wrong.values(), key=lambda f: order.get(f[0][0].kept.item.kind, 9)):
        one, said = found[0][0].kept, "; ".join(said for _, said in found)
        if not repair or settings.offline:
            faults.append(Fault(one, said, "damaged"))
            continue
        progress(Event(f"mending {one.uid or one.item.name}"))
        try:
            variants = _variants(one.item.path)
            outcome = _mend(one, [task for task, _ in found], kept, settings, progress)
            lost = ",".join(sorted(variants - _variants(one.item.path)))
            if lost:
                how = f"`tlhub convert {one.item.path} --precision {lost}`"
                said = f"{said}; it came back without {lost}, which {how} makes"
            faults.append(Fault(one, said, outcome))
        except TlhubError as error:
            faults.append(Fault(one, f"{said}; {error.message}", "damaged"))
    size = sum(task.path.stat().st_size for task in tasks if task.path.is_file())
    return Checked(len(tasks), size, tuple(faults))


def _tasks(one: Kept, store: Store, kept: Iterable[Kept]) -> Iterator[_Task]:
    path = one.item.path
    if one.item.kind == "blob":
        yield _Task(one, path, _hash_check(path, path.name))
    elif one.item.kind == "features":
        for shard in sorted(path.glob("*.npz")):
            yield _Task(one, shard, _zip_check(shard))
    elif one.item.kind in keeping.HUBS:
        yield from _hub_tasks(one, kept)
    elif one.item.kind == "model":
        yield from _folder_tasks(one, store)


def _folder_tasks(one: Kept, store: Store) -> Iterator[_Task]:
    path = one.item.path
    manifest = keeping.manifest_of(path)
    if manifest is None:
        yield _Task(one, path / MANIFEST, lambda _: f"its {MANIFEST} cannot be read")
        return
    for name, entry in manifest.files.items():
        file = path / name
        if file.exists() and file.resolve() == store.blob(entry.sha256).resolve():
            continue  # a link to a blob, which is hashed as one
        yield _Task(one, file, _hash_check(file, entry.sha256))


def _hub_tasks(one: Kept, kept: Iterable[Kept]) -> Iterator[_Task]:
    """Files of a hub's repository that models here were made of, as far as they are there."""
    cache, seen = RepoCache(one.item.path.parent, keeping.repo_of(one.item.path)), set()
    for artifact in _artifacts(one, kept):
        for file in repo_files(artifact.urls):
            pointer = cache.pointer(file.revision, file.path)
            if file.repo == cache.repo and pointer.exists() and pointer not in seen:
                seen.add(pointer)
                yield _Task(one, pointer, _hub_check(pointer, artifact), artifact)


def _artifacts(one: Kept, kept: Iterable[Kept]) -> Iterator[Artifact]:
    """What the models are made of that need ``one``."""
    for model in kept:
        if model.item.kind == "model" and model.uid in one.models:
            manifest = keeping.manifest_of(model.item.path)
            yield from manifest.record.artifacts if manifest is not None else ()


def _hash_check(path: Path, sha256: str) -> _Check:
    def check(count: Callable[[int], None]) -> str:
        hasher = Hasher(Digest(algorithm="sha256", value=sha256))
        try:
            with path.open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    hasher.update(chunk)
                    count(len(chunk))
        except FileNotFoundError:
            return f"{path.name} is missing"
        except OSError as error:
            return f"{path.name} cannot be read: {error.strerror or error}"
        return "" if hasher.matches else f"{path.name}: {hasher.mismatch()}"

    return check


def _hub_check(pointer: Path, artifact: Artifact) -> _Check:
    def check(_: Callable[[int], None]) -> str:
        wrong = fault(pointer, artifact)
        return f"{artifact.path}: {wrong}" if wrong else ""

    return check


def _zip_check(path: Path) -> _Check:
    def check(_: Callable[[int], None]) -> str:
        try:
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
        except (OSError, zipfile.BadZipFile, EOFError, ValueError) as error:
            return f"{path.name}: {error}"
        return "" if bad is None else f"{path.name}: {bad} is damaged"

    return check


def _run(tasks: list[_Task], progress: Progress) -> list[tuple[_Task, str]]:
    """The tasks that found something wrong, and what; several files at a time."""
    total = sum(task.path.stat().st_size for task in tasks if task.path.is_file())
    counting, done = threading.Lock(), 0

    def count(size: int) -> None:
        nonlocal done
        with counting:
            done += size

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(task.check, count) for task in tasks]
        try:
            while wait(futures, timeout=_TICK_S).not_done:
                progress(Event("hashing", done, total))
        except BaseException:  # Ctrl-C: what has not begun is not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    said = [future.result() for future in futures]
    return [(task, what) for task, what in zip(tasks, said, strict=True) if what]


def _mend(
    one: Kept,
    tasks: list[_Task],
    kept: list[Kept],
    settings: Settings,
    progress: Progress,
) -> _Outcome:
    """Bring it back, or remove what nothing is from.

    Raises:
        TlhubError: that is not possible; it is as it was.
    """
    if one.item.kind == "blob":
        return _mend_blob(one, kept, settings, progress)
    if one.item.kind == "model":
        return _mend_folder(one, settings, progress)
    if one.item.kind in keeping.HUBS:
        for task in tasks:
            if task.artifact is not None:
                _fetch([task.artifact], settings, progress)
            if task.check(lambda _: None):  # it was found whole in another place, and taken there
                raise IntegrityError(f"{task.path} could not be replaced")
        return "repaired"
    for task in tasks:
        task.path.unlink(missing_ok=True)
    return "removed"


def _mend_blob(one: Kept, kept: list[Kept], settings: Settings, progress: Progress) -> _Outcome:
    store, sha256 = settings.store, one.item.path.name
    digest = Digest(algorithm="sha256", value=sha256)
    locked = [
        file.artifact()
        for lock in keeping.known_locks(settings).values()
        for model in lock.model
        for file in model.file
        if file.sha256 == sha256
    ]
    for artifact in (*_artifacts(one, kept), *locked):
        if artifact.urls and (sha256 in hashes(store, artifact)):
            _fetch([msgspec.structs.replace(artifact, digest=digest)], settings, progress)
            return "repaired"
    if one.models or one.locks:
        raise NotFoundError(f"nothing says where {one.item.name} is from")
    remove(store, one.item, force=True)  # it is not what its name says: of no use to anybody
    return "removed"


def _mend_folder(one: Kept, settings: Settings, progress: Progress) -> _Outcome:
    path = one.item.path
    manifest = keeping.manifest_of(path)
    if manifest is None:  # its name says what it was
        uid = path.name.rpartition("-")[0].replace("--", "/")
        plan = pulling.plan(uid, settings)
    else:
        plan = locking.as_it_is(manifest)
        if manifest.options is not None:
            how = pulling.Options(**msgspec.structs.asdict(manifest.options))
            plan = replace(plan, options=how)
    target = pulling._target(settings.store, plan, _fetch(plan.artifacts, settings, progress))
    if target != path:
        raise ConversionError("this version would not make it again as it was")
    pulling.pull(plan, settings, force=True, progress=progress)
    return "repaired"


def _variants(path: Path) -> set[str]:
    """The precisions beside fp32 that a folder has, or says that it has."""
    manifest = keeping.manifest_of(path)
    there = {precision for precision in PRECISIONS if (path / file_of(precision)).is_file()}
    return there.union(manifest.variants if manifest is not None else ())


def _fetch(
    artifacts: Iterable[Artifact], settings: Settings, progress: Progress
) -> dict[str, Path]:
    return fetch(
        [*artifacts],
        settings.store,
        mirrors=settings.mirrors,
        progress=lambda label, done, total: progress(Event(label, done, total)),
    )
