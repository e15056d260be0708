"""Bundles: models in one file for machines without a network, and taking them in there."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from catalog.disk import check_space, flush, writing
from catalog.errors import IntegrityError
from catalog.record import Artifact
from converters.folder import MANIFEST, Manifest, ModelFolder
from hub_client import bundle as bundles
from hub_client import lockfile
from hub_client.bundle import BundledFile, Contents, Folder, HubFile, HubRef
from hub_client.digests import hash_file
from hub_client.fetch import fetch
from hub_client.formats import kind_of
from hub_client.lockfile import LockedModel, LockFile
from hub_client.sources.hf_errors import RepoFile, repo_files
from hub_client.usage import join
from tlhub import locking, pulling
from tlhub.keeping import hub_source
from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings

if TYPE_CHECKING:
    from hub_client.sources.hf_cache import RepoCache


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written."""

    path: Path
    sha256: str
    size_bytes: int
    uids: tuple[str, ...]


def bundle(
    models: Sequence[str],
    path: Path,
    *,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> Bundle:
    """The bundle at ``path`` of these models, their original files and what was made of them.

    What is not here is pulled. The same models give the same bytes.

    Raises:
        NotFoundError: no such model.
        IntegrityError: a file is damaged and could not be mended; ``path`` is as it was.
        StorageError: no space.
    """
    settings = settings or Settings.load()
    here = locking.manifests(settings)
    folders = {}
    for model in models:
        found = locking.here_as(model, here)
        plan = locking.as_it_is(found) if found else pulling.plan(model, settings)
        folder = pulling.pull(plan, settings, progress=progress)
        folders[folder.manifest.uid] = folder
    picked = _Picked()
    locked = []
    for _, folder in sorted(folders.items()):
        plan = locking.as_it_is(folder.manifest)
        files = fetch(
            plan.artifacts,
            settings.store,
            mirrors=settings.mirrors,
            offline=settings.offline,
            progress=lambda label, done, total: progress(Event(label, done, total)),
        )
        locked.append(locking.locked(plan, files, folder.manifest))
        shas = {file.path: file.sha256 for file in locked[-1].file}
        for artifact in plan.artifacts:
            picked.original(artifact, files[artifact.path], shas[artifact.path], settings)
        picked.folder(folder)
    lock = LockFile(version=lockfile.SCHEMA_VERSION, model=tuple(locked))
    contents = picked.contents(lockfile.encode(lock).decode())
    sha256 = bundles.pack(
        path,
        contents,
        picked.sources,
        progress=lambda label, done, total: progress(Event(label, done, total)),
    )
    return Bundle(path, sha256, path.stat().st_size, tuple(sorted(folders)))


def pull_bundle(
    path: Path,
    *,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> locking.Reproduced:
    """The models of a bundle, put where a pull puts them; no network is used.

    Every byte is verified before anything is put in place.

    Raises:
        NotFoundError: there is no such file.
        IntegrityError: it is cut short or tampered with; nothing was kept.
        UnsafeError: it would write outside its place; nothing was kept.
    """
    settings = replace(settings or Settings.load(), offline=True)
    store = settings.store
    join(settings.home)
    stage = store.tmp / f"bundle-{os.urandom(8).hex()}"
    try:
        contents = bundles.unpack(
            path,
            stage,
            progress=lambda label, done, total: progress(Event(label, done, total)),
        )
        lock = lockfile.parse(contents.lock.encode(), f"the lock file in {path}")
        manifests = {folder.name: _manifest(folder, stage, path) for folder in contents.folders}
        _check(contents, lock, manifests, path)
        _put(contents, lock, manifests, stage, settings)
        plans = [locking.as_it_is(manifest) for manifest in manifests.values()]
        return locking.reproduce(lock, settings, plans=plans, progress=progress)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


class _Picked:
    """The files of a bundle, as they are picked up."""

    def __init__(self) -> None:
        self.sources: dict[str, Path] = {}
        self._hub_files: dict[tuple[str, str, str, str], HubFile] = {}
        self._hub_refs: dict[tuple[str, str, str], HubRef] = {}
        self._folders: list[Folder] = []
        self._listings: dict[str, str] = {}
        self._repositories: set[tuple[str, str, str]] = set()

    def original(self, artifact: Artifact, path: Path, sha256: str, settings: Settings) -> None:
        """A file as it was fetched, and where it is in the cache of a hub if it is there."""
        self.sources[sha256] = path
        source = hub_source(settings)
        for file in repo_files(artifact.urls):
            cache = source.cache(file)
            if path.is_relative_to(cache.folder):
                place = file.endpoint or "", file.repo, file.revision, file.path
                self._of_hub(place, path.resolve().name, sha256)
                if place[:3] not in self._repositories:
                    self._repositories.add(place[:3])
                    self._beside(cache, place[0], file.revision, settings)
                return

    def _beside(self, cache: RepoCache, hub: str, commit: str, settings: Settings) -> None:
        """What else is here of a repository at a commit, but for weights: and all that names it."""
        for name, etag, _ in cache.entries(commit):
            if not kind_of(name).is_weights:
                sha256 = hash_file(cache.pointer(commit, name)).sha256
                self.sources[sha256] = cache.pointer(commit, name)
                self._of_hub((hub, cache.repo, commit, name), etag, sha256)
        refs = cache.folder / "refs"
        for ref in refs.rglob("*"):
            revision = ref.relative_to(refs).as_posix()
            if ref.is_file() and cache.commit_of(revision) == commit:
                named = HubRef(hub=hub, repo=cache.repo, revision=revision, commit=commit)
                self._hub_refs[hub, cache.repo, revision] = named
        listings = settings.home / "listings"
        for listing in listings.glob(f"*/{cache.repo.replace('/', '--')}/{commit}.json"):
            sha256 = hash_file(listing).sha256
            self.sources[sha256] = listing
            self._listings[listing.relative_to(listings).as_posix()] = sha256

    def _of_hub(self, place: tuple[str, str, str, str], etag: str, sha256: str) -> None:
        hub, repo, commit, path = place
        self._hub_files[place] = HubFile(
            hub=hub, repo=repo, commit=commit, path=path, etag=etag, sha256=sha256
        )

    def folder(self, folder: ModelFolder) -> None:
        """A model folder; of originals the manifest is enough."""
        manifest = folder.path / MANIFEST
        files = {MANIFEST: hash_file(manifest).sha256}
        self.sources[files[MANIFEST]] = manifest
        if folder.manifest.kind == "model":
            for name, entry in folder.manifest.files.items():
                files[name] = entry.sha256
                self.sources[entry.sha256] = folder.path / name
        self._folders.append(Folder(name=folder.path.name, files=dict(sorted(files.items()))))

    def contents(self, lock: str) -> Contents:
        """What the bundle says of itself."""
        return Contents(
            version=bundles.SCHEMA_VERSION,
            lock=lock,
            files=tuple(
                BundledFile(sha256=sha256, size_bytes=path.stat().st_size)
                for sha256, path in sorted(self.sources.items())
            ),
            hub_files=tuple(file for _, file in sorted(self._hub_files.items())),
            hub_refs=tuple(ref for _, ref in sorted(self._hub_refs.items())),
            folders=tuple(sorted(self._folders, key=lambda folder: folder.name)),
            listings=dict(sorted(self._listings.items())),
        )


def _manifest(folder: Folder, stage: Path, path: Path) -> Manifest:
    sha256 = folder.files.get(MANIFEST)
    if sha256 is None:
        raise IntegrityError(f"{folder.name} in {path} has no {MANIFEST}; nothing was kept")
    try:
        return msgspec.json.decode((stage / sha256).read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise IntegrityError(
            f"{MANIFEST} of {folder.name} in {path} cannot be read: {error}; nothing was kept"
        ) from error


def _check(
    contents: Contents, lock: LockFile, manifests: Mapping[str, Manifest], path: Path
) -> None:
    """Refuse a bundle whose parts contradict each other."""
    here = {file.sha256: file.size_bytes for file in contents.files}
    urls = [url for model in lock.model for file in model.file for url in file.urls]
    locked_at = {(file.endpoint or "", file.repo, file.revision) for file in repo_files(urls)}
    at = {(file.hub, file.repo, file.commit) for file in contents.hub_files}
    at |= {(ref.hub, ref.repo, ref.commit) for ref in contents.hub_refs}
    listed = {f"{repo.replace('/', '--')}/{commit}.json" for _, repo, commit in locked_at}
    if at - locked_at or {name.partition("/")[2] for name in contents.listings} - listed:
        raise IntegrityError(
            f"{path} holds files of repositories that its lock file does not name; nothing was kept"
        )
    for model in lock.model:
        for file in model.file:
            if here.get(file.sha256) != file.size_bytes:
                raise IntegrityError(
                    f"{path} does not hold {file.path} of {model.uid}; nothing was kept"
                )
    for folder in contents.folders:
        manifest = manifests[folder.name]
        said = {name: entry.sha256 for name, entry in manifest.files.items()}
        got = {name: sha256 for name, sha256 in folder.files.items() if name != MANIFEST}
        locked = lock.get(manifest.uid)
        if locked is None or (manifest.kind == "model" and said != got):
            raise IntegrityError(
                f"{folder.name} in {path} is not what its {MANIFEST} says; nothing was kept"
            )
        if not _are_locked(manifest.record.artifacts, locked):
            raise IntegrityError(
                f"the files of {folder.name} in {path} are not those of its lock file; nothing was "
                "kept"
            )


def _are_locked(artifacts: Sequence[Artifact], model: LockedModel) -> bool:
    """Whether they are the files of ``model``, as far as their SHA-256 is stated."""
    shas = {file.path: file.sha256 for file in model.file}
    if sorted(artifact.path for artifact in artifacts) != sorted(shas):
        return False
    return all(
        shas[artifact.path].startswith(artifact.digest.value.lower())
        for artifact in artifacts
        if artifact.digest is not None and artifact.digest.algorithm == "sha256"
    )


def _put(
    contents: Contents,
    lock: LockFile,
    manifests: Mapping[str, Manifest],
    stage: Path,
    settings: Settings,
) -> None:
    """Put what was verified in its place: the Hugging Face cache, model folders, blobs."""
    store = settings.store
    folders = [f for f in contents.folders if manifests[f.name].kind == "model"]
    of_hub = {file.sha256 for file in contents.hub_files}
    stated = {(m.uid, a.path): a for m in manifests.values() for a in m.record.artifacts}
    originals = [
        (stated.get((model.uid, file.path)), file)
        for model in lock.model
        for file in model.file
        if file.sha256 not in of_hub
    ]
    stock = _Stock(stage)
    stock.expect(file.sha256 for _, file in originals)
    stock.expect(sha256 for folder in folders for sha256 in folder.files.values())
    stock.expect(contents.listings.values())
    _put_in_hub_cache(contents, stage, settings)
    for name, sha256 in contents.listings.items():
        place = settings.home / "listings" / name
        if not place.exists():
            stock.take(sha256, stage / name)
            place.parent.mkdir(parents=True, exist_ok=True)
            (stage / name).replace(place)
    for folder in folders:
        work = stage / f"folder-{folder.name}"
        for name, sha256 in folder.files.items():
            stock.take(sha256, work / name)
        ModelFolder.adopt(work, store.models / folder.name)
    for said, file in originals:
        artifact = said or file.artifact()
        fresh = stage / "blob"
        stock.take(file.sha256, fresh)
        hasher = hash_file(fresh, artifact.digest)
        if not hasher.matches:
            raise IntegrityError(f"{file.path}: {hasher.mismatch()}")
        store.adopt(fresh, file.sha256, artifact, next(iter(artifact.urls), ""))


class _Stock:
    """Staged files, each handed out as often as it is expected to be, the last time by moving."""

    def __init__(self, stage: Path) -> None:
        self._stage = stage
        self._left: Counter[str] = Counter()

    def expect(self, hashes: Iterable[str]) -> None:
        self._left.update(hashes)

    def take(self, sha256: str, to: Path) -> None:
        self._left[sha256] -= 1
        with writing(to):
            to.parent.mkdir(parents=True, exist_ok=True)
            if self._left[sha256]:
                shutil.copyfile(self._stage / sha256, to)
                flush(to)
            else:
                (self._stage / sha256).rename(to)


def _put_in_hub_cache(contents: Contents, stage: Path, settings: Settings) -> None:
    """Add to what is there; a commit never changes, and a branch stays where it was seen last.

    Raises:
        IntegrityError: a file is there with other content; nothing was put.
    """
    source = hub_source(settings)
    files = [
        (file, source.cache(RepoFile(file.repo, file.commit, file.path, file.hub or None)))
        for file in contents.hub_files
    ]
    for file, cache in files:
        _refuse_other(file, cache.pointer(file.commit, file.path))
    for file, cache in files:
        cache.prepare()
        with cache.locked([file.etag]):
            fresh = cache.blobs / f"{file.etag}.{os.urandom(4).hex()}.incomplete"
            try:
                with writing(fresh):  # the cache may be on another disk
                    check_space(cache.blobs, (stage / file.sha256).stat().st_size)
                    shutil.copyfile(stage / file.sha256, fresh)
                    flush(fresh)
                cache.adopt(fresh, file.etag)
            finally:
                fresh.unlink(missing_ok=True)
            cache.settle()
            cache.point(file.commit, file.path, file.etag)
    for ref in contents.hub_refs:
        cache = source.cache(RepoFile(ref.repo, ref.revision, "", ref.hub or None))
        if cache.commit_of(ref.revision) is None:
            cache.note(ref.revision, ref.commit)


def _refuse_other(file: HubFile, pointer: Path) -> None:
    try:
        other = pointer.readlink().name != file.etag
    except OSError:  # it is not there, or a copy
        other = pointer.is_file() and hash_file(pointer).sha256 != file.sha256
    if other:
        raise IntegrityError(
            f"{file.path} of {file.repo} at {file.commit} is another file here; nothing was kept"
        )
