"""Coqui TTS: `.models.json`, its list of voices, vocoders and voice converters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.harvesters.datasets import dataset_id
from catalog.harvesters.entries import Facts, arxiv_ids, each, project_license, record
from catalog.harvesters.package import Package
from catalog.licenses import license_of
from catalog.record import Artifact, License, ModelRecord, SourceDataset

LIST = "TTS/.models.json"

_TASKS = {
    "tts_models": ("text-to-speech", "text", ()),
    "vocoder_models": ("text-to-speech", "text", ("vocoder",)),
    "voice_conversion_models": ("audio-to-audio", "audio", ("voice-conversion",)),
}
# Where a list of data sets stands, these say that there is none to name.
_NO_DATASET = {"multi-dataset", "custom", "universal", "multilingual"}


def harvest(package: Path) -> Iterator[ModelRecord]:
    """A record for each model of the list.

    Raises:
        IntegrityError: there is no list, or it is no JSON.
    """
    wheel = Package.open(package)
    found = wheel.json(LIST)
    project = project_license(wheel)
    yield from each(_walk(found), lambda entry: _record(wheel.source, entry, project), wheel.source)


def _walk(found: Any) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Every ``kind/language/dataset/model``; what is not of this shape is a broken entry."""
    level: list[tuple[str, Any]] = [("", found)]
    for depth in range(4):
        below: list[tuple[str, Any]] = []
        for name, value in level:
            if isinstance(value, dict):
                below += [(f"{name}/{key}".strip("/"), item) for key, item in value.items()]
            elif depth:
                yield f"{LIST}, {name}", (name, None)
        level = below
    for name, value in level:
        yield f"{LIST}, {name}", (name, value)


def _record(source: str, entry: tuple[str, Any], project: License | None) -> ModelRecord:
    name, said = entry
    kind, language, dataset, model = name.split("/")
    task, modality, tags = _TASKS[kind]
    license_ = license_of(said.get("license"), "weights")
    hub = said.get("repo_id")
    # A part of a repository is not the repository.
    whole = hub if hub and not said.get("allow") else None
    return record(
        f"coqui/{name.replace(' ', '_')}",
        Facts(
            source,
            LIST,
            {
                "framework": "coqui-tts",
                "architecture": model,
                "description": said.get("description"),
                "languages": (language,) if re.fullmatch(r"[a-z]{2,3}(-\w+)?", language) else (),
                "license": license_,
                "hf_hub_id": whole,
                "paper_ids": arxiv_ids(said.get("description")),
                "source_datasets": ()
                if dataset in _NO_DATASET
                else (SourceDataset(id=dataset_id(dataset), role="pretrain"),),
                "artifacts": _artifacts(said),
            },
        ),
        Facts(
            source,
            LIST,
            {
                "task": task,
                "modality": modality,
                "family": re.sub(r"[-_](?:v?\d.*|ddc.*|dca.*|ph|neon|t2-.*)$", "", model.lower()),
                "tags": tags,
                "origin_url": f"https://huggingface.co/{hub}" if hub else None,
                "license": project,
            },
            derived=True,
        ),
    )


def _artifacts(said: Any) -> tuple[Artifact, ...]:
    url = said.get("github_rls_url")
    if not url:
        return ()
    path = PurePosixPath(url).name
    return (Artifact(path=path, format="archive", urls=(url,), safe=False),)
