"""torchaudio: the bundles of `torchaudio.pipelines`, read as source, with what their docs say."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from catalog.errors import TlhubError
from catalog.harvesters.datasets import datasets_in
from catalog.harvesters.entries import Facts, each, project_license, record
from catalog.harvesters.literals import literal, parse
from catalog.harvesters.package import Package
from catalog.licenses import license_of
from catalog.record import Artifact, License, Modality, ModelRecord, SourceDataset

log = logging.getLogger(__name__)

_PLACE = "https://download.pytorch.org/torchaudio"
# By the class of a bundle, the more specific first.
_TASKS: tuple[tuple[str, str | None, Modality], ...] = (
    (r"Wav2Vec2FA", None, "audio"),  # aligns a text with speech
    (r"Wav2Vec2ASR|RNNT", "automatic-speech-recognition", "audio"),
    (r"Wav2Vec2", "feature-extraction", "audio"),
    (r"SourceSeparation", "audio-to-audio", "audio"),
    (r"Squim", None, "audio"),  # rates speech
    (r"Tacotron2", "text-to-speech", "text"),
)
_TAGS = {
    "Wav2Vec2FABundle": "forced-alignment",
    "SourceSeparationBundle": "source-separation",
    "SquimObjectiveBundle": "speech-quality",
    "SquimSubjectiveBundle": "speech-quality",
}
_ARCHITECTURES = (
    *("wav2vec2", "hubert", "wavlm", "tacotron2", "emformer", "hdemucs", "squim"),
    *("conv_tasnet", "mms"),
)
_PATHS = ("_path", "_rnnt_path", "_model_path", "_tacotron2_path")

Bundle = tuple[str, str, str, ast.Call, str]


def harvest(package: Path) -> Iterator[ModelRecord]:
    """A record for each bundle of the wheel of `torchaudio`."""
    wheel = Package.open(package)
    license_ = project_license(wheel)
    yield from each(_bundles(wheel), lambda entry: _record(wheel, entry, license_), wheel.source)


def _bundles(wheel: Package) -> Iterator[tuple[str, Bundle]]:
    for path in wheel.matching("torchaudio/pipelines/*.py"):
        try:
            module = parse(wheel, path)
        except TlhubError as error:
            log.warning("%s: %s", wheel.source, error)
            continue
        calls: dict[str, ast.Call] = {}
        docs: dict[str, str] = {}
        for node in module.body:
            match node:
                case ast.Assign(
                    targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=kind)) as call
                ) if kind.endswith("Bundle") and name.isupper():
                    calls[name] = call
                case ast.Assign(
                    targets=[ast.Attribute(value=ast.Name(id=name), attr="__doc__")],
                    value=ast.Constant(value=str() as text),
                ):
                    docs[name] = text
        for name, call in calls.items():
            kind = call.func.id.lstrip("_") if isinstance(call.func, ast.Name) else ""
            yield f"{path}, {name}", (path, name, kind, call, docs.get(name, ""))


def _record(wheel: Package, entry: Bundle, project: License | None) -> ModelRecord:
    path, name, kind, call, doc = entry
    task, modality = next((t, m) for pattern, t, m in _TASKS if re.match(pattern, kind))
    url = _url(call)
    prose = " ".join(re.sub(r":\w+(?::\w+)*:`[^`]*`", "", doc).replace("*", "").split())
    said = prose.partition(". ")[0].partition("Originally published")[0].strip()
    width = _embed_dim(call) if task == "feature-extraction" else None
    hints = f"{name} {PurePosixPath(url).stem}".lower()
    architecture = next((item for item in _ARCHITECTURES if item in hints), None)
    return record(
        f"torchaudio/{name}",
        Facts(
            wheel.source,
            path,
            {
                "framework": "torchaudio",
                "architecture": architecture,
                "description": said or None,
                "license": _license(doc),
                "artifacts": (
                    Artifact(
                        path=PurePosixPath(url).name, format="pytorch", urls=(url,), safe=False
                    ),
                ),
                "embed_dim": width,
            },
        ),
        Facts(
            wheel.source,
            path,
            {
                "task": task,
                "modality": modality,
                "family": architecture,
                "tags": (_TAGS[kind],) if kind in _TAGS else (),
                "source_datasets": _source_datasets(prose),
                "languages": _languages(name, prose, kind),
                "license": project,
            },
            derived=True,
        ),
    )


def _url(call: ast.Call) -> str:
    named = {item.arg: item.value for item in call.keywords if item.arg in _PATHS}
    nodes = [*named.values(), *call.args[:1]]
    if not nodes:
        raise ValueError("it names no file")
    path = literal(nodes[0])
    if path.startswith("https://"):
        return str(path)
    return f"{_PLACE}/{path}" if path.startswith("models/") else f"{_PLACE}/models/{path}"


def _embed_dim(call: ast.Call) -> int | None:
    for node in [*call.args, *(item.value for item in call.keywords)]:
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "encoder_embed_dim":
                    found = literal(value)
                    return found if isinstance(found, int) else None
    return None


def _license(doc: str) -> License | None:
    """Of the weights, where the documentation of a bundle says how they were published."""
    text = " ".join(doc.split())
    match = re.search(
        r"(?:under|weights are under) \[?`?(MIT License|CC[- ]BY-NC 4\.0|"
        r"Creative Commons [\w .]+? License)",
        text,
    )
    if match is None:
        return None
    link = re.search(r"<(https://[^>]*(?:licen[sc]e|LICENSE)[^>]*)>", text, re.I)
    found = license_of(match[1], "weights")
    if found is None:
        return None
    return License(
        scope="weights",
        spdx=found.spdx,
        raw=found.raw,
        url=link[1] if link else None,
        commercial=found.commercial,
    )


def _source_datasets(prose: str) -> tuple[SourceDataset, ...]:
    before, _, after = prose.partition("fine-tuned")
    first = datasets_in(before)
    return (
        *(SourceDataset(id=item, role="pretrain") for item in first),
        *(SourceDataset(id=item, role="finetune") for item in datasets_in(after)),
    )


def _languages(name: str, prose: str, kind: str) -> tuple[str, ...]:
    if match := re.search(r"_10K_([A-Z]{2})$", name):
        return (match[1].lower(),)
    english = {"librispeech", "ljspeech"} & set(datasets_in(prose))
    return ("en",) if english and re.search("ASR|RNNT|Tacotron2", kind) else ()
