"""Pulling in two steps: a *plan* says which files a model needs, `pull` makes a folder of them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from catalog.errors import (
    NotFoundError,
    TlhubError,
    UsageError,
)
from catalog.hf_record import address_of
from catalog.record import Artifact, ModelRecord
from hub_client import selection
from hub_client.cache import remove, unfinished
from hub_client.fetch import fetch
from hub_client.network import without_credentials
from hub_client.places import find, note, resolve
from hub_client.sources.registry import is_url, scheme_of
from hub_client.sources.source import Job, Place
from hub_client.store import Store
from hub_client.usage import use
from tlhub import gate, originals, repositories, user_paths
from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings
from tlhub.whole_models import whole

if TYPE_CHECKING:
    from converters.folder import ModelFolder

# Part of a folder's key: raise it when the same files make another folder.
CONVERSION_VERSION = 1
Format = Literal["onnx", "original"]

_CONVERTIBLE = ("safetensors", "pytorch")
_HUB = re.compile(r"(hf|hub\+https?):")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHUNK_BYTES = 1 << 20
# What of a record shapes a graph, besides its weights.
_SHAPING = (
    "framework",
    "architecture",
    "task",
    "num_classes",
    "labels",
    "label_set",
    "input_size",
    "preprocess",
    "head",
    "stem",
)


@dataclass(frozen=True)
class Options:
    """What of a model is wanted, and as what."""

    format: Format = "onnx"
    include: tuple[str, ...] = ()  # globs on the paths, in place of our own choice
    exclude: tuple[str, ...] = ()
    precision: str | None = None  # None: as the publisher has it without saying
    layers: tuple[str, ...] = ()  # further outputs of the graph
    preprocess: bool = True  # False: the graph takes the network's own tensors
    side: int | None = None  # pixels of the pictures that it takes; None: as the record says


@dataclass(frozen=True)
class Plan:
    """Which files a model needs, and what will be made of them."""

    model: str  # as it was asked for
    record: ModelRecord  # with the chosen artifacts; a branch in them is pinned to its commit
    artifacts: tuple[Artifact, ...]
    format: Format
    no_onnx: str | None = None  # why it stays as it is, where ONNX was wanted
    size_bytes: int | None = None  # of all artifacts; None where one does not say
    place: Place | None = None  # the repository that they are of, if they are of one
    options: Options = Options()


def plan(
    model: str,
    settings: Settings,
    options: Options = Options(),
    *,
    progress: Progress = silent,
) -> Plan:
    """What a uid or a URI stands for, and what of it is needed.

    A repository is listed and its branch pinned; without a network what is known of it serves.

    Raises:
        NotFoundError: there is no such model, or nothing of it fits ``options``.
        AccessError: the license is not one that the settings allow.
        NetworkError, AccessError: it cannot be asked; OfflineError: that was ruled out.
        UsageError: it makes no sense. UnsafeError: the place lists files outside its folder.
    """
    job = _job(settings, progress)
    place: Place | None
    if is_url(model):
        if not _HUB.match(model):  # nobody there states a license, and to list a wheel takes it
            gate.check(ModelRecord(uid=_uid_of(without_credentials(model))), settings)
        place = resolve(model, job, offline=settings.offline, mirrors=settings.mirrors)
        place = replace(place, url=without_credentials(place.url))
        record = place.record or ModelRecord(uid=_uid_of(place.url))
        gate.check(record, settings)
        artifacts = selection.of_repository(
            place.artifacts,
            include=options.include,
            exclude=options.exclude,
            precision=options.precision,
        )
    else:
        record = _record(model, settings)
        gate.check(record, settings)
        record, artifacts, place = _of_record(record, options, settings, job)
    no_onnx = None
    alone = whole(record, artifacts, place) if options.format == "onnx" else None
    if alone is not None:
        record, no_onnx = alone.record, alone.obstacle
        artifacts = alone.needed if no_onnx is None else artifacts
    elif options.format == "onnx":
        said = _described(record, artifacts, place, settings, job, options)
        record, needed = said.record, _needed(said, artifacts, place)
        no_onnx = said.obstacle or _obstacle(record, needed, options)
        if no_onnx is None:
            artifacts = needed
    format_: Format = "onnx" if options.format == "onnx" and no_onnx is None else "original"
    sizes = [artifact.size_bytes for artifact in artifacts]
    return Plan(
        model=model,
        record=msgspec.structs.replace(record, artifacts=tuple(map(_as_kept, artifacts))),
        artifacts=artifacts,
        format=format_,
        no_onnx=no_onnx,
        size_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        place=place,
        options=options,
    )


def here(plan: Plan, settings: Settings) -> dict[str, Path]:
    """Those of the plan's files that are on this machine, by path; every byte is hashed."""
    return find(plan.artifacts, settings.store, settings.mirrors)


def pull(
    plan: Plan,
    settings: Settings,
    *,
    out: Path | None = None,
    force: bool = False,
    trust: bool = False,
    progress: Progress = silent,
) -> ModelFolder:
    """The verified model folder that ``plan`` describes: fetched and made, or here already.

    It lies under `TLHUB_HOME`; where files stay as they are, they are links to the store or to the
    Hugging Face cache. At ``out`` a copy of it is made, of real files. ``force`` makes it again,
    and lets it replace a folder at ``out``. ``trust`` is that of `converters.weights.read`.

    Raises:
        AccessError: the license is not one that the settings allow, or a gate is closed.
        NotFoundError, NetworkError, IntegrityError, StorageError: as `hub_client.fetch.fetch`.
        UnsafeError: the weights could not be read without running code.
        ConversionError: they could not be converted or proven equal.
        UsageError: ``out`` exists already.
    """
    from converters.folder import MANIFEST

    gate.check(plan.record, settings)
    if out is not None and os.path.lexists(out) and not (force and (out / MANIFEST).is_file()):
        raise UsageError(f"{out} exists already", hint="choose another place, or --force")
    store = settings.store
    target = _target(store, plan, {})
    folder = _made(target, settings) if target is not None and not force else None
    if folder is None:
        folder = _make(plan, store, settings, force=force, trust=trust, progress=progress)
    return folder if out is None else originals.copy(folder, out, progress)


def _make(
    plan: Plan,
    store: Store,
    settings: Settings,
    *,
    force: bool,
    trust: bool,
    progress: Progress,
) -> ModelFolder:
    """The folder under `TLHUB_HOME`, unless another process made it meanwhile."""
    count = len(plan.artifacts)
    what = plan.artifacts[0].path if count == 1 else f"{count} files"
    progress(Event(f"fetching {what}"))
    files = fetch(
        plan.artifacts,
        store,
        mirrors=settings.mirrors,
        offline=settings.offline,
        progress=lambda label, done, total: progress(Event(label, done, total)),
    )
    if plan.place is not None:
        note(plan.place, _job(settings, progress))
    target = _target(store, plan, files)
    if target is None:
        raise ValueError("what was fetched has digests")
    with store.lock(target.name):
        folder = None if force else _made(target, settings)
        if folder is None and plan.format == "original":
            from converters import scanning

            scanning.refuse(files, trust=trust)
            folder = originals.link(plan.record, files, target)
        elif folder is None:
            from converters import convert
            from converters.folder import Options as Ways

            folder = convert.convert(
                plan.record,
                files,
                target,
                options=Ways(plan.options.layers, plan.options.preprocess, plan.options.side),
                replace=True,
                trust=trust,
                progress=lambda step: progress(Event(step)),
            )
        use(settings.home, folder.path)
    for item in unfinished((store.models,)):  # of other models, whose pull was killed
        remove(store, item)
    return folder


def _record(model: str, settings: Settings) -> ModelRecord:
    path = user_paths.here(model)
    if path is not None and model.startswith((".", "/", "~")):
        raise NotFoundError(
            f"{model} is there, but it is no model: it has no tlhub.json and is not an .onnx file",
            hint=f"name a folder made by `tlhub pull` or `tlhub finetune`, a uid, or "
            f"{path.absolute().as_uri()}",
        )
    uid, at, revision = model.partition("@")
    if at:
        raise UsageError(
            f"{model}: a record has one set of weights, not the revision {revision!r}",
            hint=f"tlhub show {uid}, or hf:owner/name@revision for a repository",
        )
    from tlhub.api import open_catalog

    return open_catalog(settings).get(uid)


def _of_record(
    record: ModelRecord, options: Options, settings: Settings, job: Job
) -> tuple[ModelRecord, tuple[Artifact, ...], Place | None]:
    """What is needed of a record of the catalog, and the repository that some of it is in."""
    url = _repository(record)
    chosen = selection.of_record(record.artifacts, precision=options.precision)
    listed = None
    if url is not None:
        try:
            listed = resolve(url, job, offline=settings.offline, mirrors=settings.mirrors)
        except TlhubError:
            if not chosen or not all(_does_without(artifact) for artifact in chosen):
                raise
    as_listed = not chosen or _is_whole(record, url)
    if listed is not None and (as_listed or options.include):
        artifacts = selection.of_repository(
            listed.artifacts,
            include=options.include,
            exclude=options.exclude,
            precision=options.precision,
        )
        return record, artifacts, listed
    if not chosen:
        raise NotFoundError(
            f"the catalog knows no files of {record.uid}", hint=f"tlhub show {record.uid}"
        )
    in_repo = {a.path: a for a in listed.artifacts} if listed is not None else {}
    artifacts = tuple(_pinned(artifact, url, in_repo) for artifact in chosen)
    if listed is not None:  # what it takes to use them: configuration, tokenizer, license
        artifacts += tuple(a for a in listed.artifacts if selection.is_needed_besides(a))
    if options.include or options.exclude:
        artifacts = selection.of_repository(
            artifacts, include=options.include or ("*",), exclude=options.exclude
        )
    return record, artifacts, listed


def _repository(record: ModelRecord) -> str | None:
    """The address of the repository on the hub that has the record's files; at its commit."""
    url = f"hf:{record.hf_hub_id}" if record.hf_hub_id else None
    for artifact in record.artifacts:
        for address in artifact.urls:
            repo = address.partition("!")[0]
            if repo.startswith(("hub+", f"{url}@")):
                return repo if _is_pinned(artifact) else repo.partition("@")[0]
    if record.artifacts or url is None:
        return None
    hub = (record.origin_url or "").removesuffix(f"/{record.hf_hub_id}")
    return address_of(hub, str(record.hf_hub_id)) if record.uid.startswith("hf/") else url


def _is_whole(record: ModelRecord, url: str | None) -> bool:
    """Whether the record is of all that is in the repository at ``url``, as a sync makes it."""
    name = record.uid.partition("/")[2]
    if url is not None and url.startswith("hub+") and url.partition("@")[0].endswith(f"/{name}"):
        return True
    return record.uid == f"hf/{record.hf_hub_id}"


def _is_pinned(artifact: Artifact) -> bool:
    """Whether its address names a commit, or a digest says what it has to be."""
    return artifact.digest is not None or any(
        _COMMIT.fullmatch(url.partition("!")[0].rpartition("@")[2]) for url in artifact.urls
    )


def _does_without(artifact: Artifact) -> bool:
    """Whether it can be had without asking its hub what a branch points at."""
    return _is_pinned(artifact) or any(not _HUB.match(url) for url in artifact.urls)


def _pinned(artifact: Artifact, repo: str | None, listed: Mapping[str, Artifact]) -> Artifact:
    """The artifact at the commit that its branch points at now, with the hub's own digest."""
    if repo is None:
        return artifact
    base = repo.partition("@")[0]
    urls, found = [], None
    for url in artifact.urls:
        if url.startswith(f"{base}@") and url.partition("!")[2] in listed:
            found = listed[url.partition("!")[2]]
            urls.append(found.urls[0])
        else:
            urls.append(url)
    if found is None:
        return artifact
    return msgspec.structs.replace(
        artifact,
        urls=tuple(urls),
        digest=artifact.digest or found.digest,
        size_bytes=artifact.size_bytes or found.size_bytes,
    )


def _described(
    record: ModelRecord,
    artifacts: Sequence[Artifact],
    place: Place | None,
    settings: Settings,
    job: Job,
    options: Options,
) -> repositories.Said:
    """The record with what the repository's own small files say."""
    prepared = record.architecture is not None and record.preprocess is not None
    prepared &= record.framework != "transformers"  # where files say more than a record can
    if prepared or record.framework not in repositories.FRAMEWORKS:
        return repositories.Said(record)
    there = _by_path(artifacts, place)
    named = repositories.small_files(there)
    if any((there[name].size_bytes or 0) > repositories.LARGEST_BYTES for name in named):
        return repositories.Said(record, "its configuration is larger than any is")
    files = fetch(
        [there[name] for name in sorted(named)],
        job.store,
        mirrors=settings.mirrors,
        offline=settings.offline,
    )
    there_are = [*named, *(a.path for a in artifacts)]
    return repositories.look(record, files, there_are, preprocess=options.preprocess)


def _by_path(artifacts: Sequence[Artifact], place: Place | None) -> dict[str, Artifact]:
    listed = place.artifacts if place is not None else ()
    return {artifact.path: artifact for artifact in (*listed, *artifacts)}


def _needed(
    said: repositories.Said, artifacts: Sequence[Artifact], place: Place | None
) -> tuple[Artifact, ...]:
    """Those files that a conversion takes."""
    if said.needed is None:
        return selection.weights_among(artifacts)
    return tuple(a for name, a in _by_path(artifacts, place).items() if name in said.needed)


def _obstacle(record: ModelRecord, needed: Sequence[Artifact], options: Options) -> str | None:
    """Why these files cannot become ONNX here; None where they can."""
    from converters.registry import obstacle

    weights = selection.weights_among(needed)
    formats = sorted({artifact.format for artifact in weights})
    if not weights:
        return "it has no weights that we know of"
    if not set(formats) <= set(_CONVERTIBLE):
        return f"its weights are {', '.join(formats)}; {' and '.join(_CONVERTIBLE)} are converted"
    if len(weights) > 1 and len(weights) == len(needed):
        return f"its weights are in {len(weights)} files, which are not converted yet"
    if options.precision is not None:
        return "it is converted from full precision alone"
    return obstacle(record)


def _as_kept(artifact: Artifact) -> Artifact:
    """The artifact as a manifest may have it: without passwords."""
    return msgspec.structs.replace(artifact, urls=tuple(map(without_credentials, artifact.urls)))


def _uid_of(url: str) -> str:
    """A uid for what has none: its scheme and what names it behind that."""
    scheme = scheme_of(url)
    rest = url.partition(":")[2].partition("#")[0].partition("?")[0].strip("/")
    if scheme == "file":
        rest = rest.rpartition("/")[2]
    return f"{scheme}/{rest}"


def _job(settings: Settings, progress: Progress) -> Job:
    return Job(settings.store, lambda label, done, total: progress(Event(label, done, total)))


def _target(store: Store, plan: Plan, files: Mapping[str, Path]) -> Path | None:
    """Where the folder is, or will be; None while a digest is not known."""
    digests = []
    for artifact in plan.artifacts:
        digest = artifact.digest
        if digest is not None and not digest.prefix:
            digests.append([artifact.path, digest.algorithm, digest.value.lower()])
        elif artifact.path in files:
            digests.append(
                [artifact.path, "sha256", originals.sha256_of_blob(files[artifact.path])]
            )
        else:
            return None
    record = plan.record
    parts: list[object] = [CONVERSION_VERSION, plan.format, record.uid, digests]
    if plan.format == "onnx":
        parts += [msgspec.to_builtins(getattr(record, field)) for field in _SHAPING]
        if plan.options.layers or not plan.options.preprocess:
            parts += [plan.options.layers, plan.options.preprocess]
        if plan.options.side is not None:
            parts += ["side", plan.options.side]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    name = re.sub(r"[^\w.=-]+", "--", record.uid)[:120]
    return store.models / f"{name}-{key}"


def _made(target: Path, settings: Settings) -> ModelFolder | None:
    """The folder that is here already and still whole."""
    from converters.folder import ModelFolder

    if not target.is_dir() or not use(settings.home, target):
        return None
    try:
        folder = ModelFolder.open(target)
        folder.verify()
    except TlhubError:
        return None  # damaged: it is made anew
    return folder
