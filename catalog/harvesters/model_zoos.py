"""Zoos that are pages of tables in a repository, a row and a link for each set of weights.

What the columns of each mean is in `model_zoos_terms`. ``harvest(detectron2=<checkout>)`` reads
the one named; several can be named at once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from catalog.errors import TlhubError, UsageError
from catalog.families import family_of, tags_of
from catalog.harvesters.entries import Facts, each, project_license, record
from catalog.harvesters.figures import evaluations, gmacs, trained_on
from catalog.harvesters.markdown import Row, count, number, rows
from catalog.harvesters.model_zoos_terms import FAMILIES, ZOOS, Zoo
from catalog.harvesters.package import Package
from catalog.record import Artifact, Evaluation, License, ModelRecord, SourceDataset

log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    """A row with the page it is on, its link, the name there, and where it stands as text."""

    page: str
    row: Row
    link: str
    name: str
    place: str  # `MODEL_ZOO.md COCO Baselines > Faster R-CNN faster_rcnn_R_50_C4_1x`


def harvest(**checkouts: Path) -> Iterator[ModelRecord]:
    """A record for each link to weights; on a link that recurs the first row stands.

    Raises:
        UsageError: there is no such zoo.
    """
    for name, path in checkouts.items():
        if name not in ZOOS:
            raise UsageError(f"no zoo {name!r}", hint=f"one of: {', '.join(ZOOS)}")
        zoo = ZOOS[name]
        files = Package.checkout(path, zoo.repository)
        license_ = project_license(files)
        entries = ((where, (name, zoo, entry, license_)) for where, entry in _entries(zoo, files))
        yield from each(entries, lambda entry: _record(*entry), files.source)


def _entries(zoo: Zoo, files: Package) -> Iterator[tuple[str, _Entry]]:
    seen: set[str] = set()
    for pattern in zoo.pages:
        for page in files.matching(pattern):
            try:
                found = list(rows(files.text(page)))
            except TlhubError as error:
                log.warning("%s: %s", files.source, error)
                continue
            for row in found:
                link = _link(zoo, row)
                if link is None or link in seen:
                    continue
                seen.add(link)
                name = _name(zoo, link)
                place = f"{page} {' > '.join(row.headings)} {name}"
                if not re.search(zoo.left_out, place):
                    yield f"{page}, {link}", _Entry(page, row, link, name, place)


def _link(zoo: Zoo, row: Row) -> str | None:
    """The first link to weights in the last column that has one and is of the row's own."""
    for title, cell in reversed(list(zip(row.titles, row.cells, strict=False))):
        links = [link.strip().replace("\\_", "_") for link in cell.links]
        found = next((link for link in links if re.search(zoo.weights, link)), None)
        if found and not re.match(r"(?i)pre-?train", title):
            return found
    return None


def _name(zoo: Zoo, link: str) -> str:
    for pattern, template in zoo.names:
        if match := re.search(pattern, link):
            return match.expand(template)
    return re.sub(r"\.(?:pkl|pyth|pth|torch|pt|pth\.tar)$", "", PurePosixPath(link).name)


def _record(source: str, zoo: Zoo, entry: _Entry, project: License | None) -> ModelRecord:
    row, name, place = entry.row, entry.name, entry.place
    if not re.fullmatch(r"[\w./+-]+", name):
        raise ValueError(f"no name of a model: {name!r}")
    task, modality, tag = next(kind[1:] for kind in zoo.kinds if re.search(kind[0], place))
    data = next((item[1:] for item in zoo.datasets if re.search(item[0], place)), None)
    said_data = _said_datasets(zoo, row, data[0] if data else ())
    sides = re.fullmatch(r"(\d+)(?:\s*x\s*(\d+))?", row[zoo.size].text) if zoo.size else None
    size = (3, int(sides[1]), int(sides[2] or sides[1])) if sides else None
    if modality != "image":
        size = None
    operations = row[zoo.operations]
    counted = gmacs(
        _unit(operations.text) or number(operations.text), unit=1e9, per_mac=zoo.per_mac
    )
    tested = data[2] if data else None
    architecture = " ".join(filter(None, (row[title].text for title in zoo.architecture)))
    guessed_size = next((item[1] for item in zoo.sizes if re.search(item[0], place)), None)
    family = next((item[1] for item in FAMILIES if re.search(item[0], place, re.I)), None)
    own = next((item[1] for item in zoo.licenses if fnmatchcase(entry.page, item[0])), None)
    said: dict[str, Any] = {
        "framework": zoo.framework,
        "architecture": architecture,
        "origin_url": f"https://github.com/{zoo.repository}/blob/HEAD/{entry.page}",
        "source_datasets": said_data,
        "params": count(row[zoo.params].text, 1e6),
        "gmacs": counted,
        "gmacs_at": size if counted else None,
        "input_size": size,
        "license": own or project,
        "evals": tuple(_evaluations(zoo, row, task, tested, size)),
        "artifacts": (
            Artifact(
                path=PurePosixPath(entry.link).name,
                format=zoo.format,
                urls=(entry.link,),
                safe=False if zoo.format == "pytorch" else None,
            ),
        ),
    }
    derived: dict[str, Any] = {
        "task": task,
        "modality": modality,
        "family": family or family_of(name.lower().replace("-", "_").rpartition("/")[2]),
        "tags": tuple(sorted({*tags_of(family or "", name.lower()), *([tag] if tag else [])})),
        "source_datasets": trained_on(*data[0], then=data[1]) if data else (),
        "input_size": guessed_size if modality == "image" else None,
    }
    last = (said_data or derived["source_datasets"])[-1:]
    if task == "image-classification" and [item.id for item in last] == ["imagenet-1k"]:
        derived |= {"num_classes": 1000, "label_set": "imagenet-1k"}
    return record(
        f"{source}/{name}",
        Facts(zoo.repository, entry.page, said),
        Facts(zoo.repository, entry.page, derived, derived=True),
    )


def _unit(text: str) -> float | None:
    """1e9 operations of a figure that says its unit: ``4.7G``."""
    match = re.fullmatch(r"([\d.]+)\s*([GM])", text)
    return float(match[1]) / (1 if match[2] == "G" else 1000) if match else None


def _said_datasets(zoo: Zoo, row: Row, then: tuple[str, ...]) -> tuple[SourceDataset, ...]:
    """The data sets of the column for them, where all of them are known by name."""
    text = row[zoo.trained].text if zoo.trained else ""
    found = [zoo.trained_names.get(part.strip()) for part in re.split(r" - | \+ ", text)]
    return trained_on(*filter(None, found), then=then) if text and all(found) else ()


def _evaluations(
    zoo: Zoo, row: Row, task: str | None, tested: str | None, size: tuple[int, ...] | None
) -> Iterator[Evaluation]:
    seen: set[str] = set()
    for title, cell in zip(row.titles, row.cells, strict=False):
        plain = re.sub(r"\s+", "", title).lower()
        metric = zoo.metrics.get(plain)
        value = number(cell.text) if re.match(r"[\d.]", cell.text) else None
        if metric is None or value is None or tested is None or metric in seen:
            continue
        seen.add(metric)
        if metric.endswith("_error"):
            metric, value = metric.removesuffix("_error"), 100 - value
        yield from evaluations(task, tested, {metric: value}, size=size)
