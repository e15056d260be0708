"""Lock files: what a set of models is down to the byte, and pulling exactly that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from catalog.errors import IntegrityError, NotFoundError
from catalog.record import Artifact, ModelRecord
from converters.folder import ONNX, Manifest, ModelFolder
from hub_client import lockfile
from hub_client.digests import hash_file
from hub_client.fetch import fetch
from hub_client.lockfile import LockedFile, LockedModel, LockedOnnx, LockFile
from hub_client.network import without_credentials
from hub_client.sources.registry import is_url
from tlhub import gate, keeping, pulling
from tlhub.api import open_catalog
from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings

_HUB = re.compile(r"hf:|hub\+https?://[^/]+/")  # before the name of a repository
_UNLESS_ASKED = "main"  # the branch


@dataclass(frozen=True)
class Locked:
    """A lock file as it is now, and what changed in it, by uid."""

    path: Path
    lock: LockFile
    added: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Reproduced:
    """The folders of a lock file's models, and in what they are not what they were there."""

    folders: tuple[ModelFolder, ...]
    notes: tuple[str, ...]


def lock(
    models: Sequence[str],
    path: Path,
    *,
    upgrade: bool = False,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> Locked:
    """The lock file at ``path`` with these models in it, written.

    What is in it already stays pinned unless ``upgrade`` asks anew what the models are now: all of
    them, or those named. Without ``models`` and without a lock file, all models that are here are
    locked. A model that is here is locked as it is here; of another the publisher is asked, and
    files whose SHA-256 nobody states are fetched for it.

    Raises:
        NotFoundError: there is no such model, or nothing to lock.
        AccessError: the license is not one that the settings allow.
        UsageError: the lock file there is none.
    """
    settings = settings or Settings.load()
    old = lockfile.read(path) if path.exists() else LockFile(version=lockfile.SCHEMA_VERSION)
    here = manifests(settings)
    wanted = list(models)
    if not wanted and not path.exists():
        wanted = sorted({manifest.uid for manifest in here})
        if not wanted:
            raise NotFoundError("no model is here to lock", hint="`tlhub lock MODEL` locks one")
    pinned = {model.uid: model for model in old.model}
    if not wanted and upgrade:
        wanted = list(pinned)
    for name in wanted:
        if not upgrade and any(name in _names(model) for model in old.model):
            continue
        progress(Event(f"locking {name}"))
        found = None if upgrade else here_as(name, here)
        before = pinned.get(name)
        if before is not None:
            plan = pulling.plan(_argument(before, settings), settings)
            plan = replace(plan, record=msgspec.structs.replace(plan.record, uid=name))
        else:
            plan = as_it_is(found) if found is not None else pulling.plan(name, settings)
        gate.check(plan.record, settings)
        files = _unstated(plan, settings, progress)
        target = pulling._target(settings.store, plan, files)
        model = locked(plan, files, keeping.manifest_of(target) if target is not None else None)
        pinned[model.uid] = model
    new = LockFile(version=lockfile.SCHEMA_VERSION, model=tuple(pinned.values()))
    lockfile.write(new, path)
    lockfile.remember(settings.home, path)
    were = {model.uid: model for model in old.model}
    return Locked(
        path,
        lockfile.read(path),
        added=tuple(sorted(pinned.keys() - were.keys())),
        changed=tuple(sorted(u for u in were if pinned[u] != were[u])),
    )


def pull_locked(
    path: Path,
    uids: Sequence[str] = (),
    *,
    trust: bool = False,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> Reproduced:
    """The models of a lock file, all or these, from any of its URLs with exactly its bytes.

    Nothing is updated. ``trust`` is that of `converters.weights.read`.

    Raises:
        NotFoundError: there is no such file or no such uid in it, or a model is nowhere to be had.
        UsageError: it is no lock file.
        IntegrityError: a file is not what the lock says; or the graph made of it with the same
            versions is another.
    """
    settings = settings or Settings.load()
    lock = lockfile.read(path)
    for uid in uids:
        if lock.get(uid) is None:
            names = ", ".join(model.uid for model in lock.model)
            raise NotFoundError(f"{uid} is not in {path}", hint=f"it names {names}")
    lockfile.remember(settings.home, path)
    chosen = tuple(model for model in lock.model if not uids or model.uid in uids)
    lock = msgspec.structs.replace(lock, model=chosen)
    return reproduce(lock, settings, trust=trust, progress=progress)


def reproduce(
    lock: LockFile,
    settings: Settings,
    *,
    plans: Iterable[pulling.Plan] = (),
    trust: bool = False,
    progress: Progress = silent,
) -> Reproduced:
    """The models of a lock; ``plans`` are those of models whose files are here and verified."""
    known = {plan.record.uid: plan for plan in plans}
    folders: list[ModelFolder] = []
    notes: list[str] = []
    for model in lock.model:
        progress(Event(f"pulling {model.uid}"))
        plan = known.get(model.uid) or _plan(model, settings, progress)
        folder = pulling.pull(plan, settings, trust=trust, progress=progress)
        folders.append(folder)
        note = _difference(folder.manifest, model)
        notes += [note] if note else []
    return Reproduced(tuple(folders), tuple(notes))


def manifests(settings: Settings) -> list[Manifest]:
    """What the models that are here say of themselves, the one used last first."""
    models = [kept for kept in keeping.inventory(settings) if kept.item.kind == "model"]
    models.sort(key=lambda kept: kept.item.used_at, reverse=True)
    found = [keeping.manifest_of(kept.item.path) for kept in models]
    return [manifest for manifest in found if manifest is not None]


def here_as(name: str, here: Iterable[Manifest]) -> Manifest | None:
    """The first that has this uid, or is of this repository."""
    for manifest in here:
        urls = (url for artifact in manifest.record.artifacts for url in artifact.urls)
        if name in {manifest.uid, lockfile.origin(urls)[0]}:
            return manifest
    return None


def as_it_is(manifest: Manifest) -> pulling.Plan:
    """The plan of what a folder is of, to be converted as a pull does."""
    record = manifest.asked or manifest.record
    return pulling.Plan(
        model=manifest.uid,
        record=record,
        artifacts=record.artifacts,
        format="onnx" if manifest.kind == "model" else "original",
        no_onnx=None,
        size_bytes=None,
    )


def locked(plan: pulling.Plan, files: Mapping[str, Path], manifest: Manifest | None) -> LockedModel:
    """A plan down to the byte: ``files`` are hashed where nobody stated their SHA-256.

    ``manifest`` is that of the folder that was made of it, if one was.
    """
    entries = []
    for artifact in plan.artifacts:
        digest, size = artifact.digest, artifact.size_bytes
        if digest is not None and size is not None and _is_stated(artifact):
            sha256 = digest.value
        else:
            hasher = hash_file(files[artifact.path])
            sha256, size = hasher.sha256, hasher.size_bytes
        entries.append(
            LockedFile(
                path=artifact.path,
                size_bytes=size,
                sha256=sha256,
                format=artifact.format,
                urls=tuple(without_credentials(url) for url in artifact.urls),
            )
        )
    source, revision = lockfile.origin(url for entry in entries for url in entry.urls)
    asked = plan.place.revision if plan.place is not None and is_url(plan.model) else None
    return LockedModel(
        uid=plan.record.uid,
        source=source,
        revision=revision,
        asked=asked if asked != _UNLESS_ASKED else None,
        format=plan.format,
        file=tuple(entries),
        onnx=_onnx(manifest) if plan.format == "onnx" else None,
    )


def _unstated(plan: pulling.Plan, settings: Settings, progress: Progress) -> dict[str, Path]:
    """The files that must be read to know their SHA-256."""
    unknown = [artifact for artifact in plan.artifacts if not _is_stated(artifact)]
    return fetch(
        unknown,
        settings.store,
        mirrors=settings.mirrors,
        offline=settings.offline,
        progress=lambda label, done, total: progress(Event(label, done, total)),
    )


def _onnx(manifest: Manifest | None) -> LockedOnnx | None:
    if manifest is None or ONNX not in manifest.files:
        return None
    entry = manifest.files[ONNX]
    return LockedOnnx(sha256=entry.sha256, size_bytes=entry.size_bytes, tools=manifest.tools)


def _difference(manifest: Manifest, model: LockedModel) -> str:
    """In what the graph is not the locked one, where that is no wonder; empty where it is.

    Raises:
        IntegrityError: it is not, though the same versions made it.
    """
    if model.onnx is None or ONNX not in manifest.files:
        return ""
    got, said = manifest.files[ONNX].sha256, model.onnx.sha256
    if got == said:
        return ""
    what = f"{ONNX} of {model.uid} has sha256 {got}, expected {said}"
    there, here = model.onnx.tools, manifest.tools
    others = [
        f"{name} {there.get(name, '-')} there, {here.get(name, '-')} here"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    ]
    if not others:
        raise IntegrityError(
            f"{what}, and the same versions made both of the same weights",
            hint=f"its record may have changed: `tlhub lock --upgrade {model.uid}` takes it as it "
            "is here",
        )
    return f"{what}: it was converted with {'; '.join(others)}. The weights are the same"


def _plan(model: LockedModel, settings: Settings, progress: Progress) -> pulling.Plan:
    """The plan of a locked model: its record as it is known here, its files as they are locked."""
    name = _argument(model, settings, pinned=True)
    if name in model.file[0].urls:  # a file that stands alone: there is nothing to ask about it
        plan = pulling.Plan(name, ModelRecord(uid=model.uid), (), model.format)
    else:
        options = pulling.Options(format=model.format)
        plan = pulling.plan(name, settings, options, progress=progress)
    artifacts = tuple(file.artifact() for file in model.file)
    record = msgspec.structs.replace(plan.record, uid=model.uid, artifacts=artifacts)
    return replace(plan, record=record, artifacts=artifacts, format=model.format, place=None)


def _argument(model: LockedModel, settings: Settings, *, pinned: bool = False) -> str:
    """The model as `pulling.plan` takes it: a uid of the catalog, a repository or a URL.

    A repository is named by its address, so that a machine whose catalog lacks it finds it too.
    """
    urls = [url for file in model.file for url in file.urls]
    alone = next((url for url in urls if pulling._uid_of(url) == model.uid), None)
    repo = _HUB.match(model.source)
    if alone is None and repo is not None:
        name = f"hf/{model.source[repo.end() :]}"
        if model.uid == name or not _is_known(model.uid, settings):
            revision = model.revision if pinned else model.asked
            return f"{model.source}@{revision}" if revision else model.source
    return alone or model.uid


def _is_known(uid: str, settings: Settings) -> bool:
    """Whether the catalog has it."""
    try:
        open_catalog(settings).get(uid)
    except NotFoundError:
        return False
    return True


def _names(model: LockedModel) -> set[str]:
    """All that the model is called by."""
    asked = f"{model.source}@{model.asked}"
    return {model.uid, model.source, asked, *(url for file in model.file for url in file.urls)}


def _is_stated(artifact: Artifact) -> bool:
    digest = artifact.digest
    full = digest is not None and digest.algorithm == "sha256" and not digest.prefix
    return full and artifact.size_bytes is not None
