"""MindCV: the tables of results in its READMEs, a row for each training of an ImageNet model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from catalog.families import family_of, tags_of
from catalog.harvesters.entries import Facts, arxiv_ids, each, project_license, record
from catalog.harvesters.figures import evaluations, trained_on
from catalog.harvesters.markdown import Row, count, number, rows
from catalog.harvesters.package import Package
from catalog.record import Artifact, License, ModelRecord

REPOSITORY = "mindspore-lab/mindcv"
_TASK = "image-classification"


def harvest(checkout: Path) -> Iterator[ModelRecord]:
    """A record for each file of weights linked from a table of results."""
    files = Package.checkout(checkout, REPOSITORY)
    license_ = project_license(files)
    seen: set[str] = set()
    for path in (*files.matching("configs/*/README.md"), *files.matching("benchmark_results.md")):
        page = files.text(path)
        papers = arxiv_ids(page)[:1] if path.startswith("configs/") else ()
        entries = (
            (f"{path}, {row.cells[0].text}", (row, path, papers, license_))
            for row in rows(page)
            if _link(row)
        )
        for found in each(entries, lambda entry: _record(*entry), REPOSITORY):
            if found.uid not in seen:
                seen.add(found.uid)
                yield found


def _link(row: Row) -> str | None:
    return next((link for link in row.links if link.endswith(".ckpt")), None)


def _record(row: Row, path: str, papers: tuple[str, ...], license_: License | None) -> ModelRecord:
    link, name = _link(row), row["model"].text
    if link is None or not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"no name of a model: {name!r}")
    sides = re.fullmatch(r"(\d+)x(\d+)", row["resolution"].text)
    size = (3, int(sides[1]), int(sides[2])) if sides else None
    figures = {"top1": number(row["top1"].text), "top5": number(row["top5"].text)}
    family = family_of(name)
    return record(
        f"mindcv/{PurePosixPath(link).stem}",
        Facts(
            REPOSITORY,
            path,
            {
                "task": _TASK,
                "modality": "image",
                "framework": "mindcv",
                "architecture": name,
                "paper_ids": papers,
                "origin_url": f"https://github.com/{REPOSITORY}",
                "source_datasets": trained_on("imagenet-1k"),
                "num_classes": 1000,
                "label_set": "imagenet-1k",
                "params": count(row["params"].text, 1e6),
                "input_size": size,
                "license": license_,
                "evals": evaluations(_TASK, "imagenet-1k", figures, size=size),
                "artifacts": (
                    Artifact(path=PurePosixPath(link).name, format="mindspore", urls=(link,)),
                ),
            },
        ),
        Facts(REPOSITORY, path, {"family": family, "tags": tags_of(family, name)}, derived=True),
    )
