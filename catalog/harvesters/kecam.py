"""keras_cv_attention_models (kecam): the tables of its README, joined with the digests it checks.

The README links each file of weights in the row that says parameters, multiply-accumulates (its
"FLOPs": 17.6 for a ViT-B/16 at 224), input side and accuracy. The modules have the MD5 of the same
files in `PRETRAINED_DICT`: ``{model: {weights: md5 | {side: md5}}}`` is the file
``<model>[_<side>]_<weights>.h5``.
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
from catalog.harvesters.literals import constants, parse
from catalog.harvesters.markdown import Row, count, number, rows
from catalog.harvesters.package import Package
from catalog.record import Artifact, Digest, License, ModelRecord, SourceDataset

log = logging.getLogger(__name__)

REPOSITORY = "leondgarse/keras_cv_attention_models"
PAGE = "README.md"
_TASKS = {"Recognition Models": "image-classification", "Detection Models": "object-detection"}
# Converted from projects under the GPL or AGPL, of which this one says nothing.
_LEFT_OUT = {"YOLOR", "YOLOV7", "YOLOV8"}


def harvest(checkout: Path) -> Iterator[ModelRecord]:
    """A record for each file of weights of a recognition or detection model."""
    files = Package.checkout(checkout, REPOSITORY)
    digests = _digests(files)
    license_ = project_license(files)
    yield from each(_entries(files), lambda row: _record(row, digests, license_), files.source)


def _entries(files: Package) -> Iterator[tuple[str, tuple[str, Row]]]:
    """Rows that link weights, with the model's name where a row only names a variant of it."""
    seen: set[str] = set()
    model = ""
    for row in rows(files.text(PAGE)):
        if row.headings[:1] not in {(key,) for key in _TASKS} or row.headings[-1] in _LEFT_OUT:
            continue
        said = row.cells[0].text.partition(",")[0]
        if said and not said.startswith("-"):
            model = said
        links = tuple(link for link in row.links if link.endswith(".h5"))
        if not links:
            continue
        if links[0] in seen:
            log.warning("%s: %s is linked twice, of %s too", files.source, links[0], model)
            continue
        seen.add(links[0])
        yield f"{PAGE}, {model}", (model, row)


def _record(
    entry: tuple[str, Row], digests: Mapping[str, str], license_: License | None
) -> ModelRecord:
    model, row = entry
    links = tuple(link for link in row.links if link.endswith(".h5"))
    name = re.sub(r"\.1$", "", PurePosixPath(links[0]).stem)
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"no name of weights: {name!r}")
    if ", +.2" in row.cells[0].text:  # in two files, of which one may be linked
        links = tuple(dict.fromkeys((*links, links[0].replace(".1.h5", ".2.h5"))))
    task = _TASKS[row.headings[0]]
    side = number(row["^input"].text)
    size = (3, int(side), int(side)) if side else None
    data = _datasets(task, f"{row.cells[0].text} {name}".lower())
    detects = task == "object-detection"
    if detects:
        evals = evaluations(task, "coco", {"box_map": number(row["val AP"].text)}, size=size)
    else:
        said = row["top-?1"].text
        top1 = None if "?" in said else number(said)
        evals = evaluations(task, "imagenet-1k", {"top1": top1}, size=size)
    operations = count(row["flops"].text)
    architecture = re.sub(r"\W+", "", model)
    family = family_of(name.replace("-", "_"))
    counted = gmacs(operations, unit=1)
    tuned = bool(evals) and not detects and any(d.role == "finetune" for d in data)
    labels = {"label_set": "imagenet-1k", "num_classes": 1000}
    knows_classes = not detects and (tuned or [d.id for d in data] == ["imagenet-1k"])
    return record(
        f"kecam/{name}",
        Facts(
            REPOSITORY,
            PAGE,
            {
                "task": task,
                "modality": "image",
                "framework": "kecam",
                "architecture": architecture,
                "origin_url": f"https://github.com/{REPOSITORY}",
                "params": count(row["params"].text),
                "gmacs": counted,
                "gmacs_at": size if counted else None,
                "input_size": size,
                "license": license_,
                "evals": evals,
                "artifacts": tuple(_artifact(link, digests) for link in links),
            },
        ),
        Facts(
            REPOSITORY,
            PAGE,
            {
                "family": family,
                "tags": tags_of(family, model.lower()),
                "source_datasets": data,
                **(labels if knows_classes else {}),
            },
            derived=True,
        ),
    )


def _artifact(link: str, digests: Mapping[str, str]) -> Artifact:
    file = PurePosixPath(link).name
    digest = digests.get(file)
    return Artifact(
        path=file,
        format="keras",
        urls=(link,),
        digest=Digest(algorithm="md5", value=digest) if digest else None,
    )


def _datasets(task: str, said: str) -> tuple[SourceDataset, ...]:
    """By the name of the weights: ``imagenet21k-ft1k`` is fine-tuned, plain ``imagenet`` not."""
    if task == "object-detection":
        return trained_on("coco") if said.endswith("coco") else ()
    if re.search(r"ft_?1k|imagenet-ft", said):
        large = ("imagenet-21k",) if re.search(r"2[12]k|imagenet-ft", said) else ()
        return trained_on(*large, then=("imagenet-1k",))
    if "imagenet22k" in said:  # scored on ImageNet-1k, hence fine-tuned on it
        return trained_on("imagenet-21k", then=("imagenet-1k",))
    if "imagenet21k" in said:
        return trained_on("imagenet-21k")
    if "laion" in said:
        return trained_on("laion-2b", then=("imagenet-1k",))
    return trained_on("imagenet-1k")


def _digests(files: Package) -> dict[str, str]:
    """MD5s by the names of the files."""
    found: dict[str, str] = {}
    for path in files.matching("*.py"):
        try:
            said = constants(parse(files, path)).get("PRETRAINED_DICT")
        except TlhubError as error:
            log.warning("%s: %s", files.source, error)
            continue
        for model, weights in (said if isinstance(said, dict) else {}).items():
            found |= _named(model, weights)
    return found


def _named(model: str, weights: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, said in weights.items() if isinstance(weights, dict) else ():
        by_stem = (
            {f"{model}_{side}_{name}": value for side, value in said.items()}
            if isinstance(said, dict)
            else {f"{model}_{name}": said}
        )
        for stem, value in by_stem.items():
            parts = (
                {f"{stem}.{number}.h5": part for number, part in enumerate(value, 1)}
                if isinstance(value, list)
                else {f"{stem}.h5": value}
            )
            found |= {
                file: digest
                for file, digest in parts.items()
                if isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{32}", digest)
            }
    return found
