"""mteb: the embedding models with open weights that its `ModelMeta(...)` calls describe.

The calls are read from the source of the package. A model's weights are on the Hugging Face hub
under its name where its reference says so. Its training sets are named in mteb's terms; variants
of one (translations, subsets) are left out.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catalog.errors import IntegrityError, TlhubError
from catalog.families import family_in
from catalog.harvesters.entries import Facts, each, record
from catalog.harvesters.modules import UNKNOWN, Call, Modules
from catalog.harvesters.package import Package
from catalog.licenses import license_of
from catalog.record import ModelRecord, SourceDataset

log = logging.getLogger(__name__)

FOLDER = "mteb/models/model_implementations"
ISO_CODES = "mteb/languages/iso_639_1_to_3.json"
_HUB = "https://huggingface.co/"
_NO_MODELS = ("mteb/baseline", "baseline/")

# mteb's name of what loads a model -> ours, the first that is listed.
_FRAMEWORKS = {
    "Sentence Transformers": "sentence-transformers",
    "PyLate": "pylate",
    "ColPali": "colpali-engine",
    "Transformers": "transformers",
    "GritLM": "gritlm",
    "LLM2Vec": "llm2vec",
    "Tevatron": "tevatron",
    "TensorFlow": "tensorflow",
    "PyTorch": "pytorch",
    "NumPy": "numpy",
}
_CLIP = re.compile(r"clip|siglip|\balign\b|blip", re.IGNORECASE)
_VARIANT = re.compile(r"^Nano|HardNegatives|\.v\d$|-(?:PL|NL|Fa|VN|DE)$|^mMARCO-")


def harvest(package: Path) -> Iterator[ModelRecord]:
    """A record for each model with open weights.

    Args:
        package: the wheel of mteb, or the folder it is unpacked in.

    Raises:
        TlhubError: the package or its table of languages cannot be read.
    """
    wheel = Package.open(package)
    languages = _languages(wheel)
    entries = ((f"{path}, line {call.line}", (path, call.keywords)) for path, call in _calls(wheel))

    seen: set[str] = set()

    def make(entry: tuple[str, Mapping[str, Any]]) -> ModelRecord | None:
        found = _record(wheel, *entry, languages)
        if found is not None and found.uid in seen:
            raise ValueError(f"{found.uid} is described a second time")
        seen.update([found.uid] if found is not None else [])
        return found

    yield from each(entries, make, wheel.source)


def _calls(wheel: Package) -> Iterator[tuple[str, Call]]:
    modules = Modules(wheel)
    for path in wheel.matching(f"{FOLDER}/*.py"):
        try:
            found = list(modules.module(path).calls("ModelMeta"))
        except TlhubError as error:
            log.warning("%s", error)
            continue
        for call in found:
            yield path, call


def _record(
    wheel: Package, path: str, meta: Mapping[str, Any], languages: Mapping[str, str]
) -> ModelRecord | None:
    name = meta["name"]
    if meta["open_weights"] is not True or str(name).startswith(_NO_MODELS):
        return None
    if not isinstance(name, str) or not re.fullmatch(r"[^\s/]+/[^\s/]+", name):
        raise ValueError(f"the name {name!r}")
    reference = meta.get("reference") or ""
    modalities = set(_told(meta.get("modalities")) or ["text"])
    kinds = set(_told(meta.get("model_type")) or ["dense"])
    framework = _framework(_told(meta.get("framework")) or [])
    family = family_in(name.partition("/")[2])
    base = _told(meta.get("adapted_from"))
    dimensions = _told(meta.get("embed_dim"))
    tokens = _told(meta.get("max_tokens"))
    params = _told(meta.get("n_parameters"))
    size = re.search(r"[-_](\d{3})(?:px)?$", name)
    image = modalities == {"image"}
    return record(
        f"mteb/{name}",
        Facts(
            wheel.source,
            path,
            {
                "modality": next(iter(modalities)) if len(modalities) == 1 else "multimodal",
                "framework": framework,
                "tags": tuple(sorted(kinds - {"dense"})),
                "paper_ids": _papers(meta.get("citation")),
                "origin_url": reference if reference.startswith("https://") else None,
                "hf_hub_id": name if _on_hub(name, reference) else None,
                "source_datasets": _source_datasets(meta.get("training_datasets")),
                "languages": _codes(_told(meta.get("languages")) or [], languages),
                "params": int(params) if params else None,
                "input_size": (int(tokens),)
                if tokens and math.isfinite(tokens) and "text" in modalities
                else None,
                "embed_dim": max(dimensions) if isinstance(dimensions, list) else dimensions,
                "base_model": base if base != name else None,
                "license": license_of(_license(meta.get("license")), "weights"),
            },
        ),
        Facts(
            wheel.source,
            path,
            {
                "task": _task(name, modalities, kinds, framework),
                "architecture": name.partition("/")[2],
                "family": family,
                "input_size": (3, int(size[1]), int(size[1])) if size and image else None,
            },
            derived=True,
        ),
    )


def _told(value: Any) -> Any:
    return None if value is UNKNOWN or isinstance(value, Call) else value


def _on_hub(name: str, reference: str) -> bool:
    return reference.lower().rstrip("/") == f"{_HUB}{name}".lower()


def _framework(names: list[str]) -> str | None:
    return next((ours for theirs, ours in _FRAMEWORKS.items() if theirs in names), None)


def _task(name: str, modalities: set[str], kinds: set[str], framework: str | None) -> str:
    if "cross-encoder" in kinds:
        return "text-ranking"
    if modalities == {"text"}:
        similar = framework == "sentence-transformers" and kinds == {"dense"}
        return "sentence-similarity" if similar else "feature-extraction"
    if modalities == {"image"}:
        return "image-feature-extraction"
    if modalities == {"image", "text"} and _CLIP.search(name) and kinds == {"dense"}:
        return "zero-shot-image-classification"
    return "feature-extraction"


def _license(raw: Any) -> str | None:
    return raw if isinstance(raw, str) and raw not in {"not specified", "multiple"} else None


def _papers(citation: Any) -> tuple[str, ...]:
    if not isinstance(citation, str):
        return ()
    pattern = r"(?:arxiv[:./ ]*(?:abs/|pdf/)?|eprint\s*=\s*[{\"])(\d{4}\.\d{4,5})"
    return tuple(dict.fromkeys(re.findall(pattern, citation, re.IGNORECASE)))


def _source_datasets(names: Any) -> tuple[SourceDataset, ...]:
    if not isinstance(names, set | frozenset):
        return ()
    found = {name.lower() for name in names if not _VARIANT.search(name)}
    return tuple(SourceDataset(id=name, role="finetune") for name in sorted(found))


def _codes(names: list[str], languages: Mapping[str, str]) -> tuple[str, ...]:
    """``eng-Latn`` is ``en``; of a language without a code of two letters the three stand."""
    codes = (name.partition("-")[0] for name in names if name.partition("-")[0].isalpha())
    return tuple(sorted({languages.get(code, code) for code in codes if len(code) == 3}))


def _languages(wheel: Package) -> dict[str, str]:
    table = wheel.json(ISO_CODES)
    if not isinstance(table, dict) or not all(isinstance(code, str) for code in table.values()):
        raise IntegrityError(f"{ISO_CODES} of {wheel.path} is no table of languages")
    return {three: two for two, three in table.items()}
