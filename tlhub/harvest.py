"""Builds the catalog's snapshot: the inputs fetched and verified, then harvested."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from catalog.build import SourceFile, listing, read_sources
from catalog.build import build as build_snapshot
from catalog.errors import NotFoundError
from catalog.record import Artifact, Digest
from converters.folder import sha256_of
from hub_client.fetch import fetch
from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings


def build(
    out: Path,
    inputs: Path | None = None,
    *,
    counts: Path | None = None,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> int:
    """Write the snapshot of all listed sources at ``out``; returns the number of records.

    Inputs are taken from the folder ``inputs`` where their digest is that of a file there, and
    fetched otherwise. Wheels are read as archives, nothing in them is run; ``timm`` and
    ``torchvision``, dependencies of ours, are asked.

    Raises:
        NotFoundError: an input is not to be had.
        IntegrityError: an input is not the one listed.
        UsageError: an installed package has another version than listed.
    """
    settings = settings or Settings.load()
    sources = read_sources()
    wanted = {file.sha256: file for source in sources for file in source.files}
    files = _here(wanted.values(), inputs) if inputs else {}
    missing = [file for digest, file in wanted.items() if digest not in files]
    for file in missing:
        if file.patterns:
            raise NotFoundError(
                f"a checkout of {file.url} is needed", hint="name the folder it is in with --from"
            )
    artifacts = [
        Artifact(
            path=file.sha256,
            format="source",
            urls=(file.url,),
            digest=Digest(algorithm="sha256", value=file.sha256),
        )
        for file in missing
    ]
    files |= fetch(
        artifacts,
        settings.store,
        offline=settings.offline,
        progress=lambda label, done, total: progress(Event(label, done, total)),
    )
    progress(Event("harvesting"))
    return build_snapshot(sources, out, files=files, counts=counts)


def _here(wanted: Iterable[SourceFile], inputs: Path) -> dict[str, Path]:
    """The wanted files and checkouts in a folder, by the digests that they are listed with."""
    folders = [path for path in inputs.iterdir() if path.is_dir()]
    found = {sha256_of(path): path for path in inputs.iterdir() if path.is_file()}
    for file in wanted:
        if file.patterns:
            for folder in folders:
                found[listing(folder, file.patterns)] = folder
    return {file.sha256: found[file.sha256] for file in wanted if file.sha256 in found}
