"""GluonCV: the digests in its two model stores, joined with the tables of its model zoo.

`model_store.py` has pairs ``('<sha1>', '<name>')``; the file is at
``<host>/gluon/models/<name>-<sha1[:8]>.zip`` (MXNet, a zip of the one ``.params`` the SHA-1 is of)
or ``<host>/torch/models/<name>-<sha1[:8]>.pth``. The tables in `docs/model_zoo/csv_tables` have
figures by name, for some with the first digits of the digest.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.errors import TlhubError
from catalog.families import family_of, tags_of
from catalog.harvesters.entries import Facts, each, project_license, record
from catalog.harvesters.figures import evaluations, trained_on
from catalog.harvesters.markdown import number
from catalog.harvesters.package import Package
from catalog.record import Artifact, Digest, License, Modality, ModelRecord

log = logging.getLogger(__name__)

REPOSITORY = "dmlc/gluon-cv"
TABLES = "docs/model_zoo/csv_tables"
_HOST = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com"


@dataclass(frozen=True)
class _Store:
    """One of the stores: where its list is, its URLs, and which tables are of it."""

    path: str
    url: str
    format: str
    torch: bool


_STORES = (
    _Store(
        "gluoncv/model_zoo/model_store.py",
        f"{_HOST}/gluon/models/{{0}}.zip!{{0}}.params",
        "mxnet",
        False,
    ),
    _Store(
        "gluoncv/torch/model_zoo/model_store.py", f"{_HOST}/torch/models/{{0}}.pth", "pytorch", True
    ),
)
# How a name starts -> task, modality, tag.
_KINDS: tuple[tuple[str, str | None, Modality, str | None], ...] = (
    (r"ssd|yolo3|faster_rcnn|center_net", "object-detection", "image", None),
    (r"mask_rcnn", "image-segmentation", "image", "instance-segmentation"),
    (r"fcn|psp|deeplab|icnet|fastscnn|danet", "image-segmentation", "image", None),
    (r"(?:simple|mobile|alpha)_pose|directpose", "keypoint-detection", "image", None),
    (r"monodepth2_resnet18_posenet", None, "image", "visual-odometry"),
    (r"monodepth2", "depth-estimation", "image", None),
    (r"siamrpn|smot", None, "video", "tracking"),
    (r".*_(?:kinetics\d00|ucf101|hmdb51|sthsthv2)$", "video-classification", "video", None),
    (r"", "image-classification", "image", None),
)
# What a name has in it -> data set, classes. The first that is found.
_DATASETS: tuple[tuple[str, str, int | None], ...] = (
    (r"^cifar", "cifar10", 10),
    (r"_coco$|_pose_", "coco", None),
    (r"_voc$", "pascal-voc-2012", None),
    (r"_ade$", "ade20k", 150),
    (r"_citys$", "cityscapes", 19),
    (r"_mhpv1$", "mhp-v1", None),
    (r"_kitti_", "kitti", None),
    (r"_kinetics400$", "kinetics-400", 400),
    (r"_kinetics700$", "kinetics-700", 700),
    (r"_ucf101$", "ucf101", 101),
    (r"_hmdb51$", "hmdb51", 51),
    (r"_sthsthv2$", "something-something-v2", 174),
)
# Folder and start of a table -> the data set of its figures.
_TESTED = {
    "Classifications/": "imagenet-1k",
    "Detections/MSCOCO": "coco",
    "Detections/Pascal": "pascal-voc-2007",
    "Segmentations/IS_MS-COCO": "coco",
    "Segmentations/SS_MS-COCO": "coco",
    "Segmentations/SS_ADE20K": "ade20k",
    "Segmentations/SS_Cityscapes": "cityscapes",
    "Segmentations/SS_MHP-V1": "mhp-v1",
    "Segmentations/SS_Pascal-VOC": "pascal-voc-2012",
    "Action_Recognitions/Kinetics400": "kinetics-400",
    "Action_Recognitions/Kinetics700": "kinetics-700",
    "Action_Recognitions/UCF101": "ucf101",
    "Action_Recognitions/HMDB51": "hmdb51",
    "Action_Recognitions/Something": "something-something-v2",
    "Poses/": "coco",
    "Depths/KITTI": "kitti",
}
# Column -> metric. Of `37.0/57.8/39.6` the first is meant.
_COLUMNS = {
    "Top-1": "top1",
    "Top-5": "top5",
    "Box AP": "box_map",
    "mAP": "map",
    "mAP(Orig/F)": "map",
    "Segm AP": "mask_map",
    "pixAcc": "pixel_accuracy",
    "mIoU": "mean_iou",
    "OKS AP": "keypoint_map",
    "Abs. Rel. Error": "abs_rel",
}


@dataclass(frozen=True)
class _Figures:
    """A row of a table: of which weights, tested on what, at which size, the figures."""

    table: str
    name: str
    hashtag: str | None
    dataset: str
    size: tuple[int, ...] | None
    said: Mapping[str, float | None]


def harvest(checkout: Path) -> Iterator[ModelRecord]:
    """A record for each digest in the stores."""
    files = Package.checkout(checkout, REPOSITORY)
    figures = list(_figures(files))
    license_ = project_license(files)
    for store in _STORES:
        try:
            pairs = re.findall(r"\(\s*'(\w+)',\s*'([^']+)'\s*\)", files.text(store.path))
        except TlhubError as error:
            log.warning("%s: %s", files.source, error)
            continue
        entries = ((f"{store.path}, {name}", (store, sha1, name)) for sha1, name in pairs)
        yield from each(entries, lambda entry: _record(*entry, figures, license_), files.source)


def _figures(files: Package) -> Iterator[_Figures]:
    for path in files.matching(f"{TABLES}/*.csv"):
        place = path.removeprefix(f"{TABLES}/")
        dataset = next((found for start, found in _TESTED.items() if place.startswith(start)), None)
        if dataset is None or "CIFAR" in place:  # CIFAR's rows have two trainings in one
            continue
        try:
            table = files.rows(path)
        except TlhubError as error:
            log.warning("%s: %s", files.source, error)
            continue
        for row in table:
            title = row.get("Model") or row.get("Name") or ""
            name = title.partition("[")[0].strip().rstrip("*").lower()
            side = re.search(r"\((\d+)x(\d+)\)", title)
            said = {
                metric: number((row.get(column) or "").partition("/")[0])
                for column, metric in _COLUMNS.items()
            }
            if said["map"] is not None and dataset == "coco":
                said["box_map"] = said.pop("map")
            hashtag = (row.get("Hashtag") or "").strip().lower() or None
            size = (3, int(side[1]), int(side[2])) if side else None
            if name and not name.endswith("_int8"):  # computed with the weights of another row
                yield _Figures(path, name, hashtag, dataset, size, said)


def _record(
    store: _Store, sha1: str, name: str, figures: list[_Figures], license_: License | None
) -> ModelRecord:
    if not re.fullmatch(r"[0-9a-f]{40}", sha1) or not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"{name!r} has the checksum {sha1!r}")
    stem = f"{name}-{sha1[:8]}"
    task, modality, tag = next(
        (kind[1:] for kind in _KINDS if re.match(kind[0], name)), (None, "image", None)
    )
    mine = [
        row
        for row in figures
        if (row.hashtag == sha1[:8] if row.hashtag else row.name == name)
        and ("_torch" in row.table) == store.torch
    ]
    family = _family(name)
    size = _input_size(name, task)
    said: dict[str, Any] = {
        "framework": "gluoncv",
        "architecture": name,
        "license": license_,
        "origin_url": f"https://github.com/{REPOSITORY}",
        "artifacts": (
            Artifact(
                path=f"{stem}.{'pth' if store.torch else 'params'}",
                format=store.format,
                urls=(store.url.format(stem),),
                digest=Digest(algorithm="sha1", value=sha1),
                safe=False if store.torch else None,
            ),
        ),
    }
    evals = tuple(
        item for row in mine for item in evaluations(task, row.dataset, row.said, size=row.size)
    )
    derived = {
        "task": task,
        "modality": modality,
        "family": family,
        "tags": tuple(sorted({*tags_of(family, name), *([tag] if tag else [])})),
        "input_size": size,
        **_trained(name, task),
    }
    return record(
        f"gluoncv/{stem}",
        Facts(REPOSITORY, store.path, said),
        Facts(REPOSITORY, mine[0].table if mine else None, {"evals": evals}),
        Facts(REPOSITORY, store.path, derived, derived=True),
    )


def _family(name: str) -> str:
    if match := re.match(r"i3d|r2plus1d|[pc]3d", name):
        return match[0]
    joined = re.sub(
        r"^(faster|mask|center|simple|mobile|alpha|se)_(rcnn|net|pose|res)", r"\1\2", name
    )
    return family_of(joined.removeprefix("cifar_"))


def _trained(name: str, task: str | None) -> dict[str, Any]:
    for pattern, dataset, classes in _DATASETS:
        if re.search(pattern, name):
            first = (
                ("pascal-voc-2007",)
                if dataset.startswith("pascal") and task == ("object-detection")
                else ()
            )
            return {"source_datasets": trained_on(*first, dataset), "num_classes": classes}
    if task != "image-classification" or name == "vgg16_atrous":
        return {}
    return {
        "source_datasets": trained_on("imagenet-1k"),
        "num_classes": 1000,
        "label_set": "imagenet-1k",
    }


def _input_size(name: str, task: str | None) -> tuple[int, ...] | None:
    """As the name says it, or as its tables do of all of a kind."""
    if match := re.match(r"ssd_(\d+)_", name):
        return (3, int(match[1]), int(match[1]))
    if match := re.search(r"_(\d+)x(\d+)$", name):
        return (3, int(match[2]), int(match[1]))
    if name.startswith("cifar"):
        return (3, 32, 32)
    if re.match(r"(?:simple|mobile|alpha)_pose", name):
        return (3, 256, 192)
    if re.match(r"center_net", name):
        return (3, 512, 512)
    if task == "image-segmentation" and not name.startswith("mask_rcnn"):
        return (3, 480, 480) if not name.endswith("_citys") else None
    if task == "image-classification" and not re.match(r"resnest\d{3}", name):
        side = 299 if name in {"inceptionv3", "xception"} else 224
        return (3, side, side)
    return None
