"""Open Model Zoo as `openvino_dev` ships it: a `model.yml` and an `accuracy-check.yml` a model.

Parameters, compute and the name of the license stand only in the READMEs of the zoo's repository.
Its GFLOPs count a multiply and an add as two (8.216 for ResNet-50) and are halved here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.errors import TlhubError
from catalog.families import family_of, tags_of
from catalog.harvesters.datasets import dataset_id, datasets_in
from catalog.harvesters.entries import Facts, arxiv_ids, each, project_license, record
from catalog.harvesters.openvino_terms import (
    ATTRIBUTES,
    BYTES_A_PARAMETER,
    FORMATS,
    FRAMEWORKS,
    MACS_ALREADY,
    MANY,
    METRICS,
    MISLABELED,
    PURPOSES,
    TASKS,
)
from catalog.harvesters.package import Package
from catalog.licenses import license_of, license_of_text
from catalog.record import (
    Artifact,
    Digest,
    Evaluation,
    License,
    ModelRecord,
    SourceDataset,
)

log = logging.getLogger(__name__)

REPOSITORY = "https://github.com/openvinotoolkit/open_model_zoo"


def harvest(package: Path, readmes: Path | None = None) -> Iterator[ModelRecord]:
    """A record for each model and each composite model of the zoo.

    Args:
        package: the wheel of `openvino_dev`.
        readmes: a checkout of `open_model_zoo`.
    """
    wheel = Package.open(package)
    project = project_license(wheel)
    entries = (
        (path, path)
        for path in wheel.names
        if path.endswith(("/model.yml", "/composite-model.yml"))
    )
    yield from each(entries, lambda path: _record(wheel, path, readmes, project), wheel.source)


def _record(
    wheel: Package, path: str, readmes: Path | None, project: License | None
) -> ModelRecord:
    folder = PurePosixPath(path).parent
    name = folder.name
    said = wheel.yaml(path)
    composite = path.endswith("/composite-model.yml")
    readme = _readme(folder, readmes)
    spec = _specification(readme, name, folder.parent.name)
    kind = MISLABELED.get(name, said["task_type"])
    task, modality = TASKS[kind]
    if kind == "object_attributes":
        for pattern, other in ATTRIBUTES:
            if re.search(pattern, name):
                task = other
                break
    framework = FRAMEWORKS.get(said["framework"], said["framework"])
    input_size = _input_size(said.get("input_info") or [], modality)
    evals = _evaluations(wheel, folder, task or kind, input_size)
    description = " ".join(said["description"].replace("*", "").split())
    public = "public" in folder.parts
    artifacts = _artifacts(said.get("files") or [], framework)
    params = _number(spec, "mparams", 1e6)
    gmacs = _gmacs(spec, name)
    if not _plausible(params, artifacts):
        log.warning("%s: %s has no file that fits %s parameters", wheel.source, name, params)
        params = gmacs = None
    return record(
        f"openvino/{name}",
        Facts(
            wheel.source,
            path,
            {
                "description": description,
                "input_size": input_size,
                "paper_ids": arxiv_ids(said["description"]),
                "artifacts": artifacts,
            },
        ),
        Facts(wheel.source, f"{folder}/accuracy-check.yml", {"evals": evals}),
        Facts(
            "openvinotoolkit/open_model_zoo",
            _relative(folder),
            {
                "params": params,
                "gmacs": gmacs,
                "gmacs_at": input_size if gmacs else None,
                "license": _license_of_readme(readme, said["license"]),
                "paper_ids": arxiv_ids(_section(readme, "use case") or ""),
            },
        ),
        Facts(
            wheel.source,
            path,
            {"license": _license(said["license"], project), "framework": framework},
        ),
        Facts(
            wheel.source,
            None,
            {
                "task": task,
                "modality": modality,
                "architecture": name,
                "family": _family(name) if public else None,
                "tags": _tags(name, kind, "int8" in name or bool(said.get("quantized")), composite),
                "origin_url": f"{REPOSITORY}/blob/master/{_relative(folder)}",
                "source_datasets": _source_datasets(description, readme, evals, task),
                **_classes(evals, task),
                "languages": _languages(name, modality),
            },
            derived=True,
        ),
    )


def _relative(folder: PurePosixPath) -> str:
    """Where the README of a model is in the zoo's repository; a stage has that of the whole."""
    parts = folder.parts[folder.parts.index("models") :]
    return "/".join((*parts[:3], "README.md"))


def _readme(folder: PurePosixPath, readmes: Path | None) -> str:
    if readmes is None:
        return ""
    path = readmes / _relative(folder)
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return ""


def _section(readme: str, title: str) -> str | None:
    """The text under the first heading that starts with ``title``."""
    match = re.search(rf"^##+ {title}[^\n]*\n(.*?)(?=^## |\Z)", readme, re.I | re.M | re.S)
    return match[1] if match else None


def _specification(readme: str, name: str, whole: str) -> dict[str, str]:
    """The table of a model's README, or that of one stage of a composite model."""
    text = _section(readme, "specification")
    stage = name.removeprefix(f"{whole}-")
    for title, part in re.findall(
        r"^## ([^\n]+) model specification\n(.*?)(?=^## |\Z)", readme, re.I | re.M | re.S
    ):
        slug = re.sub(r"[^a-z0-9]+", "-", title.lower())
        if slug.endswith(stage) or stage.endswith(slug):
            text = part
    rows = re.findall(r"^\|([^|\n]+)\|([^|\n]+)\|", text or "", re.M)
    return {key.strip().lower(): value.strip() for key, value in rows}


def _number(spec: dict[str, str], key: str, scale: float) -> int | None:
    match = re.fullmatch(r"~?(\d+(?:\.\d+)?)", spec.get(key, ""))
    return round(float(match[1]) * scale) or None if match else None


def _gmacs(spec: dict[str, str], name: str) -> float | None:
    for key in ("gflops", "gops"):
        if flops := _number(spec, key, 1e6):
            return round(flops * (1 if name in MACS_ALREADY else 0.5) / 1e6, 6)
    return None


def _input_size(inputs: Iterable[Any], modality: str) -> tuple[int, ...] | None:
    """``(channels, height, width)`` of the first input that is a picture; tokens of a text."""
    for item in inputs:
        shape, layout = item.get("shape"), item.get("layout")
        if not isinstance(shape, list) or not layout or len(shape) != len(layout):
            continue
        axes = dict(zip(layout, shape, strict=True))
        if modality in ("image", "video") and {"C", "H", "W"} <= set(axes):
            size = (axes["C"], axes["H"], axes["W"])
            if all(isinstance(side, int) and side > 0 for side in size):
                return size
        if modality == "text" and layout == "NC" and isinstance(shape[1], int) and shape[1] > 1:
            return (shape[1],)
    return None


def _plausible(params: int | None, artifacts: tuple[Artifact, ...]) -> bool:
    sizes = [
        item.size_bytes or 0
        for item in artifacts
        if item.precision in (None, "fp32") and not item.path.endswith(".xml")
    ]
    if params is None or not sizes:
        return True
    fewest, most = BYTES_A_PARAMETER
    return fewest <= sum(sizes) / params <= most


def _artifacts(files: Iterable[Any], framework: str) -> tuple[Artifact, ...]:
    found = _weights(files, framework)
    return tuple(sorted(found, key=lambda item: item.format != framework))


def _weights(files: Iterable[Any], framework: str) -> Iterator[Artifact]:
    for item in files:
        path = PurePosixPath(item["name"])
        if path.suffix not in FORMATS and not re.search(r"\.\D*\d", path.suffix):
            continue
        kind, safe = FORMATS.get(path.suffix, (None, None))
        precision = path.parts[0] if re.match(r"FP\d\d", path.parts[0]) else None
        urls = [item["source"], item.get("original_source") or item.get("oroginal_source")]
        yield Artifact(
            path=str(path),
            format=kind or framework,
            precision=precision.lower().rpartition("-")[2] if precision else None,
            urls=tuple(dict.fromkeys(url for url in urls if isinstance(url, str))),
            size_bytes=item["size"],
            digest=Digest(algorithm="sha384", value=item["checksum"].lower()),
            safe=safe,
        )


def _license(url: str, project: License | None) -> License | None:
    """`license` of model.yml is that of the model; the zoo's own is the license of the package."""
    found = license_of(url, "weights")
    if found is None or project is None or "open_model_zoo" not in url:
        return found
    return License(
        scope="weights", spdx=project.spdx, raw=url, url=url, commercial=project.commercial
    )


def _license_of_readme(readme: str, url: str) -> License | None:
    """As "The original model is distributed under" names it, or from the text that follows."""
    text = _section(readme, "legal") or ""
    match = re.search(
        r"original model is distributed under\s+(?:the\s+)?(?:following\s+)?\[([^\]]+)\]\(", text
    )
    if match is None:
        return None
    raw = match[1]
    if re.fullmatch(r"license\d?", raw):
        raw = license_of_text(text) or ""
    found = license_of(raw, "weights")
    if found is None:
        return None
    return License(scope="weights", spdx=found.spdx, raw=raw, url=url, commercial=found.commercial)


def _evaluations(
    wheel: Package, folder: PurePosixPath, task: str, size: tuple[int, ...] | None
) -> tuple[Evaluation, ...]:
    """The figures that the zoo's own accuracy check expects to see."""
    path = f"{folder}/accuracy-check.yml"
    if path not in wheel.names:
        return ()
    try:
        check = wheel.yaml(path)
        found = list(_of_check(check, task, size, _relative(folder)))
    except (TlhubError, AttributeError, LookupError, TypeError, ValueError) as error:
        log.warning("%s: the figures of %s are left out: %s", wheel.source, path, error)
        return ()
    once = {(e.dataset, e.config, e.metric_type): e for e in reversed(found)}
    return tuple(reversed(once.values()))[:MANY]


def _of_check(
    check: Any, task: str, size: tuple[int, ...] | None, page: str
) -> Iterator[Evaluation]:
    for model in check.get("models") or check.get("evaluations") or ():
        config = model.get("module_config") or model
        for dataset in config.get("datasets") or ():
            for item in dataset.get("metrics") or ():
                known = METRICS.get(item["type"]) or _ranked(item)
                value = item.get("reference")
                if isinstance(value, dict):
                    value = value.get("mean")
                if known is None or not isinstance(value, int | float):
                    continue
                metric, fraction, more = _named(known, item, dataset["name"])
                named = dataset_id(dataset["name"])
                yield Evaluation(
                    task_type=task,
                    dataset=named,
                    config=dataset["name"] if named != dataset["name"].lower() else None,
                    metric_type=metric,
                    value=round(value * 100, 4) if fraction else value,
                    unit="%" if fraction else "dB" if metric == "psnr" else None,
                    higher_is_better=more,
                    eval_input_size=size if size and len(size) == 3 else None,
                    source_url=f"{REPOSITORY}/blob/master/{page}",
                )


def _ranked(item: Any) -> tuple[str, bool, bool] | None:
    return (f"rank{item.get('top_k', 1)}", True, True) if item["type"] == "cmc" else None


def _named(known: tuple[str, bool, bool], item: Any, dataset: str) -> tuple[str, bool, bool]:
    metric, fraction, more = known
    kind = item["type"]
    if kind == "accuracy" and item.get("top_k"):
        metric = f"top{item['top_k']}"
    elif kind == "coco_precision" and "keypoints" in dataset:
        metric = "keypoint_map"
    elif kind == "coco_precision" and item.get("threshold") == 0.5:
        metric = "box_map_50"
    elif kind == "mae" and str(item.get("name", "")).endswith("_mae"):
        metric = item["name"]
    return metric, fraction, more


def _source_datasets(
    description: str, readme: str, evals: tuple[Evaluation, ...], task: str | None
) -> tuple[SourceDataset, ...]:
    """What the description says it was trained on, or the set whose classes its head has."""
    prose = f"{description} {_section(readme, 'use case') or ''}"
    found: Iterable[str] = datasets_in(prose)[:2]
    if not found and task in {"image-classification", "object-detection", "image-segmentation"}:
        whole = {"imagenet-1k", "coco", "cityscapes", "ade20k", "camvid", "pascal-voc-2012"}
        found = dict.fromkeys(e.dataset for e in evals if e.dataset in whole)
    ids = tuple(found)
    if set(ids) == {"imagenet-1k", "imagenet-21k"}:
        return (
            SourceDataset(id="imagenet-21k", role="pretrain"),
            SourceDataset(id="imagenet-1k", role="finetune"),
        )
    return tuple(SourceDataset(id=item, role="pretrain") for item in ids)


def _classes(evals: tuple[Evaluation, ...], task: str | None) -> dict[str, Any]:
    names = {e.config for e in evals if e.dataset == "imagenet-1k" and e.metric_type == "top1"}
    if task != "image-classification" or not names:
        return {}
    if names == {"imagenet_1000_classes"}:
        return {"num_classes": 1000, "label_set": "imagenet-1k"}
    return {"num_classes": 1001} if names == {"imagenet_1001_classes"} else {}


def _family(name: str) -> str | None:
    first = re.match(r"[a-z]+", name)
    if first and first[0] in PURPOSES:
        return None
    return family_of(name.replace("-", "_"))


def _tags(name: str, kind: str, quantized: bool, composite: bool) -> tuple[str, ...]:
    found = set(tags_of(_family(name) or "", name.replace("-", "_")))
    found.add(kind.replace("_", "-"))
    if composite:
        found.add("composite")
    if quantized:
        found.add("quantized")
    return tuple(sorted(found))


def _languages(name: str, modality: str) -> tuple[str, ...]:
    if modality not in ("text", "audio"):
        return ()
    known = {"en", "de", "ru"}
    return tuple(dict.fromkeys(part for part in name.split("-") if part in known))
