"""spaCy's trained pipelines: the description of each release, of which the newest is taken.

`meta/<name>-<version>.json` has language, components, accuracies, size, the license of the weights
and the SHA-256 of the wheel (``checksum_whl``) and of the sdist (``checksum``) on the release page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from catalog.harvesters.datasets import dataset_id
from catalog.harvesters.entries import Facts, each, record
from catalog.harvesters.figures import evaluations, trained_on
from catalog.harvesters.markdown import number
from catalog.harvesters.package import Package
from catalog.licenses import license_of
from catalog.record import Artifact, Digest, Evaluation, License, ModelRecord

REPOSITORY = "explosion/spacy-models"
_RELEASES = f"https://github.com/{REPOSITORY}/releases"
_OLDEST = (3,)  # what was released for spaCy 2 alone is loaded by no spaCy that is maintained
# Its figure -> task, metric, what it is of.
_FIGURES: dict[str, tuple[str, str, str]] = {
    "ents_f": ("token-classification", "f1", "entities"),
    "tag_acc": ("token-classification", "accuracy", "tags"),
    "pos_acc": ("token-classification", "accuracy", "parts of speech"),
    "lemma_acc": ("token-classification", "accuracy", "lemmas"),
    "dep_uas": ("other", "unlabeled_attachment_score", "dependencies"),
    "dep_las": ("other", "labeled_attachment_score", "dependencies"),
    "sents_f": ("other", "f1", "sentences"),
}
# How it writes licenses that have another name elsewhere.
_LICENSES = {
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "GNU GPL 3.0": "gpl-3.0",
}
_OWN_LICENSES = {
    "CC BY-SA 3.0": License(scope="weights", spdx="CC-BY-SA-3.0", commercial="yes"),
    "CC BY-NC-SA 3.0": License(scope="weights", spdx="CC-BY-NC-SA-3.0", commercial="no"),
    "LGPL-LR": License(scope="weights", spdx="LGPLLR", commercial="yes"),
}
# What it lists among its sources that is no text somebody annotated.
_NO_CORPUS = re.compile(
    r"vectors|embedding|lookups|lemmatizer|wordnet|conver|tiger2dep|bert|xlnet|navec|chive", re.I
)
_ENTITIES = re.compile(
    r"\bNER\b|named|entit|ontonotes|wikiner|dane|norne|nerus|ronec|suc\)|klue|turkuone", re.I
)


def harvest(checkout: Path) -> Iterator[ModelRecord]:
    """A record for the newest final release of each pipeline."""
    files = Package.checkout(checkout, REPOSITORY)
    newest: dict[str, tuple[tuple[int, ...], str]] = {}
    for path in files.matching("meta/*.json"):
        match = re.fullmatch(r"meta/(\w+)-(\d+(?:\.\d+)+)\.json", path)
        version = tuple(int(part) for part in match[2].split(".")) if match else ()
        if match and version >= _OLDEST:
            newest[match[1]] = max(newest.get(match[1], ((), "")), (version, path))
    entries = ((path, path) for _, path in newest.values())
    yield from each(entries, lambda path: _record(files, path), files.source)


def _record(files: Package, path: str) -> ModelRecord:
    said = files.json(path)
    name = f"{said['lang']}_{said['name']}"
    release = f"{name}-{said['version']}"
    corpora = _corpora(said)
    parts = said.get("components") or said.get("pipeline") or ()
    return record(
        f"spacy/{name}",
        Facts(
            REPOSITORY,
            path,
            {
                "task": "token-classification"
                if {"ner", "tagger", "morphologizer"} & set(parts)
                else None,
                "modality": "text",
                "framework": "spacy",
                "architecture": name,
                "origin_url": f"{_RELEASES}/tag/{release}",
                "languages": () if said["lang"] == "xx" else (said["lang"],),
                "tags": tuple(sorted({*parts} & {"ner", "parser", "tagger", "lemmatizer"})),
                "source_datasets": trained_on(*map(dataset_id, corpora)),
                "license": _license(said.get("license")),
                "evals": tuple(_evaluations(said, corpora)),
                "artifacts": (_artifact(said, release),),
            },
        ),
        Facts(REPOSITORY, path, {"family": "spacy"}, derived=True),
    )


def _corpora(said: Mapping[str, Any]) -> list[str]:
    """The texts it was trained on, without their versions."""
    names = [item["name"] for item in said.get("sources") or () if isinstance(item, dict)]
    found = [
        re.sub(r"\s*(?:\(.*\)|[v:]?\s*v?\d+(?:\.\d+)+.*|\+ NER.*)$", "", name)
        for name in names
        if not _NO_CORPUS.search(name.partition("(")[0])
    ]
    return list(dict.fromkeys(found))


def _evaluations(said: Mapping[str, Any], corpora: list[str]) -> Iterator[Evaluation]:
    """On the test part of the text that has such annotations, as far as its name tells."""
    figures = said.get("performance") or said.get("accuracy") or {}
    of_entities = next((name for name in corpora if _ENTITIES.search(name)), None)
    for key, (task, metric, what) in _FIGURES.items():
        dataset = (of_entities if what == "entities" else None) or next(iter(corpora), None)
        value = figures.get(key)
        if dataset is None or not isinstance(value, int | float) or not value:
            continue
        percent = value * 100 if value <= 1 else value
        yield from evaluations(
            task, dataset_id(dataset), {metric: percent}, config=what, split="test"
        )


def _license(raw: Any) -> License | None:
    found = _OWN_LICENSES.get(raw) or license_of(_LICENSES.get(raw, raw), "weights")
    return msgspec.structs.replace(found, raw=raw) if found else None


def _artifact(said: Mapping[str, Any], release: str) -> Artifact:
    wheel = said.get("checksum_whl")
    file = f"{release}-py3-none-any.whl" if wheel else f"{release}.tar.gz"
    digest = wheel or said.get("checksum")
    megabytes = number(said.get("size") or "")
    return Artifact(
        path=file,
        format="archive",
        urls=(f"{_RELEASES}/download/{release}/{file}",),
        about_bytes=round(megabytes * 1_000_000) if megabytes else None,
        digest=Digest(algorithm="sha256", value=digest) if digest and len(digest) == 64 else None,
        safe=False,  # a package of Python
    )
