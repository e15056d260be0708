"""Hailo Model Zoo: its description of each network, with what the files it builds on say.

`cfg/networks/<name>.yaml` names files of `cfg/base` that it continues; later values stand. Its
``operations`` count two for a multiply-accumulate (28.6e9 for a YOLOv8s) and are halved. The
license it names is that of the project a network is from, not of the weights.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.errors import IntegrityError, TlhubError
from catalog.families import family_of, tags_of
from catalog.harvesters.datasets import dataset_id
from catalog.harvesters.entries import Facts, each, record
from catalog.harvesters.figures import evaluations, gmacs, trained_on
from catalog.harvesters.markdown import count, number
from catalog.harvesters.package import Package
from catalog.licenses import license_of
from catalog.record import Artifact, License, Modality, ModelRecord

log = logging.getLogger(__name__)

REPOSITORY = "hailo-ai/hailo_model_zoo"
CONFIGS = "hailo_model_zoo/cfg"
_DEEPEST = 8  # a chain of files longer than this goes round

# Its name of a task -> task, modality, tag.
_TASKS: dict[str, tuple[str | None, Modality, str | None]] = {
    "classification": ("image-classification", "image", None),
    "object detection": ("object-detection", "image", None),
    "zero shot object detection": ("zero-shot-object-detection", "multimodal", None),
    "zero-shot classification": ("zero-shot-image-classification", "multimodal", None),
    "text_image_retrieval": ("zero-shot-image-classification", "multimodal", "retrieval"),
    "instance segmentation": ("image-segmentation", "image", "instance-segmentation"),
    "zero-shot instance segmentation": ("mask-generation", "image", None),
    "semantic segmentation": ("image-segmentation", "image", None),
    "face detection": ("object-detection", "image", "face-detection"),
    "face recognition": ("image-feature-extraction", "image", "face-recognition"),
    "face attribute": ("image-classification", "image", "face-attributes"),
    "person attribute": ("image-classification", "image", "person-attributes"),
    "person re-id": ("image-feature-extraction", "image", "person-reidentification"),
    "facial landmark detection": ("keypoint-detection", "image", "face-landmarks"),
    "hand landmark detection": ("keypoint-detection", "image", "hand-landmarks"),
    "pose estimation": ("keypoint-detection", "image", None),
    "single person pose estimation": ("keypoint-detection", "image", None),
    "depth estimation": ("depth-estimation", "image", None),
    "zero-shot depth estimation": ("depth-estimation", "image", None),
    "stereo depth estimation": ("depth-estimation", "image", "stereo"),
    "super resolution": ("image-to-image", "image", "super-resolution"),
    "image denoising": ("image-to-image", "image", "denoising"),
    "low light enhancement": ("image-to-image", "image", "low-light"),
    "text detection": ("object-detection", "image", "text-detection"),
    "text recognition": ("image-to-text", "image", "ocr"),
    "video classification": ("video-classification", "video", None),
}
# Several networks under one head: what it does is in the name.
_IN_NAMES: tuple[tuple[str, str], ...] = (
    (
        r"ssd|yolo|centernet|efficientdet|detr|nanodet|retinaface|scrfd|lightface",
        "object detection",
    ),
    (r"_attr_", "person attribute"),
    (r"arcface", "face recognition"),
    (r"lprnet", "text recognition"),
    (r"depth", "depth estimation"),
)
# Its name of a metric -> ours for a task, or for all others.
_METRICS: dict[tuple[str, str | None], str] = {
    ("mAP", "object-detection"): "box_map",
    ("mAP", "zero-shot-object-detection"): "box_map",
    ("mAP", "image-segmentation"): "mask_map",
    ("mAP-segmentation", "image-segmentation"): "mask_map",
    ("mAP", "keypoint-detection"): "keypoint_map",
    ("AP", "keypoint-detection"): "keypoint_map",
    ("Accuracy (top1)", None): "top1",
    ("Accuracy", "image-classification"): "top1",
    ("mIoU", None): "mean_iou",
    ("PSNR", None): "psnr",
    ("RMSE", None): "rmse",
    ("AbsRel", None): "abs_rel",
    ("EPE", None): "end_point_error",
    ("rank1", None): "rank1",
    ("lfw verification accuracy", None): "accuracy",
    ("Mean Accuracy", None): "mean_accuracy",
}
_UNSAID = {"", "n/a", "internal", "hailo internal", "none"}


def harvest(checkout: Path) -> Iterator[ModelRecord]:
    """A record for each file of weights; of networks that share one the shortest name stands."""
    files = Package.checkout(checkout, REPOSITORY)
    seen: set[str] = set()
    paths = files.matching(f"{CONFIGS}/networks/*.yaml")
    entries = ((path, path) for path in sorted(paths, key=lambda path: (len(path), path)))
    for found in each(entries, lambda path: _record(files, path), files.source):
        url = found.artifacts[0].urls[0]
        if url not in seen:
            seen.add(url)
            yield found


def _record(files: Package, path: str) -> ModelRecord | None:
    said = _continued(files, path)
    info, place = said["info"], said["paths"].get("url")
    if not place:
        return None
    name = PurePosixPath(path).stem
    task, modality, tag = _task(info.get("task"), name)
    size = _input_size(info.get("input_shape"))
    counted = gmacs(_count(info.get("operations")), unit=1, per_mac=2)
    if "text_encoder" in name:
        task, modality, size = "feature-extraction", "text", None
    dataset = _dataset(info.get("validation_data"))
    metric = _METRICS.get((info.get("eval_metric"), task)) or _METRICS.get(
        (info.get("eval_metric"), None)
    )
    figure = number(str(info.get("full_precision_result") or ""))
    figures = {metric: figure} if metric and modality != "text" else {}
    trained = _dataset(info.get("training_data"))
    labeled = task == "image-classification" and (trained, dataset) == ("imagenet-1k",) * 2
    family = family_of(re.sub(r"^tiny_(?=yolo)", "", name))
    source = str(info.get("source") or "")
    return record(
        f"hailo/{name}",
        Facts(
            REPOSITORY,
            path,
            {
                "framework": "hailo",
                "architecture": name,
                "origin_url": source if source.startswith("https://") else None,
                "source_datasets": trained_on(trained) if trained else (),
                "label_set": "imagenet-1k" if labeled else None,
                "num_classes": 1000 if labeled else None,
                "params": _count(info.get("parameters")),
                "gmacs": counted,
                "gmacs_at": size if counted else None,
                "input_size": size,
                "license": _license(info),
                "evals": evaluations(task, dataset, figures, size=size) if dataset else (),
                "artifacts": (
                    Artifact(path=PurePosixPath(place).name, format="archive", urls=(place,)),
                ),
            },
        ),
        Facts(
            REPOSITORY,
            path,
            {
                "task": task,
                "modality": modality,
                "family": family,
                "tags": tuple(sorted({*tags_of(family, name), *([tag] if tag else [])})),
            },
            derived=True,
        ),
    )


def _continued(files: Package, path: str, depth: int = 0) -> dict[str, Any]:
    """A file on top of those it continues.

    Raises:
        TlhubError: one of them is not there or no YAML.
    """
    if depth > _DEEPEST:
        raise IntegrityError(f"{path} continues itself")
    said = files.yaml(path)
    found: dict[str, Any] = {}
    for name in said.get("base") or ():
        try:
            found = _merged(found, _continued(files, f"{CONFIGS}/{name}", depth + 1))
        except TlhubError as error:
            log.warning("%s: %s continues what cannot be read: %s", files.source, path, error)
    return _merged(found, {key: value for key, value in said.items() if key != "base"})


def _merged(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(first)
    for key, value in then.items():
        before = found.get(key)
        both = isinstance(value, dict) and isinstance(before, dict)
        found[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return found


def _task(said: Any, name: str) -> tuple[str | None, Modality, str | None]:
    if said not in _TASKS:
        said = next((task for pattern, task in _IN_NAMES if re.search(pattern, name)), None)
    return _TASKS.get(said, (None, "image", None))


def _input_size(said: Any) -> tuple[int, ...] | None:
    """``224x224x3`` is height, width and channels."""
    match = re.match(r"(\d+)x(\d+)x(\d+)(?:$|,)", str(said))
    return (int(match[3]), int(match[1]), int(match[2])) if match else None


def _count(said: Any) -> int | None:
    return count(str(said)) if said else None


def _dataset(said: Any) -> str | None:
    plain = re.sub(r"\(.*?\)", "", str(said or "")).strip().lower()
    name = re.sub(r"[ -](?:train|val\w*|test)(?:\d{4})?$", "", plain)
    if name in _UNSAID:
        return None
    return "coco" if name.startswith("coco") else dataset_id(name)


def _license(info: Mapping[str, Any]) -> License | None:
    name, url = info.get("license_name"), str(info.get("license_url") or "")
    found = license_of(name, "project") if isinstance(name, str) else None
    if found is None or found.spdx is None or not url.startswith("https://"):
        return found
    return License(
        scope="project", spdx=found.spdx, raw=found.raw, url=url, commercial=found.commercial
    )
