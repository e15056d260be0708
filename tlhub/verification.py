"""Is what is here what it should be? Digests, a scan of every file, the license; nothing loads."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from catalog.errors import ConversionError, IntegrityError, NotFoundError, UsageError
from catalog.record import UNREADABLE, Artifact, Digest, ModelRecord
from converters import scanning
from converters.folder import MANIFEST, ONNX, Manifest, ModelFolder
from converters.scan import Finding, Scan
from hub_client.digests import hash_file
from hub_client.store import Store
from tlhub import gate, user_paths
from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings

DigestState = Literal["ok", "wrong", "missing", "unstated"]
_REFUSED = {"unsafe", "trust", "damaged"}
_HF_FILE = re.compile(r"hf:(?P<repo>[^/@!]+/[^/@!]+)(@(?P<revision>[^!]+))?!(?P<path>.+)")


@dataclass(frozen=True)
class File:
    """One file: its digest against what was stated for it, and what a scan says."""

    path: Path
    size_bytes: int
    sha256: str | None
    digest: DigestState
    expected: Digest | None
    scan: Scan

    @property
    def ok(self) -> bool:
        """Nothing is wrong with it."""
        return self.digest in {"ok", "unstated"} and self.scan.verdict not in _REFUSED


@dataclass(frozen=True)
class Report:
    """All that was looked at."""

    target: str
    files: tuple[File, ...]
    record: ModelRecord | None = None
    max_rel_diff: float | None = None  # of the graph and its weights, measured now
    parity_error: str | None = None

    @property
    def wrong(self) -> tuple[File, ...]:
        """The files that something is wrong with, the gravest first."""
        wrong = [file for file in self.files if not file.ok]
        return tuple(sorted(wrong, key=lambda file: file.scan.verdict != "unsafe"))


def verify(
    target: str, settings: Settings, *, parity: bool = False, progress: Progress = silent
) -> Report:
    """What is found at ``target``: a folder, a file, or the files of a uid that are here.

    The files of a model or run folder are held against its manifest, those in a Hugging Face
    cache against the name that the hub gave their content, those of a uid against the catalog.
    With ``parity`` the graph of a model folder is compared with its weights again.

    Raises:
        NotFoundError: there is no such path, and no file of such a uid is here.
        UsageError: ``parity`` was asked for, and there is nothing to compare.
    """
    path, look = user_paths.here(target), _Look(settings, progress)
    if path is None:
        report, folders = look.uid(target)
        if parity and folders:
            return _compared(report, folders[0], settings, progress)
    elif user_paths.here(path / MANIFEST):
        report = look.folder(target, path)
        return _compared(report, path, settings, progress) if parity else report
    elif path.is_dir():
        report = Report(target, tuple(look.tree(path)))
    else:
        report = Report(target, (look.file(path, _named(path)),))
    if parity:
        raise UsageError(f"{target} is no model folder: there is no graph to compare with weights")
    if not report.files:
        raise NotFoundError(f"nothing of {target} is here", hint=f"tlhub pull {target}")
    return report


def document(report: Report, settings: Settings) -> dict[str, object]:
    """The report as `--json` prints it."""
    record = report.record
    stated = record.license if record is not None else None
    return {
        "target": report.target,
        "ok": not report.wrong and report.parity_error is None,
        "uid": record.uid if record is not None else None,
        "files": [
            {
                "path": str(file.path),
                "size_bytes": file.size_bytes,
                "sha256": file.sha256,
                "digest": file.digest,
                "expected": msgspec.to_builtins(file.expected),
                "format": file.scan.format,
                "verdict": file.scan.verdict,
                "findings": [finding.what for finding in file.scan.findings],
            }
            for file in report.files
        ],
        "license": {
            "spdx": stated.spdx if stated is not None else None,
            "scope": stated.scope if stated is not None else None,
            "commercial": stated.commercial if stated is not None else "unknown",
            "gate": gate.verdict(record, settings),
        }
        if record is not None
        else None,
        "parity": {"max_rel_diff": report.max_rel_diff, "error": report.parity_error}
        if report.max_rel_diff is not None or report.parity_error is not None
        else None,
    }


@dataclass(frozen=True)
class _Look:
    settings: Settings
    progress: Progress

    def folder(self, target: str, path: Path) -> Report:
        manifest = _manifest(path)
        stated = {
            path / name: Digest(algorithm="sha256", value=entry.sha256)
            for name, entry in manifest.files.items()
        }
        there = {p for p in _files_in(path) if p != path / MANIFEST}
        files = (self.file(p, stated.get(p), path) for p in sorted(there | stated.keys()))
        return Report(target, tuple(files), manifest.record)

    def tree(self, path: Path) -> Iterator[File]:
        for file in sorted(_files_in(path)):
            yield self.file(file, _named(file), path)

    def uid(self, uid: str) -> tuple[Report, list[Path]]:
        """The folders made of it that are here, and the files that they were made of."""
        store = self.settings.store
        folders = [
            found.parent
            for found in sorted(store.models.glob(f"*/{MANIFEST}"))
            if _manifest(found.parent).uid == uid
        ]
        reports = [self.folder(uid, folder) for folder in folders]
        files = {file.path.resolve(): file for report in reports for file in report.files}
        try:
            record = reports[0].record if reports else _record(uid, self.settings)
        except UsageError as error:
            raise NotFoundError(f"{uid} is not here: {error.message}") from error
        for artifact in record.artifacts if record is not None else ():
            path = _place(artifact, store)
            if path is not None:
                stated = artifact.digest or _named(path)
                if path.resolve() not in files:
                    files[path.resolve()] = self.file(path, stated, name=artifact.path)
        return Report(uid, tuple(files.values()), record), folders

    def file(
        self,
        path: Path,
        stated: Digest | None,
        folder: Path | None = None,
        name: str | None = None,
    ) -> File:
        """One file; in a folder it must not be a link to somewhere else."""
        self.progress(Event(f"verifying {path.name}"))
        if folder is not None and path.exists() and not self._may_link(path, folder):
            what = f"is a link out of the folder, to {path.resolve()}"
            scan = Scan("link", (Finding("unsafe", what),))
            return File(path, 0, None, "unstated", stated, scan)
        if path.is_dir():
            scan = Scan("link", (Finding("unknown", "is a link to a folder, not entered"),))
            return File(path, 0, None, "unstated", None, scan)
        if not path.is_file():
            what = "is a link to nothing" if path.is_symlink() else "is missing"
            scan = Scan("-", (Finding("damaged", what),))
            return File(path, 0, None, "missing", stated, scan)
        hasher = hash_file(path, stated)
        state: DigestState = "unstated"
        if stated is not None:
            state = "ok" if hasher.matches else "wrong"
        return File(
            path, hasher.size_bytes, hasher.sha256, state, stated, scanning.scan(path, name)
        )

    def _may_link(self, path: Path, folder: Path) -> bool:
        """Does the file lie in its folder, or in a cache that such a folder is made of links to?"""
        from huggingface_hub.constants import HF_HUB_CACHE

        roots = [folder.resolve(), (self.settings.home / "blobs").resolve()]
        caches = [Path(HF_HUB_CACHE).resolve(), (self.settings.home / "hubs").resolve()]
        if folder.parent.name == "snapshots":  # of a cache elsewhere
            roots.append((folder.parent.parent / "blobs").resolve())
        real = path.resolve()
        cached = any(real.is_relative_to(c) and "blobs" in real.parts for c in caches)
        return cached or any(real.is_relative_to(root) for root in roots)


def _files_in(folder: Path) -> Iterator[Path]:
    """All files and links below a folder; a link to a folder is not entered."""
    for here, folders, files in os.walk(folder):
        yield from (Path(here, name) for name in files)
        yield from (Path(here, name) for name in folders if Path(here, name).is_symlink())


def _named(path: Path) -> Digest | None:
    """What a Hugging Face cache says of a file, by the name of its content."""
    real = path.resolve()
    if real.parent.name != "blobs":
        return None
    if re.fullmatch(r"[0-9a-f]{64}", real.name):
        return Digest(algorithm="sha256", value=real.name)
    if re.fullmatch(r"[0-9a-f]{40}", real.name):
        return Digest(algorithm="git-sha1", value=real.name)
    return None


def _manifest(path: Path) -> Manifest:
    """The manifest of a folder, also where its files are not what it says.

    Raises:
        IntegrityError: it cannot be read.
    """
    try:
        return ModelFolder.open(path).manifest
    except IntegrityError:
        try:
            return msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
        except UNREADABLE:
            pass
        raise


def _record(uid: str, settings: Settings) -> ModelRecord:
    from tlhub import api

    return api.record(uid, settings=settings)


def _place(artifact: Artifact, store: Store) -> Path | None:
    """Where an artifact is kept, whole or not; None where it is not."""
    digest = artifact.digest
    if digest is not None and digest.algorithm == "sha256" and not digest.prefix:
        blob = store.blob(digest.value)
        if blob.is_file():
            return blob
    for url in artifact.urls:
        named = _HF_FILE.fullmatch(url)
        if named is not None:
            from huggingface_hub import try_to_load_from_cache

            cached = try_to_load_from_cache(
                named["repo"], named["path"], revision=named["revision"]
            )
            if isinstance(cached, str):
                return Path(cached)
        else:
            found = store.find(artifact, url)
            if found is not None:
                return found
    return None


def _compared(report: Report, path: Path, settings: Settings, progress: Progress) -> Report:
    """The report with the parity of a model folder measured again.

    Raises:
        UsageError: what its graph is to be compared with is not here.
    """
    if not (path / ONNX).is_file():
        raise UsageError(f"{path} has no {ONNX} to compare with its weights")
    if report.wrong:  # what is not what it should be is not run
        return replace(report, parity_error="not measured: the files are not what they should be")
    from tlhub import proving

    progress(Event("comparing the graph with what it was made of"))
    try:
        figures = proving.measure(path, settings.store)
    except ConversionError as error:
        return replace(report, parity_error=error.message)
    return replace(report, max_rel_diff=figures.max_rel_diff)
