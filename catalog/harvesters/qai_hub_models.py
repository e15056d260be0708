"""Qualcomm AI Hub Models: a `manifest.yaml` a model, with what it measured on devices.

The wheel has recipes, no weights: records have no artifacts and say what they were made from.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.errors import TlhubError
from catalog.families import family_of, tags_of
from catalog.harvesters.datasets import dataset_id, datasets_in
from catalog.harvesters.entries import Facts, arxiv_ids, each, record
from catalog.harvesters.literals import constants, parse
from catalog.harvesters.package import Package
from catalog.harvesters.qai_hub_terms import (
    LANGUAGES,
    METRICS,
    MODALITIES,
    NARROWER,
    NOT_TRAINED_ON,
    SCALES,
    TRAINED_ON,
    USE_CASES,
)
from catalog.licenses import license_of
from catalog.record import Evaluation, License, Modality, ModelRecord, SourceDataset
from catalog.tasks import TASKS

log = logging.getLogger(__name__)

# One device and the first of these runtimes, so that figures can be compared.
DEVICE = "Samsung Galaxy S25"
_RUNTIMES = ("tflite", "qnn_dlc", "onnx")


def harvest(package: Path) -> Iterator[ModelRecord]:
    """A record for each model of the wheel of `qai_hub_models`."""
    wheel = Package.open(package)
    entries = (
        (path, path)
        for path in wheel.names
        if re.fullmatch(r"qai_hub_models/models/[^/]+/manifest\.yaml", path)
    )
    yield from each(entries, lambda path: _record(wheel, path), wheel.source)


def _record(wheel: Package, path: str) -> ModelRecord:
    said = wheel.yaml(path)
    folder = PurePosixPath(path).parent
    name: str = said["id"]
    details = said.get("technical_details") or {}
    task, modality = _task(said)
    input_size = _input_size(wheel, folder, said, modality)
    evals = (*_benchmark(said, wheel, folder, task), *_latency(wheel, folder, task, input_size))
    built = _torchvision(wheel, f"{folder}/model.py")
    return record(
        f"qai_hub_models/{name}",
        Facts(
            wheel.source,
            path,
            {
                "framework": "qai_hub_models",
                "architecture": name,
                "description": said.get("description"),
                "params": _params(details),
                "gmacs": _float(details.get("GMACs")),
                "gmacs_at": input_size if _float(details.get("GMACs")) else None,
                "num_classes": _whole(details.get("Number of output classes")),
                "license": _license(said),
                "paper_ids": arxiv_ids(said.get("research_paper")),
                "evals": evals,
            },
        ),
        Facts(
            wheel.source,
            path,
            {
                "task": task,
                "modality": modality,
                "family": family_of(name),
                "tags": tuple(sorted({*tags_of(family_of(name), name), *_tags(said)})),
                "origin_url": f"https://aihub.qualcomm.com/models/{name}",
                "source_datasets": _source_datasets(said, built, evals),
                "input_size": input_size,
                "label_set": "imagenet-1k" if built and "IMAGENET1K" in built else None,
                "languages": _languages(details),
                "base_model": built or _base(said, details),
                "relation": "converted" if built or _base(said, details) else None,
            },
            derived=True,
        ),
    )


def _task(said: Any) -> tuple[str | None, Modality]:
    task = USE_CASES.get(said["use_case"])
    hints = " ".join([said["id"], *(said.get("templates") or ())])
    if task != "text-to-speech":
        for pattern, narrower in NARROWER:
            if re.search(pattern, hints):
                task = narrower
                break
    return task, TASKS[task] if task else MODALITIES[said["domain"]]


def _tags(said: Any) -> Iterator[str]:
    yield said["use_case"].lower().replace(" ", "-")
    if (said.get("templates") or [""])[0] in {"llm", "llama3"} or said.get("model_type_llm"):
        yield "llm"


def _params(details: Any) -> int | None:
    """Parameters as written, or the sum over the parts of a model."""
    texts = [
        str(value)
        for key, value in details.items()
        if re.fullmatch(r"(?:.+ )?Number of parameters(?: \(.+\))?", key)
    ]
    if "Number of parameters" in details:
        texts = [str(details["Number of parameters"])]
    found = [re.fullmatch(r"([\d.]+) ?([KMB]?)", text.strip()) for text in texts]
    if not found or None in found:
        return None
    return round(sum(float(m[1]) * SCALES[m[2]] for m in found if m)) or None


def _float(text: Any) -> float | None:
    match = re.fullmatch(r"\d+(?:\.\d+)?", str(text))
    return float(match[0]) if match else None


def _whole(text: Any) -> int | None:
    match = re.fullmatch(r"\d+", str(text))
    return int(match[0]) if match else None


def _license(said: Any) -> License | None:
    """That of the implementation, as the READMEs say; of the weights where it is in their repo."""
    url = said.get("license")
    weights = re.match(r"https://huggingface\.co/(?!datasets/)", url or "") is not None
    found = license_of(said.get("license_type"), "weights" if weights else "project")
    if found is None:
        return None
    return License(
        scope=found.scope, spdx=found.spdx, raw=found.raw, url=url, commercial=found.commercial
    )


def _input_size(
    wheel: Package, folder: PurePosixPath, said: Any, modality: Modality
) -> tuple[int, ...] | None:
    details = said.get("technical_details") or {}
    text = next(
        (
            str(details[key])
            for key in ("Input resolution", "Image input resolution", "Input image resolution")
            if key in details
        ),
        "",
    )
    if modality == "text":
        return _tokens(text, details)
    if modality not in ("image", "video", "multimodal"):
        return None
    sides = [int(side) for side in re.findall(r"\d+", re.sub(r"\d+p\b", "", text))]
    if len(sides) == 4 and sides[1] in (1, 3):  # batch, channels, height, width
        return tuple(sides[1:])
    if len(sides) != 2 or min(sides) < 16:
        return None
    channels = 1 if "grayscale" in text else 3
    if sides[0] == sides[1]:
        return (channels, *sides)
    # Some write the width first: the recipe tells.
    places = [str(folder), *(f"{folder.parent}/templates/{t}" for t in said.get("templates") or ())]
    for place in places:
        if (spec := _spec(wheel, f"{place}/model.py")) and sorted(spec) == sorted(sides):
            return (channels, *spec)
    return None


def _tokens(text: str, details: Any) -> tuple[int] | None:
    for pattern, written in (
        (r"(\d+) tokens", text),
        (r"1x(\d+)\b", text),
        (r"(\d+)", str(details.get("Context length", ""))),
    ):
        if match := re.match(pattern, written):
            return (int(match[1]),)
    return None


def _spec(wheel: Package, path: str) -> tuple[int, int] | None:
    """The default ``height`` and ``width`` of ``get_input_spec`` in a recipe."""
    for node in ast.walk(_source(wheel, path)):
        if isinstance(node, ast.FunctionDef) and node.name == "get_input_spec":
            named = node.args.args[len(node.args.args) - len(node.args.defaults) :]
            found = {
                argument.arg: default.value
                for argument, default in zip(named, node.args.defaults, strict=True)
                if isinstance(default, ast.Constant) and isinstance(default.value, int)
            }
            if {"height", "width"} <= set(found):
                return found["height"], found["width"]
    return None


def _source(wheel: Package, path: str) -> ast.Module:
    if path not in wheel.names:
        return ast.Module(body=[], type_ignores=[])
    try:
        return parse(wheel, path)
    except TlhubError as error:
        log.warning("%s: %s", wheel.source, error)
        return ast.Module(body=[], type_ignores=[])


def _torchvision(wheel: Package, path: str) -> str | None:
    """The torchvision weights a recipe converts, as their uid."""
    module = _source(wheel, path)
    weights = constants(module).get("DEFAULT_WEIGHTS")
    builders = {
        node.attr
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value).partition(".")[0] == "tv_models"
        and node.attr.islower()
    } - {"segmentation", "detection", "video", "quantization"}
    if not isinstance(weights, str) or not weights.isupper() or len(builders) != 1:
        return None
    return f"torchvision/{builders.pop()}.{weights}"


def _base(said: Any, details: Any) -> str | None:
    """The Hugging Face repository it was made from."""
    written = str(details.get("Model checkpoint", ""))
    if re.fullmatch(r"[\w.-]+/[\w.-]*[A-Za-z][\w.-]*", written):
        return written
    match = re.match(
        r"https://huggingface\.co/(?!datasets/|spaces/)([\w.-]+/[\w.-]+)",
        said.get("source_repo") or "",
    )
    return match[1] if match else None


def _source_datasets(
    said: Any, built: str | None, evals: tuple[Evaluation, ...]
) -> tuple[SourceDataset, ...]:
    """What the publisher lists; else what the checkpoint is called, or the set of its benchmark."""
    if built and ".IMAGENET1K" in built:
        return (SourceDataset(id="imagenet-1k", role="pretrain"),)
    details = said.get("technical_details") or {}
    named = [str(item).partition(" (")[0] for item in said.get("dataset") or ()]
    listed = [dataset_id(item) for item in named if item.count(" ") < 3]  # others are prose
    kept = [item for item in listed if item not in NOT_TRAINED_ON]
    if not kept:
        kept = list(datasets_in(str(details.get("Model checkpoint", ""))))
    if not kept and said.get("use_case") in {
        *("Image Classification", "Object Detection", "Semantic Segmentation"),
        *("Video Classification", "Pose Estimation"),
    }:
        kept = [e.dataset for e in evals if e.dataset in TRAINED_ON]
    return tuple(SourceDataset(id=item, role="pretrain") for item in dict.fromkeys(kept))


def _benchmark(
    said: Any, wheel: Package, folder: PurePosixPath, task: str | None
) -> Iterator[Evaluation]:
    """The published figure, or where there is none that of their own run on a part of the set."""
    found = said.get("numerics_benchmark")
    if found:
        yield from _evaluation(said, task, found, found["value"], source=found.get("source"))
        return
    path = f"{folder}/numerics.yaml"
    for item in (_yaml(wheel, path) or {}).get("metrics") or ():
        value = item.get("partial_torch_metric")
        config = f"{item.get('num_partial_samples')} samples"
        if isinstance(value, int | float):
            yield from _evaluation(said, task, item, value, config=config)


def _evaluation(
    said: Any,
    task: str | None,
    item: Any,
    value: float,
    *,
    config: str | None = None,
    source: str | None = None,
) -> Iterator[Evaluation]:
    known = METRICS.get(item["metric_name"])
    if known is None:
        return
    metric, unit, more = known
    dataset = dataset_id(item["dataset_name"])
    if metric == "map" and dataset == "coco":
        kind = {"keypoint-detection": "keypoint_map", "image-segmentation": "mask_map"}
        metric = kind.get(task or "", "box_map")
    yield Evaluation(
        task_type=task or said["use_case"].lower().replace(" ", "-"),
        dataset=dataset,
        config=config,
        metric_type=metric,
        value=value,
        unit=unit,
        higher_is_better=more,
        source_url=source,
    )


def _yaml(wheel: Package, path: str) -> Any:
    if path not in wheel.names:
        return None
    try:
        return wheel.yaml(path)
    except TlhubError as error:
        log.warning("%s: %s", wheel.source, error)
        return None


def _latency(
    wheel: Package, folder: PurePosixPath, task: str | None, size: tuple[int, ...] | None
) -> Iterator[Evaluation]:
    """The time of one inference in float, of models of one part."""
    perf = _yaml(wheel, f"{folder}/perf.yaml") or {}
    parts = ((perf.get("precisions") or {}).get("float") or {}).get("components") or {}
    if len(parts) != 1:
        return
    runs = next(iter(parts.values())).get("performance_metrics", {}).get(DEVICE) or {}
    for runtime in _RUNTIMES:
        took = (runs.get(runtime) or {}).get("inference_time_milliseconds")
        if isinstance(took, int | float) and took > 0:
            yield Evaluation(
                task_type=task or "other",
                dataset="on-device-profile",
                config=f"{DEVICE}, {runtime}, float",
                metric_type="latency",
                value=took,
                unit="ms",
                higher_is_better=False,
                eval_input_size=size,
            )
            return


def _languages(details: Any) -> tuple[str, ...]:
    """Of the languages listed those with the names most used; a list cut short is none."""
    written = str(details.get("Supported languages") or details.get("Language(s) supported") or "")
    words = re.findall(r"[a-z]+", written.lower())
    if not words or not set(words) <= {*LANGUAGES, "and"}:
        return ()
    return tuple(dict.fromkeys(LANGUAGES[word] for word in words if word in LANGUAGES))
