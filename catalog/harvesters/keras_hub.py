"""keras-hub: its presets, from the tables in `*_presets.py`.

A preset says what it is in a sentence, how many parameters its backbone has and its
handle on Kaggle. Task, sizes, data sets and languages are read from that sentence and the names.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catalog.errors import TlhubError
from catalog.families import tags_of
from catalog.harvesters.datasets import datasets_in
from catalog.harvesters.entries import Facts, each, record
from catalog.harvesters.modules import Modules
from catalog.harvesters.package import Package
from catalog.licenses import license_of
from catalog.record import Modality, ModelRecord, SourceDataset

log = logging.getLogger(__name__)

_KAGGLE = "https://www.kaggle.com/models/"

# By the folder of the architecture. Where it does not say enough, `_task` looks at the name.
_TASKS: dict[str, tuple[str, Modality]] = {
    **dict.fromkeys(
        "albert bert deberta_v3 distil_bert f_net roberta roformer_v2 xlm_roberta".split(),  # noqa: SIM905
        ("fill-mask", "text"),
    ),
    **dict.fromkeys(["electra", "esm", "xlnet"], ("feature-extraction", "text")),
    **dict.fromkeys(
        "cspnet deit densenet efficientnet hgnetv2 mobilenet mobilenetv5 resnet".split()  # noqa: SIM905
        + "swin_transformer vgg vit xception".split(),  # noqa: SIM905
        ("image-classification", "image"),
    ),
    **dict.fromkeys(["dinov2", "dinov3", "mit", "vit_det"], ("image-feature-extraction", "image")),
    **dict.fromkeys(["d_fine", "retinanet"], ("object-detection", "image")),
    **dict.fromkeys(["basnet", "deeplab_v3", "segformer"], ("image-segmentation", "image")),
    **dict.fromkeys(
        ["clip", "metaclip_2", "siglip"], ("zero-shot-image-classification", "multimodal")
    ),
    **dict.fromkeys(["moonshine", "whisper"], ("automatic-speech-recognition", "audio")),
    **dict.fromkeys(
        "bloom falcon gemma gpt2 gpt_neo_x gpt_oss llama llama3 mistral mixtral opt phi3".split()  # noqa: SIM905
        + "qwen qwen3 qwen3_moe qwen_moe rwkv7 smollm3 bart t5 t5gemma".split(),  # noqa: SIM905
        ("text-generation", "text"),
    ),
    **dict.fromkeys(
        "blip2 gemma3 gemma3n gemma4 pali_gemma qwen3_5 qwen3_5_moe t5gemma2".split(),  # noqa: SIM905
        ("image-text-to-text", "multimodal"),
    ),
    **dict.fromkeys(["flux", "stable_diffusion_3"], ("text-to-image", "text")),
    "depth_anything": ("depth-estimation", "image"),
    "parseq": ("image-to-text", "image"),
    "sam": ("mask-generation", "image"),
    "sam3": ("mask-generation", "image"),
    "video_prism": ("feature-extraction", "video"),
}
_SENTENCES = re.compile(r"minilm|mpnet|bge_|mxbai|embedding|e5_|gte_|sentence", re.IGNORECASE)

# What prose calls data sets that no image model has.
_TEXTS = (
    (r"Wikipedia", "wikipedia"),
    (r"Boo(?:ks|k)Corpus", "bookcorpus"),
    (r"\bC4\b", "c4"),
    (r"CommonCrawl|Common Crawl|CC-?100", "common-crawl"),
    (r"OpenWebText", "openwebtext"),
    (r"WebText", "webtext"),
    (r"UniRef50", "uniref50"),
    (r"LVD-1689M", "lvd-1689m"),
    (r"SAT-493M", "sat-493m"),
    (r"SA-?1B", "sa-1b"),
    (r"WebLi", "webli"),
    (r"Objects365", "objects365"),
    (r"Pascal VOC", "pascal-voc-2012"),
    (r"MS MARCO", "msmarco"),
    (r"laion2b", "laion-2b"),
    (r"(?i)imagenet_?21k", "imagenet-21k"),
    (r"(?i)imagenet_?12k|in12k", "imagenet-12k"),
    (r"xP3", "xp3"),
    (r"DUTS", "duts"),
)
_TUNED = (
    (r"SST-2", "sst2"),
    (r"(?i)fine-?tuned on (?:the )?CNN", "cnn-dailymail"),
    (r"xP3", "xp3"),
)


def harvest(package: Path) -> Iterator[ModelRecord]:
    """A record for each preset.

    Args:
        package: the wheel of keras-hub, or the folder it is unpacked in.

    Raises:
        TlhubError: the package cannot be read.
    """
    wheel = Package.open(package)
    entries = ((f"{path}, {name}", (path, name, entry)) for path, name, entry in _presets(wheel))
    seen: set[str] = set()

    def make(entry: tuple[str, str, Mapping[str, Any]]) -> ModelRecord | None:
        found = _record(wheel, *entry)
        if found.uid in seen:  # a table put together from others
            return None
        seen.add(found.uid)
        return found

    yield from each(entries, make, wheel.source)


def _presets(wheel: Package) -> Iterator[tuple[str, str, Any]]:
    modules = Modules(wheel)
    for path in wheel.matching("keras_hub/*_presets.py"):
        try:
            module = modules.module(path)
        except TlhubError as error:
            log.warning("%s", error)
            continue
        for table in module.names:
            found = module.get(table)
            if not table.endswith(("presets", "weights")):
                continue
            if not isinstance(found, dict):
                log.warning("%s: the table %s cannot be told", path, table)
                continue
            for name, entry in found.items():
                yield path, name, entry


def _record(wheel: Package, path: str, name: str, entry: Mapping[str, Any]) -> ModelRecord:
    meta, handle = entry["metadata"], entry["kaggle_handle"]
    if not isinstance(handle, str) or not re.fullmatch(r"kaggle://[\w./+-]+", handle):
        raise ValueError(f"the handle {handle!r}")
    folder = path.split("/")[-2]
    said = " ".join(meta["description"].split())
    task, modality = _task(folder, name, said)
    text = modality == "text"
    language = re.search(r"_(en|zh|ja|vi)(?:_|$)", name) if modality in {"text", "audio"} else None
    return record(
        f"keras-hub/{name}",
        Facts(
            wheel.source,
            path,
            {
                "framework": "keras-hub",
                "architecture": meta["path"],
                "description": said,
                "params": meta["params"],
                "origin_url": _KAGGLE + handle.removeprefix("kaggle://"),
                "license": license_of(wheel.license, "project"),
            },
        ),
        Facts(
            wheel.source,
            path,
            {
                "task": task,
                "modality": modality,
                "family": folder.rstrip("_").replace("_", "-"),
                "tags": tags_of(folder, name),
                "source_datasets": _source_datasets(name, said),
                "label_set": _label_set(task, name, said),
                "num_classes": 1000 if _label_set(task, name, said) else None,
                "input_size": None if text else _size(name, said),
                "languages": (language[1],) if language else (),
                "embed_dim": _dimensions(said),
            },
            derived=True,
        ),
    )


def _task(folder: str, name: str, said: str) -> tuple[str | None, Modality]:
    unknown: tuple[str | None, Modality] = (None, "text")
    task, modality = _TASKS.get(folder, unknown)
    if modality == "text" and _SENTENCES.search(name):
        return "sentence-similarity", "text"
    if "sst2" in name:
        return "text-classification", "text"
    if "_cnn" in name and folder == "bart":
        return "summarization", "text"
    if folder == "gemma3" and "text" in name:
        return "text-generation", "text"
    if folder in {"vit", "hgnetv2"} and "backbone pre-trained" in said:
        return "image-feature-extraction", "image"
    return task, modality


def _source_datasets(name: str, said: str) -> tuple[SourceDataset, ...]:
    prose = f"{said} {name}"
    tuned = [found for pattern, found in _TUNED if re.search(pattern, prose)]
    found = [item for pattern, item in _TEXTS if re.search(pattern, prose)]
    before = dict.fromkeys([*datasets_in(said), *found])
    if "objects365" in before and "coco" in before:
        tuned.append("coco")
    return (
        *(SourceDataset(id=item, role="pretrain") for item in before if item not in tuned),
        *(SourceDataset(id=item, role="finetune") for item in tuned),
    )


def _label_set(task: str | None, name: str, said: str) -> str | None:
    large = re.search(r"21k|12k", f"{name} {said}", re.IGNORECASE)
    known = task == "image-classification" and "imagenet" in name.lower() and not large
    return "imagenet-1k" if known else None


def _size(name: str, said: str) -> tuple[int, int, int] | None:
    match = (
        re.search(r"(\d{3,4}) ?x ?\d{3,4}", said)
        or re.search(r"image (?:size|resolution)(?: of)? (\d{3,4})", said)
        or re.search(r"_(224|256|288|320|336|384|448|512|640|896|1024)(?:_|$)", name)
    )
    return (3, int(match[1]), int(match[1])) if match else None


def _dimensions(said: str) -> int | None:
    match = re.search(r"(\d+)-dimensional", said)
    return int(match[1]) if match else None
