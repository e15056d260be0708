"""fastembed: the models it runs on ONNX Runtime, from the descriptions in its source.

A description gives the file, its repository on the Hugging Face hub and a rounded size. A sentence
written to a pattern has the rest: ``English, 512 input tokens truncation``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catalog.errors import TlhubError
from catalog.families import family_in
from catalog.harvesters.entries import Facts, each, record
from catalog.harvesters.modules import Call, Modules
from catalog.harvesters.package import Package
from catalog.licenses import license_of
from catalog.record import Artifact, Modality, ModelRecord

log = logging.getLogger(__name__)

_CALLS = ("DenseModelDescription", "SparseModelDescription", "BaseModelDescription")
_LANGUAGES = {"English": "en", "Chinese": "zh", "German": "de", "Spanish": "es"}
# Files that are all of a repository; others share it with different weights, or are a half.
_WHOLE = {"model.onnx", "model_optimized.onnx", "model.safetensors"}


def harvest(package: Path) -> Iterator[ModelRecord]:
    """A record for each description.

    Args:
        package: the wheel of fastembed, or the folder it is unpacked in.

    Raises:
        TlhubError: the package cannot be read.
    """
    wheel = Package.open(package)
    entries = ((f"{path}, line {call.line}", (path, call.keywords)) for path, call in _calls(wheel))

    def make(entry: tuple[str, Mapping[str, Any]]) -> ModelRecord | None:
        return _record(wheel, *entry)

    yield from each(entries, make, wheel.source)


def _calls(wheel: Package) -> Iterator[tuple[str, Call]]:
    modules = Modules(wheel)
    for path in wheel.matching("fastembed/*.py"):
        try:
            found = list(modules.module(path).calls(*_CALLS))
        except TlhubError as error:
            log.warning("%s", error)
            continue
        for call in found:
            # A class for models of the user's own builds descriptions from variables.
            if isinstance(call.keywords.get("model"), str):
                yield path, call


def _record(wheel: Package, path: str, entry: Mapping[str, Any]) -> ModelRecord | None:
    if entry.get("vocab_size") == 0:  # BM25 counts words and has no weights
        return None
    name, file, said = entry["model"], entry["model_file"], entry["description"]
    repository = entry["sources"].keywords.get("hf")
    if not re.fullmatch(r"[^\s/]+/[^\s/]+", name):
        raise ValueError(f"the name {name!r}")
    quantized = re.search(r"quantized|int8", file) or (repository or "").endswith("-Q")
    task, modality = _task(path)
    whole = file.rpartition("/")[2] in _WHOLE
    converted = bool(repository) and repository.lower() != name.lower()
    half = re.search(r"(text|vision)_model\.onnx$", file)  # both are published under one name
    tokens = re.search(r"(\d+) input tokens", said)
    text = re.split(r"Prefixes|input tokens", said)[0]
    return record(
        f"fastembed/{name}" + (f"/{half[1]}" if half else ""),
        Facts(
            wheel.source,
            path,
            {
                "framework": "fastembed",
                "description": said,
                "hf_hub_id": repository if whole and not quantized else None,
                "origin_url": f"https://huggingface.co/{repository}" if repository else None,
                "input_size": (int(tokens[1]),) if tokens else None,
                "embed_dim": entry.get("dim"),
                "license": license_of(entry["license"], "weights"),
                "artifacts": tuple(_artifacts(repository, entry, bool(quantized))),
                "base_model": name if converted or quantized else None,
                "languages": tuple(code for word, code in _LANGUAGES.items() if word in text),
            },
        ),
        Facts(
            wheel.source,
            path,
            {
                "task": task,
                "modality": modality,
                "architecture": name.partition("/")[2],
                "family": family_in(name.partition("/")[2]),
                "tags": ("sparse",) if "/sparse/" in path else (),
                "relation": "quantized" if quantized else "converted" if converted else None,
            },
            derived=True,
        ),
    )


def _task(path: str) -> tuple[str, Modality]:
    if "/rerank/" in path:
        return "text-ranking", "text"
    if "/image/" in path:
        return "image-feature-extraction", "image"
    if "/late_interaction_multimodal/" in path:
        return "feature-extraction", "multimodal"
    return ("sentence-similarity" if "/text/" in path else "feature-extraction"), "text"


def _artifacts(
    repository: str | None, entry: Mapping[str, Any], quantized: bool
) -> Iterator[Artifact]:
    more = entry.get("additional_files") or []
    for file in (entry["model_file"], *more) if repository else ():
        kind = file.rpartition(".")[2]
        if kind not in {"onnx", "onnx_data", "safetensors"}:
            continue
        yield Artifact(
            path=file,
            format="safetensors" if kind == "safetensors" else "onnx",
            urls=(f"hf:{repository}@main!{file}",),
            precision="int8" if quantized else None,
            about_bytes=None if more else round(entry["size_in_GB"] * 1e9),
            safe=True,
        )
