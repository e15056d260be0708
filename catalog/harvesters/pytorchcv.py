"""pytorchcv: its table of models, joined with the tables of results in its README.

`models/common/model_metainfos.csv` says params, the digest of the file, the error in its name and
where it was released. `common/model_store.py` builds the URL as
``<repository>/releases/download/<tag>/<name>-<error>-<sha1[:8]>.pth.zip``, a zip of the one file
whose SHA-1 the table has. The README (the wheel's METADATA) has top-1 and top-5 errors and
multiply-accumulates (`FLOPs/2`); its rows are joined by the file name in their link.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from catalog.errors import TlhubError
from catalog.families import family_of, tags_of
from catalog.harvesters.package import Package
from catalog.licenses import license_of
from catalog.record import (
    Artifact,
    Digest,
    Evaluation,
    Modality,
    ModelRecord,
    Provenance,
    SourceDataset,
)

log = logging.getLogger(__name__)

TABLE = "pytorchcv/models/common/model_metainfos.csv"
REPOSITORY = "https://github.com/osmr/imgclsmob"
_NONE = "NA"


@dataclass(frozen=True)
class _Suite:
    """What it means that a row was tested on a data set: task, data set, classes, metrics.

    ``metric`` is what the four digits in the file name are in hundredths of a percent, an error
    (`True`) or a score: for ImageNet the top-5 error, elsewhere the one figure of the table.
    """

    task: str | None
    modality: Modality
    dataset: str | None = None
    classes: int | None = None
    metric: str | None = None
    error: bool = False
    side: int | None = None


_CLASSIFY, _SEGMENT = "image-classification", "image-segmentation"
_SUITES = {
    "in1k": _Suite(_CLASSIFY, "image", "imagenet-1k", 1000, "top5", True),
    "cifar10": _Suite(_CLASSIFY, "image", "cifar10", 10, "top1", True, 32),
    "cifar100": _Suite(_CLASSIFY, "image", "cifar100", 100, "top1", True, 32),
    "svhn": _Suite(_CLASSIFY, "image", "svhn", 10, "top1", True, 32),
    "cub": _Suite(_CLASSIFY, "image", "cub-200-2011", 200, "top1", True),
    "voc": _Suite(_SEGMENT, "image", "pascal-voc-2012", 21, "mean_iou"),
    "ade20k": _Suite(_SEGMENT, "image", "ade20k", 150, "mean_iou"),
    "cs": _Suite(_SEGMENT, "image", "cityscapes", 19, "mean_iou"),
    "coco": _Suite(_SEGMENT, "image", "coco", 21, "mean_iou"),
    "cocoseg": _Suite(_SEGMENT, "image", "coco", 21, "mean_iou"),
    "cocohpe": _Suite("keypoint-detection", "image", "coco", None, "keypoint_map"),
    "mcv": _Suite("automatic-speech-recognition", "audio", "common-voice-6.1", None, "wer"),
    "raft": _Suite(None, "video"),
    "propainter": _Suite(None, "video"),
}

# The columns of the README's tables -> metric, whether it is an error to be turned into a score.
_COLUMNS = {
    "Top1": ("top1", True),
    "Top5": ("top5", True),
    "Error, %": ("top1", True),
    "Pix.Acc.,%": ("pixel_accuracy", False),
    "mIoU,%": ("mean_iou", False),
    "OKS AP, %": ("keypoint_map", False),
    "WER, %": ("wer", False),
}


def harvest(package: Path) -> Iterator[ModelRecord]:
    """A record for each row that has weights.

    Args:
        package: the wheel of pytorchcv, or the folder it is unpacked in.

    Raises:
        TlhubError: the package or its table cannot be read.
    """
    wheel = Package.open(package)
    readme = _readme(wheel)
    sizes = _sizes(wheel)
    for number, row in enumerate(wheel.rows(TABLE), 2):
        try:
            if row["repo_release_tag"] != _NONE:
                yield _record(wheel, row, readme, sizes)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("%s, line %d: not a model (%r)", TABLE, number, error)


def _record(
    wheel: Package,
    row: Mapping[str, str],
    readme: Mapping[str, Mapping[str, str]],
    sizes: Mapping[str, tuple[int, ...]],
) -> ModelRecord:
    name, sha1, error = row["model_name"], row["checksum"], row["error_value"]
    if not re.fullmatch(r"[0-9a-f]{40}", sha1) or not re.fullmatch(r"\d{4}", error):
        raise ValueError(f"{name} has the checksum {sha1!r} and the error {error!r}")
    suite = _suite(row)
    file = f"{name}-{error}-{sha1[:8]}.pth"
    found = readme.get(file, {})
    input_size = _input_size(row, suite, sizes)
    gmacs = _gmacs(found)
    evals = tuple(_evaluations(suite, error, found, input_size))
    family = family_of(name)
    datasets = _source_datasets(name, suite)
    languages = re.findall(r"_(en|de|fr|it|es|ca|pl|ru|ru34)(?:_|$)", name)
    speaks = suite.modality == "audio"
    papers = () if row["arxiv_paper"] == _NONE else (_arxiv(row["arxiv_paper"]),)
    caption = row["model_caption"]
    derived = ("task", "modality", "family", "tags", "source_datasets", "num_classes", "languages")
    sized = "input_size" if row["img_size"] != _NONE else None
    said = ("framework", "architecture", "params", "artifacts", "license", "paper_ids", sized)
    return ModelRecord(
        uid=f"pytorchcv/{name}",
        task=suite.task,
        modality=suite.modality,
        framework="pytorchcv",
        architecture=name,
        family=family,
        description=caption if caption != _NONE else None,
        tags=tuple(sorted({*tags_of(family, name), *(["optical-flow"] if "raft" in name else [])})),
        paper_ids=papers,
        source_datasets=datasets,
        num_classes=suite.classes,
        label_set="imagenet-1k" if suite.dataset == "imagenet-1k" else None,
        languages=tuple(code[:2] for code in languages) if speaks else (),
        params=int(row["net_weights"]),
        gmacs=gmacs,
        # Some segmentation networks were counted at another size than they are used at.
        gmacs_at=input_size if gmacs and suite.task == _CLASSIFY else None,
        input_size=input_size,
        license=license_of(wheel.license, "project"),
        evals=evals,
        artifacts=(
            Artifact(
                path=file,
                format="pytorch",
                precision="fp32",
                urls=(
                    f"{REPOSITORY}/releases/download/{row['repo_release_tag']}/{file}.zip!{file}",
                ),
                digest=Digest(algorithm="sha1", value=sha1),
                safe=False,
            ),
        ),
        provenance=(
            Provenance(fields=tuple(filter(None, said)), source=wheel.source, path=TABLE),
            Provenance(
                fields=(*(["evals"] if evals else []), *(["gmacs"] if gmacs else [])),
                source=wheel.source,
                path=_metadata(wheel) if found else TABLE,
            ),
            Provenance(
                fields=(*derived, *(["input_size"] if input_size and not sized else [])),
                source=wheel.source,
                derived=True,
            ),
        ),
    )


def _suite(row: Mapping[str, str]) -> _Suite:
    key, name = row["test_dataset"], row["model_name"]
    if name.endswith("_celebamaskhq"):  # listed with Cityscapes, and without a result
        return _Suite(_SEGMENT, "image", "celebamask-hq", 19)
    if key == "cf":
        key = name.rpartition("_")[2]
    elif key == _NONE:
        key = name.partition("_")[0]
    return _SUITES.get(key) or _Suite(None, "image")


def _input_size(
    row: Mapping[str, str], suite: _Suite, sizes: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...] | None:
    if suite.modality != "image":
        return None
    if row["img_size"] != _NONE:
        return (3, int(row["img_size"]), int(row["img_size"]))
    return (3, suite.side, suite.side) if suite.side else sizes.get(row["model_name"])


def _source_datasets(name: str, suite: _Suite) -> tuple[SourceDataset, ...]:
    if suite.modality == "audio":  # tested on Common Voice, which says nothing of the training
        libri = name.endswith("_ls")
        return (SourceDataset(id="librispeech", role="pretrain"),) if libri else ()
    if name.startswith("igresnext"):
        return (
            SourceDataset(id="instagram-1b", role="pretrain"),
            SourceDataset(id="imagenet-1k", role="finetune"),
        )
    return (SourceDataset(id=suite.dataset, role="pretrain"),) if suite.dataset else ()


def _evaluations(
    suite: _Suite, error: str, found: Mapping[str, str], input_size: tuple[int, ...] | None
) -> Iterator[Evaluation]:
    figures = {
        metric: (float(found[column]), turned)
        for column, (metric, turned) in _COLUMNS.items()
        if re.fullmatch(r"\d+(\.\d+)?", found.get(column, ""))
    }
    if not figures and suite.metric and int(error):
        figures[suite.metric] = (int(error) / 100, suite.error)
    for metric, (value, turned) in figures.items():
        yield Evaluation(
            task_type=suite.task or "other",
            dataset=suite.dataset or "unknown",
            split="validation",
            metric_type=metric,
            value=round(100 - value, 2) if turned else value,
            unit="%",
            higher_is_better=metric != "wer",
            eval_input_size=input_size,
        )


def _gmacs(found: Mapping[str, str]) -> float | None:
    match = re.fullmatch(r"([\d.,]+)M", found.get("FLOPs/2", ""))
    return round(float(match[1].replace(",", "")) / 1000, 5) if match else None


def _arxiv(paper: str) -> str:
    """An arXiv identifier whose trailing zeros a spreadsheet has eaten: `1602.0736`."""
    month, _, number = paper.partition(".")
    return f"{month}.{number.ljust(5 if int(month) >= 1501 else 4, '0')}"


def _metadata(wheel: Package) -> str:
    return next(name for name in wheel.names if name.endswith(".dist-info/METADATA"))


def _readme(wheel: Package) -> dict[str, dict[str, str]]:
    """The rows of the README's tables by the file that their link names."""
    found: dict[str, dict[str, str]] = {}
    heads: list[str] = []
    for line in wheel.text(_metadata(wheel)).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "Model":
            heads = cells
        match = re.search(r"/([^/]+\.pth)\.log\)", line)
        if match and len(cells) == len(heads):
            found[match[1]] = dict(zip(heads, cells, strict=True))
    return found


def _sizes(wheel: Package) -> dict[str, tuple[int, ...]]:
    """The image size of each model function whose source file names but one."""
    found: dict[str, tuple[int, ...]] = {}
    for file in wheel.matching("pytorchcv/models/*.py"):
        try:
            text = wheel.text(file)
        except TlhubError as error:
            log.warning("%s: %s", file, error)
            continue
        for pattern in (
            r"in_size: tuple\[int, int\] = \((\d+), (\d+)\)",
            r"^    in_size = \((\d+), (\d+)\)",
            r"torch\.randn\(\w+, 3, (\d+), (\d+)\)",
        ):
            sizes = set(re.findall(pattern, text, re.MULTILINE))
            if len(sizes) == 1:
                height, width = map(int, sizes.pop())
                functions = re.findall(r"^def (\w+)\(", text, re.MULTILINE)
                found |= dict.fromkeys(functions, (3, height, width))
                break
    return found
