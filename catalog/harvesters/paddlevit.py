"""PaddleViT: the table of image classifiers in its README."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.families import family_of, tags_of
from catalog.harvesters.entries import Facts, each, project_license, record
from catalog.harvesters.figures import evaluations, gmacs, trained_on
from catalog.harvesters.markdown import Row, count, number, rows
from catalog.harvesters.package import Package
from catalog.record import Artifact, License, ModelRecord, SourceDataset

log = logging.getLogger(__name__)

REPOSITORY = "BR-IDL/PaddleViT"
PAGE = "README.md"
_TASK = "image-classification"
_DRIVE = "https://drive.google.com/file/d/"
# Ten times what its neighbors and its own figure at 384 pixels say.
_MISCOUNTED = {"cait_xxs36_224"}


def harvest(checkout: Path) -> Iterator[ModelRecord]:
    """A record for each row with weights."""
    files = Package.checkout(checkout, REPOSITORY)
    entries: dict[tuple[str, ...], tuple[str, Row]] = {}
    for row in rows(files.text(PAGE)):
        if row.headings[-1:] == ("Image Classification",) and row.links:
            name = row.cells[0].text
            first, _ = entries.setdefault(row.links[:1], (f"{PAGE}, {name}", row))
            if not first.endswith(f" {name}"):
                log.warning("%s: %s links the file of %s", files.source, name, first)
    license_ = project_license(files)
    yield from each(entries.values(), lambda row: _record(row, license_), files.source)


def _record(row: Row, license_: License | None) -> ModelRecord:
    name = re.sub(r"[^\w.+-]+", "-", row["^model"].text.replace("$\\dag$", "dag")).strip("-")
    link = next((item for item in row.links if item.startswith(_DRIVE)), "")
    key = link.removeprefix(_DRIVE).partition("/")[0]
    if not name or not re.fullmatch(r"[\w-]+", key):
        raise ValueError(f"no name or no file: {name!r}, {link!r}")
    side = number(row["image size"].text)
    size = (3, int(side), int(side)) if side else None
    params, operations = row["params"].text, row["flops"].text
    if params.endswith("G") and operations.endswith("M"):  # in each other's column
        params, operations = operations, params
    counted = None if name in _MISCOUNTED else gmacs(count(operations), unit=1)
    figures = {"top1": number(row["acc@1"].text), "top5": number(row["acc@5"].text)}
    family = "t2t-vit" if name.startswith("t2t_") else family_of(name.replace("-", "_"))
    said: dict[str, Any] = {
        "task": _TASK,
        "modality": "image",
        "framework": "paddlevit",
        "architecture": name,
        "origin_url": f"https://github.com/{REPOSITORY}",
        "params": count(params),
        "gmacs": counted,
        "license": license_,
        "gmacs_at": size if counted else None,
        "input_size": size,
        "num_classes": 1000,
        "label_set": "imagenet-1k",
        "evals": evaluations(_TASK, "imagenet-1k", figures, size=size),
        "artifacts": (
            Artifact(
                path=f"{name}.pdparams",
                format="paddle",
                urls=(f"https://drive.google.com/uc?export=download&id={key}",),
                safe=False,
            ),
        ),
    }
    derived = {
        "family": family,
        "tags": tags_of(family, name.lower()),
        "source_datasets": _datasets(name),
    }
    return record(
        f"paddlevit/{name}",
        Facts(REPOSITORY, PAGE, said),
        Facts(REPOSITORY, PAGE, derived, derived=True),
    )


def _datasets(name: str) -> tuple[SourceDataset, ...]:
    larger = ("imagenet-21k",) if re.search(r"22k(?:to1k)?(?:_|-|$)", name) else ()
    return trained_on(*larger, then=("imagenet-1k",)) if larger else trained_on("imagenet-1k")
