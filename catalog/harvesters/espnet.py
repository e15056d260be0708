"""ESPnet's model zoo: the table of `espnet_model_zoo`, a line for each archive of a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from catalog.harvesters.datasets import dataset_id
from catalog.harvesters.entries import Facts, each, project_license, record
from catalog.harvesters.package import Package
from catalog.record import Artifact, License, ModelRecord, SourceDataset

TABLE = "espnet_model_zoo/table.csv"

_TASKS: dict[str, str | None] = {
    "asr": "automatic-speech-recognition",
    "diar": None,  # who speaks when is no pipeline tag
    "enh": "audio-to-audio",
    "tts": "text-to-speech",
}
_TAGS = {"diar": "speaker-diarization", "enh": "speech-enhancement"}
# As the table writes languages -> ISO 639-1.
_LANGUAGES = {"jp": "ja", "kr": "ko", "en_unnorm": "en"}
# In the name of a model, the more specific first.
_ARCHITECTURES = (
    *("conformer_fastspeech2", "fastspeech2", "fastspeech", "tacotron2", "vits", "transformer"),
    *("conformer", "conv_tasnet", "dprnn", "tasnet", "rnn", "hubert", "wav2vec2"),
)


def harvest(package: Path) -> Iterator[ModelRecord]:
    """A record for each line of the table that its publisher holds valid.

    Raises:
        IntegrityError: there is no table.
    """
    wheel = Package.open(package)
    rows = wheel.rows(TABLE)
    license_ = project_license(wheel)
    entries = ((f"{TABLE}, line {number}", row) for number, row in enumerate(rows, 2))
    yield from each(entries, lambda row: _record(wheel.source, row, license_), wheel.source)


def _record(source: str, row: dict[str, str], license_: License | None) -> ModelRecord | None:
    if row["valid"].lower() != "true" or not row["task"]:  # withdrawn, or there to test with
        return None
    name, kind, corpus, language = row["name"], row["task"], row["corpus"], row["lang"]
    if not name or not row["url"].startswith("https://"):
        raise ValueError("it has no name or no URL")
    url = row["url"].partition("?")[0]
    task = _TASKS[kind]
    said_architecture = next((item for item in _ARCHITECTURES if item in name.lower()), None)
    data = (SourceDataset(id=dataset_id(corpus), role="pretrain"),) if corpus else ()
    tags = {_TAGS[kind]} if kind in _TAGS else set()
    return record(
        f"espnet/{name.replace(' ', '_')}",
        Facts(
            source,
            TABLE,
            {
                "framework": "espnet",
                "source_datasets": data,
                "languages": _languages(language),
                "artifacts": (
                    Artifact(
                        path=PurePosixPath(unquote(urlsplit(url).path)).name,
                        format="archive",
                        urls=(row["url"],),
                        safe=False,  # with a checkpoint of PyTorch in it
                    ),
                ),
            },
        ),
        Facts(
            source,
            TABLE,
            {
                "task": task,
                "modality": "text" if kind == "tts" else "audio",
                "architecture": said_architecture,
                "family": said_architecture and said_architecture.removeprefix("conformer_"),
                "tags": tuple(sorted(tags)),
                "origin_url": _page(url),
                "license": license_,
            },
            derived=True,
        ),
    )


def _languages(written: str) -> tuple[str, ...]:
    found = _LANGUAGES.get(written, written)
    return (found,) if re.fullmatch(r"[a-z]{2,3}", found) else ()


def _page(url: str) -> str | None:
    """The page on Zenodo that an archive is on, which also states its license."""
    match = re.match(r"https://zenodo\.org/record/\d+", url)
    return match[0] if match else None
