"""PaddleClas: the list of its ImageNet models, joined with their configurations.

`docs/zh_CN/models/ImageNet1k/README.md` links each file of weights in the row that says accuracies
(as fractions, a few in percent), multiply-accumulates ("FLOPs": 4.11e9 for a ResNet-50) and
parameters. `ppcls/configs/ImageNet/**/<model>.yaml` has the input size and the preprocessing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.errors import TlhubError
from catalog.families import family_of, tags_of
from catalog.harvesters.entries import Facts, each, project_license, record
from catalog.harvesters.figures import evaluations, gmacs, trained_on
from catalog.harvesters.markdown import Row, count, number, rows
from catalog.harvesters.package import Package
from catalog.record import Artifact, License, ModelRecord, Preprocess, SourceDataset

log = logging.getLogger(__name__)

REPOSITORY = "PaddlePaddle/PaddleClas"
PAGE = "docs/zh_CN/models/ImageNet1k/README.md"
_TASK = "image-classification"
# How its names join words -> as families are spelled.
_SPELLINGS = (
    (r"^(?:Fix_|SE_)", ""),
    (r"SwinTransformer", "swin_transformer"),
    (r"CSWinTransformer", "cswin_transformer"),
    (r"PPLCNet", "lcnet"),
    (r"alt_gvt|pcpvt", "twins"),
)


def harvest(checkout: Path) -> Iterator[ModelRecord]:
    """A record for each file of weights that the list links, once."""
    files = Package.checkout(checkout, REPOSITORY)
    paths = {PurePosixPath(path).stem: path for path in files.matching("ppcls/configs/*.yaml")}
    license_ = project_license(files)
    yield from each(
        _entries(files), lambda entry: _record(files, paths, license_, *entry), files.source
    )


def _entries(files: Package) -> Iterator[tuple[str, tuple[str, Row, bool]]]:
    seen: set[str] = set()
    for row in rows(files.text(PAGE)):
        links = [link for link in row.links if link.endswith(".pdparams")]
        for link in links:
            if link not in seen:
                seen.add(link)
                # Of two stages of a training the figures are those of the last.
                yield f"{PAGE}, {link}", (link, row, link == links[-1])


def _record(
    files: Package,
    paths: Mapping[str, str],
    license_: License | None,
    link: str,
    row: Row,
    scored: bool,
) -> ModelRecord:
    name = PurePosixPath(link).stem.removesuffix("_pretrained")
    model = re.sub(r"\[\d+\]$", "", row.cells[0].text)
    if not name or not model or " " in name:
        raise ValueError(f"no name of a model: {model!r}")
    path, said = _config(files, paths, name, model)
    side = re.search(r"_(\d{3})(?:_|$)", name)
    size = said.get("input_size") or (3, *[int(side[1]) if side else 224] * 2)
    figures = {"top1": _percent(row["^top-1"].text), "top5": _percent(row["^top-5"].text)}
    unit = 1e6 if re.search(r"flops\(M\)", " ".join(row.titles), re.I) else 1e9
    counted = gmacs(number(row["flops"].text), unit=unit)
    spelled = model
    for pattern, better in _SPELLINGS:
        spelled = re.sub(pattern, better, spelled)
    family = family_of(spelled)
    labeled = {"num_classes": 1000, "label_set": "imagenet-1k"}
    return record(
        f"paddleclas/{name}",
        Facts(
            REPOSITORY,
            PAGE,
            {
                "task": _TASK,
                "modality": "image",
                "framework": "paddleclas",
                "architecture": model,
                "origin_url": f"https://github.com/{REPOSITORY}",
                "params": count(row["params"].text, 1e6),
                "gmacs": counted,
                "license": license_,
                "evals": evaluations(_TASK, "imagenet-1k", figures, size=size) if scored else (),
                "artifacts": (
                    Artifact(
                        path=PurePosixPath(link).name, format="paddle", urls=(link,), safe=False
                    ),
                ),
                **labeled,
            },
        ),
        Facts(REPOSITORY, path, said),
        Facts(
            REPOSITORY,
            PAGE,
            {
                "input_size": size,
                "gmacs_at": size if counted else None,
                "family": family,
                "tags": tags_of(family, spelled.lower()),
                "source_datasets": _datasets(name),
            },
            derived=True,
        ),
    )


def _percent(text: str) -> float | None:
    value = number(text)
    return value * 100 if value is not None and value <= 1 else value


def _datasets(name: str) -> tuple[SourceDataset, ...]:
    if "wsl" in name:
        return trained_on("instagram-1b", then=("imagenet-1k",))
    if "22kto1k" in name:
        return trained_on("imagenet-21k", then=("imagenet-1k",))
    return trained_on("imagenet-1k")


def _config(
    files: Package, paths: Mapping[str, str], name: str, model: str
) -> tuple[str | None, dict[str, Any]]:
    """The configuration of the weights, or else of their architecture; what it says of images."""
    path = paths.get(name) or paths.get(model)
    if path is None:
        return None, {}
    try:
        config = files.yaml(path)
        shape = tuple(int(side) for side in config["Global"]["image_shape"])
        steps = {
            key: value for step in config["Infer"]["transforms"] for key, value in step.items()
        }
        return path, {"input_size": shape, "preprocess": _preprocess(steps, shape)}
    except (TlhubError, LookupError, TypeError, ValueError, AttributeError) as error:
        log.warning("%s: %s is not read: %r", files.source, path, error)
        return None, {}


def _preprocess(steps: Mapping[str, Any], shape: tuple[int, ...]) -> Preprocess | None:
    resize, crop, scale = (steps.get(key) for key in ("ResizeImage", "CropImage", "NormalizeImage"))
    if not isinstance(resize, dict) or not isinstance(scale, dict):
        return None
    short = resize.get("resize_short")
    side = crop.get("size") if isinstance(crop, dict) else None
    if short is not None and side != shape[-1]:
        return None
    return Preprocess(
        mean=tuple(scale["mean"]),
        std=tuple(scale["std"]),
        interpolation=resize.get("interpolation") or "bilinear",
        crop_pct=round(side / short, 5) if short else 1.0,
        resize_mode="shortest" if short else "squash",
    )
