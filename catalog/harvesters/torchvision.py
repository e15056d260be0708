"""torchvision: every weights enum of the installed version, with the `meta` it carries."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from catalog.families import family_of, tags_of
from catalog.harvesters.timm import prefix_of
from catalog.licenses import license_of
from catalog.record import (
    Artifact,
    Evaluation,
    Modality,
    ModelRecord,
    Preprocess,
    Provenance,
    SourceDataset,
)

# By the package of `torchvision.models` that defines the builder. Optical flow is no pipeline tag.
_TASKS: dict[str, tuple[str | None, Modality]] = {
    "": ("image-classification", "image"),
    "quantization": ("image-classification", "image"),
    "segmentation": ("image-segmentation", "image"),
    "detection": ("object-detection", "image"),
    "video": ("video-classification", "video"),
    "optical_flow": (None, "video"),
}

_DATASETS = {
    "ImageNet-1K": "imagenet-1k",
    "COCO-val2017": "coco",
    "COCO-val2017-VOC-labels": "coco",
    "Kinetics-400": "kinetics-400",
}

# torchvision's name -> metric, unit, whether more is better.
_METRICS: dict[str, tuple[str, str, bool]] = {
    "acc@1": ("top1", "%", True),
    "acc@5": ("top5", "%", True),
    "box_map": ("box_map", "%", True),
    "kp_map": ("keypoint_map", "%", True),
    "mask_map": ("mask_map", "%", True),
    "miou": ("mean_iou", "%", True),
    "pixel_acc": ("pixel_accuracy", "%", True),
    "epe": ("end_point_error", "px", False),
    "per_image_epe": ("end_point_error", "px", False),
    "fl_all": ("fl_all", "%", False),
}
_MIB = 1024 * 1024


def harvest() -> Iterator[ModelRecord]:
    """A record for each member of each weights enum.

    `_ops` counts 1e9 multiply-accumulates, as torchvision's own table does (4.09 for ResNet-50).
    """
    import torchvision
    from torchvision import models

    package = f"torchvision {torchvision.__version__.partition('+')[0]}"
    seen: set[str] = set()
    for builder in models.list_models():
        module = models.get_model_builder(builder).__module__
        enum = models.get_model_weights(builder)
        for name in enum.__members__:  # with the aliases, of which DEFAULT is one
            weights = enum[name]
            uid = f"torchvision/{builder}.{weights.name}"
            if uid not in seen:
                seen.add(uid)
                yield _record(package, uid, builder, module, weights, enum.DEFAULT is weights)


def _record(
    package: str, uid: str, builder: str, module: str, weights: Any, default: bool
) -> ModelRecord:
    meta = weights.meta
    parts = module.split(".")
    task, modality = _TASKS[parts[2] if len(parts) == 4 else ""]
    if "keypoint_names" in meta:
        task = "keypoint-detection"
    elif builder.startswith("maskrcnn"):
        task = "image-segmentation"
    family = family_of(builder)
    tags = set(tags_of(family, builder))
    if module.endswith("optical_flow.raft"):
        tags.add("optical-flow")
    base = meta.get("unquantized")
    if base is not None:
        tags.add("quantized")
    if default:
        tags.add("default")
    labels = tuple(meta.get("categories") or ())
    imagenet = "ImageNet-1K" in meta["_metrics"]
    input_size, preprocess = _preprocess(weights.transforms())
    evals = tuple(_evaluations(task, meta, input_size))
    license_ = license_of(meta.get("license"), "weights") or license_of("bsd-3-clause", "project")
    said = ["framework", "architecture", "params", "gmacs", "artifacts", "evals", "license"]
    said += [name for name, value in (("num_classes", labels), ("preprocess", preprocess)) if value]
    derived = ("task", "modality", "family", "tags", "source_datasets", "label_set")
    return ModelRecord(
        uid=uid,
        task=task,
        modality=modality,
        framework="torchvision",
        architecture=builder,
        family=family,
        tags=tuple(sorted(tags)),
        origin_url=meta["recipe"],
        source_datasets=_source_datasets(weights.name, meta),
        num_classes=len(labels) or None,
        labels=() if imagenet else labels,
        label_set="imagenet-1k" if imagenet else None,
        params=meta["num_params"],
        gmacs=meta["_ops"],
        gmacs_at=input_size,
        input_size=input_size,
        preprocess=preprocess,
        base_model=f"torchvision/{builder.removeprefix('quantized_')}.{base.name}"
        if base
        else None,
        relation="quantized" if base else None,
        license=license_,
        evals=evals,
        artifacts=(_artifact(weights),),
        provenance=(
            Provenance(
                fields=(*said, "origin_url"),
                source=package,
                path=f"{'/'.join(parts[1:])}.py",
            ),
            Provenance(fields=derived, source=package, derived=True),
        ),
    )


def _artifact(weights: Any) -> Artifact:
    path = PurePosixPath(weights.url)
    return Artifact(
        path=path.name,
        format="pytorch",
        urls=(weights.url,),
        about_bytes=round(weights.meta["_file_size"] * _MIB),
        precision="int8" if "unquantized" in weights.meta else "fp32",
        digest=prefix_of(path),
        safe=False,
    )


def _preprocess(transforms: Any) -> tuple[tuple[int, ...] | None, Preprocess | None]:
    """The input size of image classifiers and their preprocessing; elsewhere it is free."""
    crop = getattr(transforms, "crop_size", None)
    if crop is None:
        return None, None
    if len(crop) != 1 or len(transforms.resize_size) != 1:  # video: no shorter side, or clips
        return (3, *crop) if len(crop) == 2 else None, None
    side, resize = crop[0], transforms.resize_size[0]
    return (3, side, side), Preprocess(
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
        crop_pct=_crop_pct(side, resize),
    )


def _crop_pct(side: int, resize: int) -> float:
    """The shortest fraction with ``floor(side / fraction) == resize``."""
    for digits in range(1, 9):
        scale: int = 10**digits
        fraction = int(side / resize * scale + 1e-9) / scale
        if fraction and int(side / fraction) == resize:
            return fraction
    raise AssertionError(f"no crop fraction for {side} of {resize}")


def _source_datasets(name: str, meta: Any) -> tuple[SourceDataset, ...]:
    found = [_DATASETS[key] for key in meta["_metrics"] if key in _DATASETS]
    if "SWAG" in name:
        last: list[SourceDataset] = [SourceDataset(id=found[0], role="finetune")]
        return (SourceDataset(id="instagram-3.6b", role="pretrain"), *last)
    if name.startswith("KINETICS400_IMAGENET22K"):
        return (
            SourceDataset(id="imagenet-22k", role="pretrain"),
            SourceDataset(id="kinetics-400", role="finetune"),
        )
    return tuple(SourceDataset(id=item, role="pretrain") for item in found)


def _evaluations(
    task: str | None, meta: Any, input_size: tuple[int, ...] | None
) -> Iterator[Evaluation]:
    for dataset, metrics in meta["_metrics"].items():
        for key, value in metrics.items():
            if not math.isfinite(value):
                continue
            metric, unit, more = _METRICS[key]
            yield Evaluation(
                task_type=task or "optical-flow",
                dataset=_DATASETS.get(dataset, re.sub(r"[^a-z0-9]+", "-", dataset.lower())),
                config="voc-labels" if dataset.endswith("VOC-labels") else None,
                split="validation" if dataset in _DATASETS else None,
                metric_type=metric,
                value=value,
                unit=unit,
                higher_is_better=more,
                eval_input_size=input_size,
                source_url=meta["recipe"],
            )
