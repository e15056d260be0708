"""OPUS-MT: the page of each pair of languages, of which the newest release is taken.

`models/<from>-<to>/README.md` has a section for each release: a list with the download and the kind
of model, and a table of test sets with BLEU and chrF (a fraction). `models/README.md` puts all of
the weights under CC-BY 4.0. How large a release is stands in the project's leaderboard, whose
figures for the releases here are in `catalog/data/opus_mt_sizes.tsv`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from catalog.harvesters.entries import Facts, each, record
from catalog.harvesters.figures import evaluations, trained_on
from catalog.harvesters.markdown import number, rows
from catalog.harvesters.package import Package
from catalog.record import Artifact, Evaluation, License, ModelRecord

REPOSITORY = "Helsinki-NLP/OPUS-MT-train"
TERMS = "models/README.md"
LEADERBOARD = "Helsinki-NLP/OPUS-MT-leaderboard"
SIZES = Path(__file__).parents[1] / "data" / "opus_mt_sizes.tsv"
_TASK = "translation"
_LICENSE = License(
    scope="weights",
    spdx="CC-BY-4.0",
    raw="Creative Commons Attribution 4.0 International License",
    url="https://creativecommons.org/licenses/by/4.0/",
    commercial="yes",
)


def harvest(checkout: Path, *, sizes: Path = SIZES) -> Iterator[ModelRecord]:
    """A record for the newest release for each pair of languages.

    ``sizes`` has a line for each release, `<from>-<to>/<release>` and its parameters in millions.
    """
    files = Package.checkout(checkout, REPOSITORY)
    stated = TERMS in files.names and "Attribution 4.0" in files.text(TERMS)
    pages = [(path, path) for path in files.matching("models/*/README.md")]
    license_ = _LICENSE if stated else None
    counts = _counts(sizes)
    yield from each(pages, lambda path: _record(files, path, license_, counts), files.source)


def _counts(sizes: Path) -> dict[str, int]:
    """The parameters of each release, which are published to a tenth of a million."""
    lines = sizes.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("\t") for line in lines if not line.startswith("#"))
    return {release: round(float(millions) * 1e6) for release, millions in pairs}


def _record(
    files: Package, path: str, license_: License | None, counts: Mapping[str, int]
) -> ModelRecord:
    pair = path.split("/")[1]
    release = _newest(files.text(path))
    said = dict(re.findall(r"^\* ([\w -]+): *(.*\S)", release, re.M))
    link = re.search(r"\((https://[^)\s]+\.zip)\)", said["download"])
    if link is None:
        raise ValueError(f"no download: {said['download']!r}")
    name = release.partition("\n")[0].strip()
    return record(
        f"opus_mt/{pair}",
        Facts(
            REPOSITORY,
            path,
            {
                "task": _TASK,
                "modality": "text",
                "framework": "marian",
                "architecture": said.get("model"),
                "origin_url": f"https://github.com/{REPOSITORY}/blob/HEAD/{path}",
                "source_datasets": trained_on("opus") if "opus" in said["dataset"] else (),
                "languages": _languages(pair),
                "evals": tuple(_evaluations(release, pair)),
                "artifacts": (Artifact(path=name, format="archive", urls=(link[1],)),),
            },
        ),
        Facts(REPOSITORY, TERMS, {"license": license_}),
        Facts(
            LEADERBOARD,
            "models/modelsize.txt",
            {"params": counts.get(f"{pair}/{name.removesuffix('.zip')}")},
        ),
        Facts(REPOSITORY, path, {"family": "opus-mt"}, derived=True),
    )


def _newest(page: str) -> str:
    """The section of the last release, from its title on, which is the name of the file."""
    sections = [part for part in re.split(r"^# ", page, flags=re.M) if re.match(r"\S+\.zip", part)]
    if not sections:
        raise ValueError("no release")
    return max(sections, key=lambda part: re.findall(r"\d{4}-\d\d-\d\d", part.partition("\n")[0]))


def _languages(pair: str) -> tuple[str, ...]:
    """The languages on both sides, without their regions: ``pt_BR`` is ``pt``."""
    codes = (code.partition("_")[0].lower() for code in re.split(r"[-+]", pair))
    return tuple(dict.fromkeys(code for code in codes if re.fullmatch(r"[a-z]{2,3}", code)))


def _evaluations(release: str, pair: str) -> Iterator[Evaluation]:
    """The last two parts of a test set's name are its languages: ``newstest2009.en.de``."""
    for row in rows(f"# {release}"):
        match = re.fullmatch(r"(.+?)((?:\.[\w+]+){2})?", row["^testset"].text)
        if match is None:
            continue
        between = (match[2] or "").strip(".").replace(".", "-")
        chrf = number(row["^chr"].text)
        figures = {
            "bleu": number(row["^bleu"].text),
            "chrf": None if chrf is None else chrf * 100,
        }
        yield from evaluations(
            _TASK,
            match[1].lower(),
            figures,
            split="test",
            config=between if between not in ("", pair) else None,
        )
