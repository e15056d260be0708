"""timm: every pretrained tag of the installed version, with its published ImageNet results.

What timm's own `PretrainedCfg` says is taken as said. Parameters and multiply-accumulates are
counted (see `catalog.harvesters.counting`); task, source data sets, family and tags are read from
names and marked as derived.
"""

from __future__ import annotations

import csv
import itertools
import logging
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from catalog.errors import DataError
from catalog.families import family_of, tags_of
from catalog.harvesters.counting import CountCache, Counts
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

RESULTS = "results/results-imagenet.csv"
RESULTS_URL = f"https://github.com/huggingface/pytorch-image-models/blob/main/{RESULTS}"

# `num_classes` of heads that classify; other values are the width of an embedding.
_IN1K = 1000
_CLASSIFIERS = {_IN1K, 11221, 11821, 19168, 21841, 21842, 21843, 115217}

# What the parts of a tag say about the training data: `augreg_in21k_ft_in1k`.
_DATASETS = {
    "in1k": "imagenet-1k",
    "in12k": "imagenet-12k",
    "in21k": "imagenet-21k",
    "inw21k": "imagenet-21k",
    "in22k": "imagenet-22k",
    "jft": "jft-300m",
    "ig1b": "instagram-1b",
    "yfcc100m": "yfcc-100m",
    "yfcc15m": "yfcc-15m",
    "cc12m": "cc-12m",
    "laion2b": "laion-2b",
    "laion400m": "laion-400m",
    "laiona": "laion-aesthetics",
    "openai": "wit-400m",
    "datacomp1b": "datacomp-1b",
    "datacompxl": "datacomp-xl",
    "webli": "webli",
    "dfn2b": "dfn-2b",
    "dfn5b": "dfn-5b",
    "dfndr2b": "dfndr-2b",
    "lvd142m": "lvd-142m",
    "lvd1689m": "lvd-1689m",
    "sat493m": "sat-493m",
    "sa1b": "sa-1b",
    "merged2b": "merged-2b",
    "m30m": "merged-30m",
    "m38m": "merged-38m",
    "bamboo": "bamboo",
}


def harvest(
    *,
    results: Path | None = None,
    counts: Path | None = None,
    count: bool = True,
    pattern: str = "",
) -> Iterator[ModelRecord]:
    """A record for each set of pretrained weights.

    Args:
        results: timm's `results-imagenet.csv`, where there is one.
        counts: a file that keeps the counts between builds; counting all takes ten minutes.
        count: False leaves out ``params`` and ``gmacs``.
        pattern: only the tags that match, as in `timm.list_models`.

    Raises:
        DataError: ``results`` is not the table it should be.
    """
    import timm

    package = f"timm {timm.__version__}"
    evals = _read_results(results) if results is not None else {}
    cache = CountCache(counts) if count else None
    configs: dict[str, Any] = {
        name: timm.get_pretrained_cfg(name) for name in timm.list_models(pattern, pretrained=True)
    }
    names = sorted(configs, key=lambda n: (configs[n].hf_hub_id or n, "quickgelu" not in n, n))
    # Two architectures over one repository are the same weights; the one with the activation
    # they were trained with comes first and stands for both.
    for _, group in itertools.groupby(names, key=lambda n: configs[n].hf_hub_id or n):
        name, *others = group
        config = configs[name]
        counted = None
        if cache is not None:
            # By tag, not by architecture: a tag can build its architecture in its own way.
            counted = cache.get(f"{package} {name}", _builder(name), tuple(config.input_size))
        record = _record(package, name, config, counted, evals.get(name, ()))
        first: Any = timm.get_pretrained_cfg(config.architecture)
        default = first.tag == config.tag
        kind = "test" if config.architecture.startswith("test_") else "default" if default else None
        tags = (*record.tags, kind) if kind else record.tags
        also = tuple(f"timm/{other}" for other in others)
        yield msgspec.structs.replace(record, also=also, tags=tags)


def _builder(name: str) -> Any:
    import timm

    return lambda: timm.create_model(name, pretrained=False)


def _record(
    package: str,
    name: str,
    config: Any,
    counted: Counts | None,
    evals: tuple[Evaluation, ...],
) -> ModelRecord:
    classifies = config.num_classes in _CLASSIFIERS
    input_size = tuple(config.input_size)
    preprocess = _preprocess(config)
    license_ = license_of(config.license, "weights")
    artifacts = _artifacts(config, counted)
    datasets = _source_datasets(config.tag or "")
    family = family_of(config.architecture)
    papers = tuple(re.findall(r"arXiv:([\d.]+)", config.paper_ids or ""))
    said = {
        "framework": True,
        "architecture": True,
        "input_size": True,
        "preprocess": preprocess,
        "num_classes": classifies,
        "head": isinstance(config.classifier, str),
        "stem": isinstance(config.first_conv, str),
        "license": license_,
        "origin_url": config.origin_url,
        "paper_ids": papers,
        "hf_hub_id": config.hf_hub_id,
        "artifacts": artifacts,
    }
    derived = {
        "task": True,
        "modality": True,
        "family": True,
        "tags": True,
        "source_datasets": datasets,
        "label_set": config.num_classes == _IN1K,
        "params": counted,
        "gmacs": counted and counted.gmacs,
        "artifacts.about_bytes": counted and artifacts,
    }
    provenance = [
        Provenance(fields=_named(said), source=package, path=f"models/{_module(config)}.py"),
        Provenance(fields=_named(derived), source=package, derived=True),
    ]
    if evals:
        provenance.append(
            Provenance(fields=("evals",), source="huggingface/pytorch-image-models", path=RESULTS)
        )
    return ModelRecord(
        uid=f"timm/{name}",
        task="image-classification" if classifies else "image-feature-extraction",
        modality="image",
        framework="timm",
        architecture=config.architecture,
        family=family,
        tags=tags_of(family, config.architecture),
        paper_ids=papers,
        origin_url=config.origin_url or None,
        hf_hub_id=config.hf_hub_id or None,
        source_datasets=datasets,
        num_classes=config.num_classes if classifies else None,
        label_set="imagenet-1k" if config.num_classes == _IN1K else None,
        params=counted.params if counted else None,
        gmacs=counted.gmacs if counted else None,
        gmacs_at=input_size if counted and counted.gmacs else None,
        input_size=input_size,
        preprocess=preprocess,
        head=config.classifier if said["head"] else None,
        stem=config.first_conv if said["stem"] else None,
        license=license_,
        # The figure at the size the weights are used at comes first, the record's `top1`.
        evals=tuple(sorted(evals, key=lambda e: e.eval_input_size != input_size)),
        artifacts=artifacts,
        provenance=tuple(provenance),
    )


def _named(fields: dict[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, present in fields.items() if present)


def _module(config: Any) -> str:
    import timm

    return str(timm.models.model_entrypoint(config.architecture).__module__).rpartition(".")[2]


def _preprocess(config: Any) -> Preprocess | None:
    modes = {"center": "shortest", "squash": "squash"}
    if config.crop_mode not in modes:  # `border` pads, which a `Preprocess` cannot say
        return None
    return Preprocess(
        mean=tuple(config.mean),
        std=tuple(config.std),
        interpolation=config.interpolation,
        crop_pct=config.crop_pct,
        resize_mode=modes[config.crop_mode],  # type: ignore[arg-type]
    )


def _artifacts(config: Any, counted: Counts | None) -> tuple[Artifact, ...]:
    about = counted.params * 4 if counted else None  # fp32, without buffers
    found = []
    if (config.hf_hub_id or "").startswith("timm/"):
        found.append(
            Artifact(
                path="model.safetensors",
                format="safetensors",
                urls=(f"hf:{config.hf_hub_id}@main!model.safetensors",),
                about_bytes=about,
                safe=True,
            )
        )
    if (config.url or "").startswith("https://"):
        path = PurePosixPath(config.url.partition("?")[0])
        formats = {".safetensors": "safetensors", ".npz": "numpy"}
        found.append(
            Artifact(
                path=path.name,
                format=formats.get(path.suffix, "pytorch"),
                urls=(config.url,),
                about_bytes=about,
                digest=prefix_of(path),
                safe=path.suffix == ".safetensors",
            )
        )
    return tuple(found)


def prefix_of(path: PurePosixPath) -> Digest | None:
    """The start of the SHA-256 that torch.hub's convention puts in a name: ``net-0aa007d2.pth``."""
    match = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    if match is None or path.suffix not in {".pth", ".pt"}:
        return None
    return Digest(algorithm="sha256", value=match[1], prefix=len(match[1]) < 64)


def _source_datasets(tag: str) -> tuple[SourceDataset, ...]:
    before, _, after = tag.partition("ft_")
    found = []
    for role, part in (("pretrain", before), ("finetune", after)):
        words = part.split("_")
        names = [_DATASETS[word] for word in words if word in _DATASETS]
        if "metaclip" in words:
            names += [f"metaclip-{size}" for size in ("400m", "2pt5b") if size in words]
        found += [SourceDataset(id=name, role=role) for name in names]  # type: ignore[arg-type]
    return tuple(found)


def _read_results(path: Path) -> dict[str, tuple[Evaluation, ...]]:
    found: dict[str, tuple[Evaluation, ...]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream), 2):
            try:
                size = int(row["img_size"])
                figures = [("top1", float(row["top1"])), ("top5", float(row["top5"]))]
                name = row["model"]
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{path}, line {number}: not a row of timm's results ({error!r})",
                    hint=f"the table is at {RESULTS_URL}",
                ) from error
            found[name] = (
                *found.get(name, ()),
                *(
                    Evaluation(
                        task_type="image-classification",
                        dataset="imagenet-1k",
                        split="validation",
                        metric_type=metric,
                        value=value,
                        unit="%",
                        eval_input_size=(3, size, size),
                        source_url=RESULTS_URL,
                    )
                    for metric, value in figures
                ),
            )
    return found
