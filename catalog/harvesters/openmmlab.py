"""OpenMMLab: the metafiles of mmpretrain, mmdet, mmsegmentation, mmpose, mmagic and the others.

A wheel has them under `<package>/.mim/`. Input sizes that a metafile leaves out are
read from the configuration beside it; parameters are added up from it. Task, data sets and
architecture are read from the names of configurations. The last three are marked as derived.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote

from catalog.families import tags_of
from catalog.harvesters.openmmlab_configs import Config, Configs
from catalog.harvesters.openmmlab_figures import datasets_of, evaluations, task_of
from catalog.harvesters.openmmlab_metafiles import (
    Entry,
    base_of,
    count_of,
    entries,
    metadata_of,
    papers_of,
    results_of,
    size_of,
    stem,
    text_of,
)
from catalog.harvesters.openmmlab_names import (
    architecture_of,
    classes_of,
    dataset_in,
    family_of_name,
    size_in,
)
from catalog.harvesters.openmmlab_params import params_of
from catalog.harvesters.openmmlab_sizes import size_of_config
from catalog.harvesters.package import Package
from catalog.record import (
    Artifact,
    Digest,
    Evaluation,
    License,
    Modality,
    ModelRecord,
    Provenance,
    SourceDataset,
)

log = logging.getLogger(__name__)

# Distribution -> repository, where it is not the distribution's name.
_REPOSITORIES = {
    "mmcls": "mmpretrain",
    "mmdet": "mmdetection",
    "mmdet3d": "mmdetection3d",
    "mmedit": "mmagic",
    "mmtrack": "mmtracking",
}
_LICENSES = {
    "Apache License 2.0": "Apache-2.0",
    "GPL License 3.0": "GPL-3.0-only",
}
_FEATURES = {"image-classification", "image-feature-extraction"}  # counted at their input size
_FRACTIONS = {"mmpose", "mmocr"}  # 0.722 where others write 72.2
_VIDEOS = ("reds", "vid4", "udm10", "vimeo-90k", "spmcs-30")  # data sets of mmedit's restorers


def harvest(package: Path) -> Iterator[ModelRecord]:
    """A record for each file of weights that the metafiles of an OpenMMLab wheel list.

    Raises:
        IntegrityError: ``package`` is no wheel.
    """
    opened = Package.open(package)
    configs = Configs(opened)
    taken: set[str] = set()
    for entry in entries(opened):
        stems = (entry.name, stem(entry.model.get("Config")), entry.label, stem(entry.url))
        names = (re.sub(r"\s+", "-", item).removesuffix(".py") for item in stems if item)
        name = next((item for item in names if item not in taken), None)
        if name is None:
            log.warning("%s: %s is listed twice, with %s", entry.metafile, entry.name, entry.url)
            continue
        try:
            record = _record(opened, configs, entry, name)
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            log.warning("%s: %s is broken: %r", entry.metafile, entry.name, error)
            continue
        taken.add(name)
        yield record


def _record(package: Package, configs: Configs, entry: Entry, name: str) -> ModelRecord:
    source, model, metadata = package.name, entry.model, metadata_of(entry.model)
    results = [] if entry.part else results_of(model)
    task, modality, tags = _task(entry, source, results)
    folder, _, metafile = entry.metafile.partition(".mim/")
    config = model.get("Config")
    path = f"{folder}.mim/{config}" if isinstance(config, str) else ""
    configured: Config = {} if entry.part else configs.get(path)
    origin = f"{_tree(package)}/{config}" if path in package.names else None
    said_size = size_of(metadata)
    takes_images = _takes_images(source, tags)
    own_size = said_size or (size_of_config(configured) if takes_images else None)
    size = own_size or (size_in(name) if takes_images else None)
    input_size = (3, *size) if size else None
    evals = tuple(
        item
        for item in evaluations(
            results,
            name,
            fractions=source in _FRACTIONS,
            input_size=input_size,
            url=f"{_tree(package)}/{metafile}",
        )
        if not _misplaced(item, name)
    )
    said_data = _said_datasets(entry)
    datasets = said_data or _datasets([dataset_in(name)])
    target = datasets[-1].id if datasets else None
    num_classes = classes_of(task, target, evals)
    label_set = "imagenet-1k" if (target, num_classes) == ("imagenet-1k", 1000) else None
    params = count_of(metadata, {"Parameters": "", "params": "", "Params(M)": "M"})
    counted = None if params else params_of(configured)
    macs = count_of(metadata, {"FLOPs": "", "Flops(G)": "G"})
    papers = () if entry.part else papers_of(model.get("Paper") or entry.collection.get("Paper"))
    base_model, relation = base_of(model)
    license_ = _license(package, entry.url)
    architecture = architecture_of(name)
    family = family_of_name(architecture, source)
    repository = re.fullmatch(r"https://huggingface\.co/([^/]+/[^/]+)(?:/tree/main)?", entry.url)
    hub = repository[1] if repository else None
    said = {
        "framework": True,
        "artifacts": not hub,
        "hf_hub_id": hub,
        "license": license_,
        "evals": evals,
        "input_size": said_size,
        "source_datasets": said_data,
        "params": params,
        "gmacs": macs,
        "paper_ids": papers,
        "base_model": base_model,
        "relation": relation,
    }
    derived = {
        "task": task,
        "modality": modality,
        "architecture": True,
        "family": True,
        "tags": True,
        "origin_url": origin,
        "input_size": size and not own_size,
        "params": counted,
        "source_datasets": datasets and not said_data,
        "num_classes": num_classes,
        "label_set": label_set,
    }
    return ModelRecord(
        uid=f"{source}/{name}",
        task=task,
        modality=modality,
        framework=source,
        architecture=architecture,
        family=family,
        tags=tuple(sorted({*tags, *tags_of(family, architecture)})),
        paper_ids=papers,
        origin_url=origin,
        hf_hub_id=hub,
        source_datasets=datasets,
        num_classes=num_classes,
        label_set=label_set,
        params=params or counted,
        gmacs=macs / 1e9 if macs else None,
        gmacs_at=input_size if macs and (said_size or task in _FEATURES) else None,
        input_size=input_size,
        base_model=base_model,
        relation=relation,
        license=license_,
        evals=evals,
        artifacts=() if hub else (_artifact(entry.url),),
        provenance=(
            Provenance(fields=_named(said), source=package.source, path=entry.metafile),
            *(
                [Provenance(fields=("input_size",), source=package.source, path=path)]
                if own_size and not said_size
                else []
            ),
            Provenance(fields=_named(derived), source=package.source, derived=True),
        ),
    )


def _named(fields: dict[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, present in fields.items() if present)


def _tree(package: Package) -> str:
    repository = _REPOSITORIES.get(package.name, package.name)
    return f"https://github.com/open-mmlab/{repository}/blob/v{package.version}"


def _task(
    entry: Entry, source: str, results: list[dict[str, Any]]
) -> tuple[str | None, Modality | None, set[str]]:
    file = PurePosixPath(entry.url).name.lower()
    if entry.part:
        if "reid" in file:
            return "image-feature-extraction", "image", {"re-identification"}
        if "rcnn" in file or "yolox" in file:
            return "object-detection", "image", set()
        first = task_of(results_of(entry.model)[0].get("Task")) if results_of(entry.model) else None
        return None, first[1] if first else None, {first[2]} if first and first[2] else set()
    found = [task_of(item.get("Task")) for item in results]
    finest = next((item for item in found if item[0] == "image-segmentation"), None)
    task, modality, tag = finest or (found[0] if found else (None, None, None))
    tags = {tag} if tag else set()
    if not found and source in {"mmpretrain", "mmselfsup", "mmcls"}:
        return "image-feature-extraction", "image", tags  # weights to start from
    if entry.model.get("Modality") == "Audio":
        return "audio-classification", "audio", set()
    if tag == "pose-3d" and "pose-lift" in entry.metafile + entry.name:
        modality = None  # from key points
    if tag == "restoration" and any(
        text_of(place).lower().startswith(_VIDEOS)
        for item in results
        for place in (item.get("Dataset"), *(item.get("Metrics") or ()))
    ):
        return None, "video", {"video-super-resolution"}
    return task, modality, tags


def _takes_images(source: str, tags: set[str]) -> bool:
    """Whether a size in a name is that of the input, and not of what is generated."""
    features = {"skeleton-based", "temporal-action-localization"}
    return source not in {"mmdet3d", "mmedit", "mmagic"} and not tags & features


def _said_datasets(
    entry: Entry,
) -> tuple[SourceDataset, ...]:
    if entry.part:  # what is said is of the whole
        return ()
    metadata = metadata_of(entry.model)
    said = datasets_of(metadata.get("Training Data", metadata.get("sTraining Data")))
    before = datasets_of(metadata.get("Pretrained"))
    if not said:
        general = datasets_of(metadata_of(entry.collection).get("Training Data"))
        said = general if len(general) == 1 else []
    if not said:
        return ()
    # An image classifier's last data set is the one its head is for.
    if entry.metafile.startswith(("mmpretrain/", "mmcls/")) and "imagenet-1k" in said[1:]:
        before, said = [item for item in said if item != "imagenet-1k"], ["imagenet-1k"]
    before = [item for item in before if item not in said]
    return (*_datasets(before), *_datasets(said, "finetune" if before else "pretrain"))


def _datasets(
    names: Iterable[str | None], role: Literal["pretrain", "finetune"] = "pretrain"
) -> tuple[SourceDataset, ...]:
    return tuple(SourceDataset(id=name, role=role) for name in names if name)


def _license(package: Package, url: str) -> License | None:
    """The project's, as its metafiles say nothing of the weights'; not for weights of others."""
    others = url.startswith(("https://huggingface.co/", "https://download.openxlab.org.cn/"))
    if others or not package.license:
        return None
    spdx = _LICENSES.get(package.license)
    if spdx is None:
        return License(scope="project", raw=package.license)
    return License(scope="project", spdx=spdx, raw=package.license, commercial="yes")


def _artifact(url: str) -> Artifact:
    path = PurePosixPath(unquote(url))
    blob = re.fullmatch(r"https://huggingface\.co/([^/]+/[^/]+)/(?:blob|resolve)/([^/]+)/(.+)", url)
    digest = re.search(r"[-_]([0-9a-f]{8})(?:_20\d{6})?$", path.stem)
    dated = digest is None or re.fullmatch(r"20[12]\d{5}", digest[1])
    return Artifact(
        path=path.name,
        format="safetensors" if path.suffix == ".safetensors" else "pytorch",
        urls=(f"hf:{blob[1]}@{blob[2]}!{blob[3]}" if blob else url,),
        digest=None
        if digest is None or dated
        else Digest(algorithm="sha256", value=digest[1], prefix=True),
        safe=path.suffix == ".safetensors",
    )


def _misplaced(item: Evaluation, name: str) -> bool:
    """Whether a figure said to be of COCO is of a model whose name says other classes."""
    return item.dataset == "coco" and dataset_in(name) in {"pascal-voc", "nuscenes"}
