"""NVIDIA NeMo: every `PretrainedModelInfo` that its model classes list."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from catalog.errors import TlhubError
from catalog.harvesters.datasets import datasets_in
from catalog.harvesters.entries import Facts, each, project_license, record
from catalog.harvesters.literals import keywords, parse
from catalog.harvesters.package import Package
from catalog.record import Artifact, License, Modality, ModelRecord, SourceDataset

log = logging.getLogger(__name__)

# The start of a name, or the class where the name does not say -> task.
_TASKS: tuple[tuple[str, str | None, Modality], ...] = (
    (
        r"stt_|asr_(?!talknet)|QuartzNet|Jasper|parakeet|canary",
        "automatic-speech-recognition",
        "audio",
    ),
    (r"asr_talknet", None, "audio"),
    (r".*vad_", "voice-activity-detection", "audio"),
    (r"commandrecognition_|langid_|.*_ambernet", "audio-classification", "audio"),
    (r"diar_", None, "audio"),
    (r"ssl_", "feature-extraction", "audio"),
    (r"(?:speakerverification|speakerdiarization|speakerrecognition|titanet|ecapa)", None, "audio"),
    (r"audio_codec|mel_codec", "audio-to-audio", "audio"),
    (r"tts_", "text-to-speech", "text"),
)
_TAGS: tuple[tuple[str, str], ...] = (
    (r"hifigan|univnet|waveglow|melgan", "vocoder"),
    (r"diar", "speaker-diarization"),
    (r"^speaker|titanet|ecapa", "speaker-verification"),
    (r"codec", "audio-codec"),
    (r"streaming|cache_aware", "streaming"),
)
_FAMILIES = (
    *(
        "fastconformer",
        "conformer",
        "citrinet",
        "quartznet",
        "jasper",
        "contextnet",
        "squeezeformer",
    ),
    *("marblenet", "matchboxnet", "titanet", "ecapa", "speakernet", "ambernet", "sortformer"),
    *("hifigan", "univnet", "fastpitch", "tacotron2", "talknet", "codec", "parakeet", "canary"),
)
# How a name says what the model was trained on besides NeMo's own mix.
_DATASETS = {"ls": "librispeech", "librispeech": "librispeech", "mcv": "common-voice"}
_LANGUAGES = frozenset(
    """
    ar be by ca de en eo es fa fr hi hr hu hy it ja ka kab kk ko mr nl pl pt ru rw ua uk uz zh
    """.split()  # noqa: SIM905  (one a line would be no easier to read)
)
_ISO = {"by": "be", "ua": "uk"}


def harvest(package: Path) -> Iterator[ModelRecord]:
    """A record for each pretrained model, once where two classes list it."""
    wheel = Package.open(package)
    license_ = project_license(wheel)
    seen: set[str] = set()
    yield from each(
        _entries(wheel), lambda entry: _record(wheel, entry, license_, seen), wheel.source
    )


def _entries(wheel: Package) -> Iterator[tuple[str, tuple[str, str, ast.Call]]]:
    for path in wheel.matching("nemo/collections/*.py"):
        try:
            if "PretrainedModelInfo(" not in wheel.text(path):
                continue
            module = parse(wheel, path)
        except TlhubError as error:
            log.warning("%s: %s", wheel.source, error)
            continue
        for owner in module.body:
            if isinstance(owner, ast.ClassDef):
                for node in ast.walk(owner):
                    if isinstance(node, ast.Call) and _is_info(node.func):
                        yield f"{path}, line {node.lineno}", (path, owner.name, node)


def _is_info(function: ast.expr) -> bool:
    return isinstance(function, ast.Name) and function.id == "PretrainedModelInfo"


def _record(
    wheel: Package, entry: tuple[str, str, ast.Call], license_: License | None, seen: set[str]
) -> ModelRecord | None:
    path, owner, call = entry
    said = keywords(call)
    name, location = said["pretrained_model_name"], said["location"]
    if name in seen:
        return None
    seen.add(name)
    description = said.get("description", "")
    prose = None if description.startswith("For details about this model") else description
    hub = re.fullmatch(r"https://huggingface\.co/([\w.-]+/[\w.-]+)", location)
    page = re.search(r"https://\S+", description)
    task, modality = _task(name)
    lower = name.lower()
    return record(
        f"nemo/{name}",
        Facts(
            wheel.source,
            path,
            {
                "framework": "nemo",
                "architecture": owner,
                "description": prose,
                "origin_url": page[0].replace("\\\n", "") if page and not prose else None,
                "hf_hub_id": hub[1] if hub else None,
                "artifacts": () if hub else (_artifact(location),),
            },
        ),
        Facts(
            wheel.source,
            path,
            {
                "task": task,
                "modality": modality,
                "family": next((item for item in _FAMILIES if item in lower), None),
                "tags": tuple(sorted({tag for pattern, tag in _TAGS if re.search(pattern, lower)})),
                "languages": _languages(name),
                "source_datasets": _source_datasets(lower, prose or ""),
                "license": license_,
            },
            derived=True,
        ),
    )


def _task(name: str) -> tuple[str | None, Modality]:
    for pattern, task, modality in _TASKS:
        if re.match(pattern, name):
            return task, modality
    return None, "audio"


def _artifact(location: str) -> Artifact:
    if not location.startswith("https://"):
        raise ValueError(f"no place to fetch from: {location!r}")
    return Artifact(
        path=PurePosixPath(location).name,
        format="nemo",
        urls=(location,),
        safe=False,  # an archive with a checkpoint of PyTorch
    )


def _languages(name: str) -> tuple[str, ...]:
    """The languages in a name: ``stt_enes_…`` is of two."""
    match = re.match(r"(?:stt|tts|commandrecognition|ssl|speakerverification)_([a-z]+)_", name)
    if match is None:
        return ()
    part = match[1]
    codes = [part] if part in _LANGUAGES else re.findall("..", part)
    if not set(codes) <= _LANGUAGES or "".join(codes) != part:
        return ()
    return tuple(_ISO.get(code, code) for code in codes)


def _source_datasets(name: str, prose: str) -> tuple[SourceDataset, ...]:
    if match := re.search(r"trained on ([^.]+)", prose):
        found = datasets_in(match[1])[:1]
    else:
        found = tuple(_DATASETS[part] for part in re.split(r"[_-]", name) if part in _DATASETS)
    if "commandrecognition" in name:
        found = ("speech-commands",)
    return tuple(SourceDataset(id=item, role="pretrain") for item in found)
