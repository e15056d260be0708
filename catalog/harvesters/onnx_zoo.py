"""The ONNX model zoo: `ONNX_HUB_MANIFEST.json`, and the figures in the READMEs beside it.

A model of the zoo is a file: the same network exported for another opset is a record of its own.
The `turnkey_stats` models of the same repository are in no manifest and are left alone: their
weights may be random.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.errors import IntegrityError, NotFoundError
from catalog.families import family_of, tags_of
from catalog.harvesters.datasets import datasets_in
from catalog.harvesters.entries import Facts, arxiv_ids, each, record
from catalog.licenses import license_of
from catalog.record import Artifact, Digest, Evaluation, ModelRecord, SourceDataset, TensorSpec
from catalog.tasks import TASKS

log = logging.getLogger(__name__)

MANIFEST = "ONNX_HUB_MANIFEST.json"
REPOSITORY = "https://github.com/onnx/models"

# Part of the path of a model -> task, the more specific first.
_TASKS: tuple[tuple[str, str], ...] = (
    (r"text/machine_comprehension/(?:bert-squad|bidirectional)", "question-answering"),
    (r"gpt", "text-generation"),
    (r"roberta-sequence", "text-classification"),
    (r"roberta-base", "fill-mask"),
    (r"/t5-", "text-generation"),
    (r"body_analysis/(?:age|emotion)", "image-classification"),
    (r"arcface", "image-feature-extraction"),
    (r"ultraface", "object-detection"),
    (r"MaskRCNN|/fcn/|/duc/", "image-segmentation"),
    (r"object_detection", "object-detection"),
    (r"style_transfer|super_resolution", "image-to-image"),
    (r"classification", "image-classification"),
)
_DTYPES = {"float": "float32", "double": "float64"}

# Heading of a column, in lower case -> metric; figures are percent where the heading says so.
_COLUMNS: tuple[tuple[str, str], ...] = (
    (r"top-?1 error", "top1_error"),
    (r"top-?5 error", "top5_error"),
    (r"top-?1", "top1"),
    (r"top-?5", "top5"),
    (r"mi-?ou", "mean_iou"),
    (r"^\W*map\b", "box_map"),
    (r"lfw", "accuracy"),
)
# `box_map` is the mean over IoU 0.5:0.95; YOLO's READMEs call the one at 0.5 so too.
_IN_CELL: tuple[tuple[str, str], ...] = (
    (r"mAP (?:of )?\[?(0\.\d+)", "box_map"),
    (r"EM of (\d+(?:\.\d+)?)", "exact_match"),
    (r"MCC of \[?(0\.\d+)", "matthews_correlation"),
)


def harvest(manifest: Path) -> Iterator[ModelRecord]:
    """A record for each file of the manifest.

    Args:
        manifest: `ONNX_HUB_MANIFEST.json`, or a checkout that has it with the READMEs.

    Raises:
        NotFoundError: there is no manifest.
        IntegrityError: it is not a list in JSON.
    """
    root = manifest if manifest.is_dir() else manifest.parent
    entries = _read(manifest / MANIFEST if manifest.is_dir() else manifest)
    named = [
        (str(item.get("model_path")) if isinstance(item, dict) else "?", item) for item in entries
    ]
    readmes: dict[str, str] = {}
    sizes = _sizes(entries)
    names = frozenset(PurePosixPath(path).stem for path, _ in named)
    yield from each(named, lambda item: _record(item, root, readmes, sizes, names), "onnx/models")


def _read(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"there is no manifest at {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is no manifest of the ONNX hub: {error}") from error
    if not isinstance(found, list):
        raise IntegrityError(f"{path} is no manifest of the ONNX hub: it is not a list")
    return found


def _sizes(entries: list[Any]) -> dict[str, tuple[int, ...]]:
    """The input size of a network, by the name of the model, from the exports that say it."""
    found: dict[str, tuple[int, ...]] = {}
    for item in entries:
        try:
            if size := _input_size(_inputs(item["metadata"])):
                found.setdefault(item["model"], size)
        except (AttributeError, LookupError, TypeError):
            continue  # told of when its record is made
    return found


def _params_of_file(size_bytes: int, architecture: str) -> int | None:
    """Parameters by the size of the file, 4 bytes each, to three digits.

    Within 2 % where known: what else is in the file of a classifier, its graph and the statistics
    of its norms, is small. Small files and DenseNet, where it is more, are left out, and so are
    detectors and language models, which have large constants.
    """
    if size_bytes < 4_000_000 or architecture.startswith("densenet"):
        return None
    digits = 2 - math.floor(math.log10(size_bytes / 4))
    return int(round(size_bytes / 4, digits))


def _inputs(said: Any) -> tuple[TensorSpec, ...]:
    return tuple(_tensor(port) for port in (said.get("io_ports") or {}).get("inputs") or ())


def _record(
    item: Any,
    root: Path,
    readmes: dict[str, str],
    sizes: dict[str, tuple[int, ...]],
    names: frozenset[str],
) -> ModelRecord | None:
    path = PurePosixPath(item["model_path"])
    if ".." in path.parts or path.is_absolute():
        raise ValueError(f"a path that leads outside: {path}")
    said = item["metadata"]
    if "preprocessing" in said["tags"]:
        return None  # a graph without weights
    name = path.stem
    task = next((task for pattern, task in _TASKS if re.search(pattern, str(path))), None)
    modality = TASKS[task] if task else None
    page = _readme(path, root, readmes)
    readme = readmes[page] if page else ""
    inputs = _inputs(said)
    input_size = _input_size(inputs) if modality == "image" else None
    quantized = name.endswith(("-int8", "-qdq"))
    whole = name.rpartition("-")[0]
    architecture = re.sub(r"[-_ ](?:int8|qdq|fp32)$", "", item["model"].lower()).replace(" ", "-")
    family = _family(path)
    license_text = _line_under(readme, "License")
    evals = tuple(_evaluations(readme, path, task, input_size, page))
    return record(
        f"onnx/{name}",
        Facts(
            "onnx/models",
            MANIFEST,
            {
                "framework": "onnx",
                "inputs": inputs,
                "input_size": input_size,
                "artifacts": (
                    Artifact(
                        path=path.name,
                        format="onnx",
                        precision="int8" if quantized else "fp32",
                        urls=(f"{REPOSITORY}/raw/main/{path}",),
                        size_bytes=said["model_bytes"],
                        digest=Digest(algorithm="sha256", value=said["model_sha"].lower()),
                        opset=item["opset_version"],
                        safe=True,
                    ),
                ),
            },
        ),
        Facts(
            "onnx/models",
            page,
            {
                "license": license_of(license_text, "weights"),
                "evals": evals,
                "paper_ids": arxiv_ids(readme)[:2],
                "description": _line_under(readme, "Description"),
            },
        ),
        Facts(
            "onnx/models",
            MANIFEST,
            {
                "task": task,
                "modality": modality,
                "architecture": architecture,
                "family": family,
                "tags": tuple(
                    sorted({*tags_of(family or "", architecture), *(["quantized"] * quantized)})
                ),
                "origin_url": f"{REPOSITORY}/tree/main/{path.parent.parent}",
                "input_size": sizes.get(item["model"]) if modality == "image" else None,
                "base_model": f"onnx/{whole}" if quantized and whole in names else None,
                "relation": "quantized" if quantized and whole in names else None,
                "params": None
                if quantized or task != "image-classification"
                else _params_of_file(said["model_bytes"], architecture),
                "source_datasets": tuple(
                    SourceDataset(id=found, role="pretrain")
                    for found in _datasets(readme, path)[:1]
                ),
                **_classes(said),
            },
            derived=True,
        ),
    )


def _tensor(port: Any) -> TensorSpec:
    match = re.fullmatch(r"tensor\((\w+)\)", port["type"])
    kind = match[1] if match else port["type"]
    return TensorSpec(
        name=port["name"],
        dtype=_DTYPES.get(kind, kind),
        shape=tuple(int(side) if isinstance(side, int) else str(side) for side in port["shape"]),
    )


def _input_size(inputs: tuple[TensorSpec, ...]) -> tuple[int, ...] | None:
    """``(channels, height, width)`` of the first input where they are fixed."""
    shape = inputs[0].shape if inputs else ()
    sides = [side for side in shape[-3:] if isinstance(side, int) and side > 0]
    if len(shape) not in (3, 4) or len(sides) != 3:
        return None
    if sides[0] in (1, 3):
        return tuple(sides)
    return (sides[2], sides[0], sides[1]) if sides[2] in (1, 3) else None


def _readme(path: PurePosixPath, root: Path, readmes: dict[str, str]) -> str | None:
    """The name of the README above a model's file, now in ``readmes``."""
    for folder in path.parents:
        if not folder.name:
            break
        name = f"{folder}/README.md"
        if name in readmes:
            return name
        try:
            readmes[name] = (root / name).read_text("utf-8")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            log.warning("%s cannot be read: %s", root / name, error)
            return None
        return name
    return None


def _line_under(readme: str, heading: str) -> str | None:
    match = re.search(rf"^#+ *{heading}:?\s*\n+([^\n#]+)", readme, re.M | re.I)
    if match is None:
        return None
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", match[1]).strip() or None


def _evaluations(
    readme: str,
    path: PurePosixPath,
    task: str | None,
    size: tuple[int, ...] | None,
    page: str | None,
) -> Iterator[Evaluation]:
    """The figures of the row that links to the file, by the headings of its table."""
    heads: list[str] = []
    for line in readme.splitlines():
        if "|" not in line:
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if f"{path.parent.name}/{path.name})" not in line:
            if re.search(r"\bdownload\b", line, re.I):
                heads = [cell.lower() for cell in cells]
            continue
        dataset = next(iter(_datasets(readme, path)), None)
        for head, cell in zip(heads, cells, strict=False):
            for kind, value, unit in _figures(head, cell):
                on = "lfw" if "lfw" in head else dataset
                metric = "map" if kind == "box_map" and "yolo" in path.name else kind
                if on is not None:
                    yield Evaluation(
                        task_type=task or "other",
                        dataset=on,
                        metric_type=metric,
                        value=value,
                        unit=unit,
                        eval_input_size=size,
                        source_url=f"{REPOSITORY}/blob/main/{page}",
                    )
        return


def _figures(head: str, cell: str) -> Iterator[tuple[str, float, str | None]]:
    for pattern, metric in _COLUMNS:
        match = re.match(r"(\d+(?:\.\d+)?) ?%?", cell)
        if re.search(pattern, head) and match:
            value = float(match[1])
            if metric.endswith("_error"):
                yield metric.removesuffix("_error"), round(100 - value, 4), "%"
            else:
                yield metric, round(value * 100, 4) if value < 1 else value, "%"
            return
    for pattern, metric in _IN_CELL:
        if match := re.match(pattern, cell):
            value = float(match[1])
            if metric == "matthews_correlation":
                yield metric, value, None
            else:
                yield metric, round(value * 100, 4) if value < 1 else value, "%"
            return


def _datasets(readme: str, path: PurePosixPath) -> tuple[str, ...]:
    if "machine_comprehension/gpt" in str(path) or "roberta" in str(path):
        return ()  # not said, or several
    sections = re.findall(
        r"^#+ [^\n]*(?:Dataset|Training)[^\n]*\n(.*?)(?=^#|\Z)", readme, re.M | re.S
    )
    found = datasets_in("\n".join(sections)) or datasets_in(readme)
    other = "imagenet-1k" if "/object_detection" in str(path) else "coco"
    return tuple(item for item in found if item != other or "style_transfer" in str(path))


def _family(path: PurePosixPath) -> str | None:
    """By the folder of the model, which is named after the network."""
    if re.search(r"body_analysis|style_transfer|super_resolution", str(path)):
        return None
    folder = path.parent.parent.name.removeprefix("tiny-")
    return family_of(folder.replace("-rcnn", "rcnn").replace("-", "_"))


def _classes(said: Any) -> dict[str, Any]:
    outputs: list[Any] = list((said.get("io_ports") or {}).get("outputs") or [])
    shape = [side for side in outputs[0]["shape"] if side != 1] if len(outputs) == 1 else []
    widths = [side for side in shape if isinstance(side, int)]
    if "classification" in said["tags"] and widths == [1000]:
        return {"num_classes": 1000, "label_set": "imagenet-1k"}
    return {}
