"""Folders of files as their publisher has them: links to where they are kept, and real copies."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.disk import writing
from catalog.errors import IntegrityError
from catalog.record import ModelRecord
from tlhub.progress import Event, Progress

if TYPE_CHECKING:
    from converters.folder import FileEntry, Manifest, ModelFolder

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


def link(record: ModelRecord, files: Mapping[str, Path], target: Path) -> ModelFolder:
    """A folder of links to ``files`` by their names, with a manifest."""
    from converters.folder import MANIFEST, FileEntry, ModelFolder

    entries: dict[str, FileEntry] = {}

    def fill(folder: Path) -> Manifest:
        for artifact in record.artifacts:
            if artifact.path == MANIFEST:  # what another tlhub wrote of it; ours takes its place
                continue
            path, link = _blob_of(files[artifact.path]), folder / artifact.path
            entries[artifact.path] = FileEntry(
                sha256=sha256_of_blob(files[artifact.path]), size_bytes=path.stat().st_size
            )
            with writing(link):  # its name may be too long for the disk
                link.parent.mkdir(parents=True, exist_ok=True)
                try:
                    link.symlink_to(path)
                except OSError:  # Windows, and some file systems; what exists stays
                    with path.open("rb") as source, link.open("xb") as copy:
                        shutil.copyfileobj(source, copy)
        return _manifest(record, entries)

    return ModelFolder.create(target, fill, replace=True)


def copy(folder: ModelFolder, out: Path, progress: Progress) -> ModelFolder:
    """The same folder at ``out``, of real files, each hashed on the way."""
    from converters.folder import MANIFEST, ModelFolder

    progress(Event(f"copying to {out}"))
    manifest = folder.manifest

    def fill(work: Path) -> Manifest:
        for name, entry in manifest.files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            hasher = hashlib.sha256()
            with (folder.path / name).open("rb") as source, (work / name).open("xb") as copy:
                while chunk := source.read(_CHUNK_BYTES):
                    hasher.update(chunk)
                    copy.write(chunk)
            if hasher.hexdigest() != entry.sha256:
                raise IntegrityError(
                    f"{folder.path / name} has sha256 {hasher.hexdigest()}, expected "
                    f"{entry.sha256}",
                    hint="pull it again with --force",
                )
        return manifest

    return ModelFolder.create(out, fill, replace=(out / MANIFEST).is_file())


def sha256_of_blob(path: Path) -> str:
    """The SHA-256 of a file that was hashed just now: the name of its blob, where that is one."""
    from converters.folder import sha256_of

    blob = _blob_of(path)
    named = "blobs" in {blob.parent.name, blob.parent.parent.parent.name}
    return blob.name if named and _SHA256.fullmatch(blob.name) else sha256_of(path)


def _manifest(record: ModelRecord, entries: Mapping[str, FileEntry]) -> Manifest:
    from importlib.metadata import version

    from converters.folder import SCHEMA_VERSION, Manifest

    return Manifest(
        schema_version=SCHEMA_VERSION,
        kind="original",
        uid=record.uid,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        record=record,
        files=entries,
        tools={"tlhub": version("tlhub")},
    )


def _blob_of(path: Path) -> Path:
    """What a link of the Hugging Face cache leads to; any other file is one itself."""
    try:
        return Path(os.path.normpath(path.parent / path.readlink()))
    except OSError:
        return path
