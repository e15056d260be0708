"""open_clip: its pretrained image and text towers, from `pretrained.py` and `model_configs/`.

The project publishes a profile and zero-shot results of its models beside its wheel; both are
taken where they are given. The profile's GFLOPs count a multiply and an add as two (ViT-B/16's
image tower has 35.1, which is 17.6 GMACs), and are halved here.
"""

from __future__ import annotations

import ast
import csv
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.errors import DataError
from catalog.harvesters.modules import UNKNOWN, Call, Module, Modules
from catalog.harvesters.package import Package
from catalog.licenses import license_of
from catalog.record import (
    Artifact,
    Digest,
    Evaluation,
    ModelRecord,
    Preprocess,
    Provenance,
    SourceDataset,
)

log = logging.getLogger(__name__)

CONFIGS = "open_clip/pretrained.py"
PROFILE = "docs/model_profile.csv"
RESULTS = "docs/openclip_results.csv"
_PROJECT = "https://github.com/mlfoundations/open_clip/blob/main"
_TASK = "zero-shot-image-classification"

# What a tag says about the training data; the first that fits counts.
_DATASETS = (
    (r"mscoco_finetuned_laion2b", (("laion-2b", "pretrain"), ("coco", "finetune"))),
    (r"laion_aesthetic", (("laion-aesthetics", "pretrain"),)),
    (r"laion(2b|5b|400m)", (("laion-{}", "pretrain"),)),
    (r"datacomp1b", (("datacomp-1b", "pretrain"),)),
    (r"datacompdr", (("datacompdr-1b", "pretrain"),)),
    (r"datacomp_(xl|l|m|s)_", (("datacomp-{}", "pretrain"),)),
    (r"datacomp_s34b", (("datacomp-1b", "pretrain"),)),
    (r"commonpool_(xl|l|m|s)_", (("commonpool-{}", "pretrain"),)),
    (r"(yfcc|cc)(15m|12m)", (("{}-{}", "pretrain"),)),
    (r"metaclip_400m", (("metaclip-400m", "pretrain"),)),
    (r"metaclip_fullcc", (("metaclip-2pt5b", "pretrain"),)),
    (r"metaclip2_worldwide", (("metaclip2-worldwide", "pretrain"),)),
    (r"(dfn|dfndr)(2b|5b)", (("{}-{}", "pretrain"),)),
    (r"merged2b", (("merged-2b", "pretrain"),)),
    (r"webli", (("webli", "pretrain"),)),
    (r"openai", (("wit-400m", "pretrain"),)),
)

# Columns of the results -> data set, task, metric.
_COLUMNS = {
    "ImageNet 1k": ("imagenet-1k", _TASK, "top1"),
    "ImageNet v2": ("imagenet-v2", _TASK, "top1"),
    "ImageNet-A": ("imagenet-a", _TASK, "top1"),
    "ImageNet-R": ("imagenet-r", _TASK, "top1"),
    "ObjectNet": ("objectnet", _TASK, "top1"),
    "Average perf. on 38 datasets": ("datacomp-38", _TASK, "average"),
}


def harvest(
    package: Path, *, profile: Path | None = None, results: Path | None = None
) -> Iterator[ModelRecord]:
    """A record for each pretrained tag; the `-quickgelu` names of some are the same weights.

    Args:
        package: the wheel of open_clip_torch, or the folder it is unpacked in.
        profile: open_clip's `docs/model_profile.csv`, where there is one.
        results: open_clip's `docs/openclip_results.csv`, where there is one.

    Raises:
        TlhubError: the package cannot be read.
        DataError: a table is not what it should be.
    """
    wheel = Package.open(package)
    source = Modules(wheel).module(CONFIGS)
    profiles = _read(profile, PROFILE, ("model",)) if profile else {}
    evaluated = _read(results, RESULTS, ("name", "pretrained")) if results else {}
    models = source.get("_PRETRAINED")
    seen: dict[str, str | None] = {}  # repository -> the URL of the weights said to be in it
    for model, tags in models.items() if isinstance(models, dict) else ():
        if not isinstance(tags, dict):
            log.warning("%s: %r cannot be told", CONFIGS, model)
            continue
        for tag, call in tags.items():
            try:
                config = _config(source, call)
                if seen.setdefault(config["hf_hub"], config["url"]) != config["url"]:
                    config["hf_hub"] = ""  # another tag's weights: a slip in the table
                name = f"{model}-quickgelu" if config.get("quick_gelu") else model
                result = evaluated.get((name, tag)) or evaluated.get((model, tag))
                yield _record(wheel, model, tag, config, profiles.get((model,)), result)
            except (DataError, KeyError, TypeError, ValueError) as error:
                log.warning("%s: %s, %s is no model (%r)", CONFIGS, model, tag, error)


def _config(source: Module, call: Any) -> dict[str, Any]:
    """The values of a call such as ``_pcfg(hf_hub=..., quick_gelu=True)`` over its defaults."""
    if not isinstance(call, Call):
        raise TypeError(f"{call!r} is no configuration")
    found: dict[str, Any] = {}
    for node in source.tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == call.function:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and isinstance(inner.value, ast.Dict):
                    pairs = zip(inner.value.keys, inner.value.values, strict=True)
                    found |= {source.value(k): source.value(v) for k, v in pairs if k is not None}
    found |= {"url": "", "hf_hub": "", **call.keywords}
    if not (found["url"] or found["hf_hub"]) or UNKNOWN in found.values():
        raise ValueError(f"{found!r} does not say where the weights are")
    return found


def _record(
    wheel: Package,
    model: str,
    tag: str,
    config: Mapping[str, Any],
    profile: Mapping[str, str] | None,
    result: Mapping[str, str] | None,
) -> ModelRecord:
    path = f"open_clip/model_configs/{model}.json"
    shape = wheel.json(path) if path in wheel.names else {}
    size = _size(shape)
    tower = shape.get("vision_cfg", {}).get("timm_model_name")
    repository = str(config["hf_hub"]).rstrip("/")
    owner_and_name = "/".join(repository.split("/")[:2])
    datasets = _source_datasets(tag)
    evals = tuple(_evaluations(result or {}, size))
    family = _family(model)
    quick = ["quickgelu"] if config.get("quick_gelu") else []
    said = ("framework", "architecture", "preprocess", "license", "artifacts")
    provenance = [
        Provenance(fields=said, source=wheel.source, path=CONFIGS),
        Provenance(
            fields=("task", "modality", "family", "tags", "source_datasets"),
            source=wheel.source,
            derived=True,
        ),
    ]
    if shape:
        fields = ("input_size", "embed_dim")
        provenance.append(Provenance(fields=fields, source=wheel.source, path=path))
    counts = _counts(profile, result)
    if counts:
        fields, table = ("params", "gmacs"), PROFILE if profile else RESULTS
        provenance.append(Provenance(fields=fields, source="mlfoundations/open_clip", path=table))
    if evals:
        provenance.append(
            Provenance(fields=("evals",), source="mlfoundations/open_clip", path=RESULTS)
        )
    return ModelRecord(
        uid=f"open_clip/{model}/{tag}",
        task=_TASK,
        modality="multimodal",
        framework="open_clip",
        architecture=model,
        family=family,
        description=f"Image tower: {tower} of timm." if tower else None,
        tags=("clip", *quick, *(() if re.match(r"RN|convnext", model) else ("transformer",))),
        origin_url=f"https://huggingface.co/{owner_and_name}" if repository else None,
        # timm keeps the image tower alone in these repositories too, as other files.
        hf_hub_id=owner_and_name if repository and not repository.startswith("timm/") else None,
        source_datasets=datasets,
        params=counts[0] if counts else None,
        gmacs=counts[1] if counts else None,
        gmacs_at=size if counts else None,
        input_size=size,
        preprocess=Preprocess(
            mean=config["mean"],
            std=config["std"],
            interpolation=config["interpolation"],
            resize_mode=config["resize_mode"],
        ),
        embed_dim=shape.get("embed_dim"),
        license=license_of(wheel.license, "project"),
        evals=evals,
        artifacts=tuple(_artifacts(config)),
        provenance=tuple(provenance),
    )


def _counts(
    profile: Mapping[str, str] | None, result: Mapping[str, str] | None
) -> tuple[int, float] | None:
    """Parameters and 1e9 multiply-accumulates of both towers, from whichever table has them."""
    if profile:
        millions, flops = profile["mparams"], profile["gflops"]
    elif result and result.get("params (M)"):
        millions, flops = result["params (M)"], result["FLOPs (B)"]
    else:
        return None
    return round(float(millions) * 1e6), round(float(flops) / 2, 4)


def _size(shape: Mapping[str, Any]) -> tuple[int, ...] | None:
    side = shape.get("vision_cfg", {}).get("image_size")
    if isinstance(side, int):
        return (3, side, side)
    return (3, *side) if isinstance(side, list) else None


def _family(model: str) -> str:
    for family in ("siglip", "coca", "mobileclip", "eva", "vitamin", "nllb"):
        if family in model.lower():
            return {"eva": "eva-clip", "nllb": "nllb-clip"}.get(family, family)
    return "perception-encoder" if model.startswith("PE-") else "clip"


def _source_datasets(tag: str) -> tuple[SourceDataset, ...]:
    for pattern, found in _DATASETS:
        match = re.search(pattern, tag)
        if match:
            return tuple(
                SourceDataset(id=name.format(*match.groups()), role=role)  # type: ignore[arg-type]
                for name, role in found
            )
    return ()


def _artifacts(config: Mapping[str, Any]) -> Iterator[Artifact]:
    """The file on the hub, which open_clip prefers, then the one at a URL."""
    hub = str(config["hf_hub"])
    if hub:
        repository, _, file = hub.rpartition("/")
        # Without a file name open_clip takes this one, or a pickle where there is none.
        file = file or "open_clip_model.safetensors"
        safe = file.endswith(".safetensors")
        yield Artifact(
            path=file,
            format="safetensors" if safe else "pytorch",
            urls=(f"hf:{repository}@main!{file}",),
            safe=safe,
        )
    if config["url"]:
        url = PurePosixPath(config["url"])
        yield Artifact(
            path=url.name,
            format="pytorch",
            urls=(config["url"],),
            digest=_digest(config["url"]),
            safe=False,
        )


def _digest(url: str) -> Digest | None:
    """The SHA-256 in a URL, as open_clip itself checks it: a folder, or the end of a name."""
    match = re.search(r"openaipublic.*/([0-9a-f]{64})/|mlfoundations.*-([0-9a-f]{8})\.pth?$", url)
    if match is None:
        return None
    value = match[1] or match[2]
    return Digest(algorithm="sha256", value=value, prefix=len(value) < 64)


def _evaluations(result: Mapping[str, str], size: tuple[int, ...] | None) -> Iterator[Evaluation]:
    for column, (dataset, task, metric) in _COLUMNS.items():
        if result.get(column):
            yield Evaluation(
                task_type=task,
                dataset=dataset,
                config="zero-shot",
                metric_type=metric,
                value=round(float(result[column]) * 100, 2),
                unit="%",
                eval_input_size=size,
                source_url=f"{_PROJECT}/{RESULTS}",
            )


def _read(path: Path, name: str, keys: tuple[str, ...]) -> dict[tuple[str, ...], dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path} is no table: {error}") from error
    if not rows or not set(keys) <= set(rows[0]):
        raise DataError(
            f"{path} is not open_clip's {name}", hint=f"the table is at {_PROJECT}/{name}"
        )
    return {tuple(row[key] for key in keys): row for row in rows}
