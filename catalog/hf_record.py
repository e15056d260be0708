"""An entry of a Hugging Face hub's `GET /api/models` -> a record."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from catalog.errors import UsageError
from catalog.members import leaves_folder
from catalog.model_card import fields, word
from catalog.record import Artifact, Digest, ModelRecord, Provenance, decode, encode

log = logging.getLogger(__name__)

# What `expand` has to ask for.
WANTED = (
    *("cardData", "config", "disabled", "gated", "lastModified", "library_name", "model-index"),
    *("pipeline_tag", "safetensors", "sha", "siblings", "tags"),
)

HUGGING_FACE = "https://huggingface.co"

_HUB = re.compile(r"https?://([^/?#@!]+)")
_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WHEN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)Z")
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_PRECISIONS = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}
# Ending -> format, and whether loading it can run code; in the order of our preference.
_FORMATS = {
    ".safetensors": ("safetensors", True),
    ".onnx": ("onnx", True),
    ".gguf": ("gguf", True),
    ".bin": ("pytorch", False),
    ".pt": ("pytorch", False),
    ".pth": ("pytorch", False),
    ".ckpt": ("pytorch", False),
    ".keras": ("keras", False),
    ".h5": ("keras", False),
    ".nemo": ("nemo", False),
    ".tflite": ("tflite", True),
}
# State of a training, not a model.
_LEFTOVER = re.compile(
    r"(?:^|/)(?:checkpoint-\d+/|runs/|global_step\d+/|(?:optimizer|scheduler|scaler|training_args"
    r"|trainer_state|rng_state\w*|random_states\w*|optim_states\w*)\.\w+$)"
)
_FILES = 50


def repository_of(entry: Any) -> str:
    """The name of the repository that an entry is about.

    Raises:
        UsageError: it has none that a hub allows.
    """
    name = entry.get("id", entry.get("modelId")) if isinstance(entry, dict) else None
    if not isinstance(name, str) or not _ID.fullmatch(name) or ".." in name:
        raise UsageError(f"id: expected owner/name, got {name!r:.80}")
    return name


def modified(entry: Any) -> str | None:
    """When the repository last changed: ISO 8601 in UTC, without the Z, so that it sorts as text.

    None where the entry does not say.
    """
    said = entry.get("lastModified") if isinstance(entry, dict) else None
    found = _WHEN.fullmatch(said) if isinstance(said, str) else None
    return found[1] if found else None


def source_of(endpoint: str) -> str:
    """The first part of the uids of another hub than the one of `HF_ENDPOINT`: its host.

    Raises:
        UsageError: the address is not that of a host alone.
    """
    found = _HUB.fullmatch(endpoint)
    if found is None:
        raise UsageError(
            f"{endpoint!r:.80} is no address of a hub", hint="write https://hub.example.com"
        )
    return found[1].lower().replace(":", "-")


def address_of(endpoint: str, name: str) -> str:
    """The URI of a repository, which leads to the hub at ``endpoint`` wherever it is read.

    A hub that is not a host alone has none: there it is an `hf:`, for `HF_ENDPOINT` to lead.
    """
    elsewhere = endpoint != HUGGING_FACE and _HUB.fullmatch(endpoint)
    return f"hub+{endpoint}/{name}" if elsewhere else f"hf:{name}"


def record_of(
    entry: Any,
    endpoint: str,
    *,
    source: str = "hf",
    uid_of: Callable[[str], str] = "hf/{}".format,
) -> ModelRecord:
    """The record of one entry of the hub at ``endpoint``, under the uid `source/owner/name`.

    A field that makes no sense is left out and logged. ``uid_of`` gives the uid under which the
    catalog has a repository.

    Raises:
        UsageError: it cannot be a model; the message names the field.
    """
    name = repository_of(entry)
    if entry.get("disabled"):
        raise UsageError(f"{name} is disabled by the hub")

    def complain(field: str, wrong: str) -> None:
        log.info("%s: %s: %s", name, field, wrong)

    card = entry.get("cardData")
    card = dict(card) if isinstance(card, dict) else {}
    for said in ("model-index", "library_name", "pipeline_tag"):  # the hub works these out
        if entry.get(said):
            card[said] = entry[said]
    tags = entry.get("tags")
    listed = tags if isinstance(tags, list) else []
    found = fields(
        {**card, "tags": None},
        tuple(tag for item in listed if (tag := word(item))),
        complain=complain,
        uid_of=uid_of,
    )
    when = modified(entry)
    params, precision, about = _weights(entry.get("safetensors"))
    found |= {
        "hf_hub_id": name if source == "hf" else None,
        "origin_url": f"{endpoint}/{name}",
        "params": params,
        "artifacts": tuple(_artifacts(entry, address_of(endpoint, name), precision, about))
        if "/" in name
        else (),  # an alias of old: nothing is pulled by it
        **_architecture(entry.get("config")),
    }
    known = {field: value for field, value in found.items() if value not in (None, (), "")}
    provenance = Provenance(
        fields=tuple(known),
        source=f"{endpoint}/api/models",
        path=_commit(entry),
        date=when[:10] if when else None,
    )
    record = ModelRecord(uid=f"{source}/{name}", provenance=(provenance,), **known)
    return decode(encode(record))


def _architecture(config: Any) -> dict[str, str | None]:
    if not isinstance(config, dict):
        return {}
    listed = config.get("architectures")
    first = listed[0] if isinstance(listed, list) and listed else config.get("architecture")
    return {"architecture": word(first), "family": word(config.get("model_type"))}


def _weights(said: Any) -> tuple[int | None, str | None, int | None]:
    """Parameters, precision and bytes, where all numbers are floats: packed ones hide theirs."""
    counts = said.get("parameters") if isinstance(said, dict) else None
    if not isinstance(counts, dict) or not counts:
        return None, None, None
    if not all(kind in _BYTES and _count(n) for kind, n in counts.items()):
        return None, None, None
    most = max(counts, key=lambda kind: counts[kind])
    about = sum(_BYTES[kind] * n for kind, n in counts.items())
    return sum(counts.values()), _PRECISIONS.get(most), about


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53


def _commit(entry: Mapping[str, Any]) -> str | None:
    sha = entry.get("sha")
    return sha if isinstance(sha, str) and _COMMIT.fullmatch(sha) else None


def _artifacts(
    entry: Mapping[str, Any], address: str, precision: str | None, about: int | None
) -> Iterator[Artifact]:
    """The files of weights: those at the top before those in folders, safe ones first."""
    siblings = entry.get("siblings")
    commit = _commit(entry)
    if not isinstance(siblings, list) or commit is None:
        return
    files = [item for item in siblings if isinstance(item, dict) and _is_weights(item)]
    files.sort(key=_preference)
    single = [item for item in files if item["rfilename"].endswith(".safetensors")]
    for item in files[:_FILES]:
        path = item["rfilename"]
        format_, safe = _FORMATS[PurePosixPath(path).suffix.lower()]
        alone = len(single) == 1 and item is single[0]
        size = _size(item)
        yield Artifact(
            path=path,
            format=format_,
            urls=(f"{address}@{commit}!{path}",),
            precision=_precision(path) or (precision if alone else None),
            size_bytes=size,
            about_bytes=about if alone and size is None else None,
            digest=_digest(item),
            safe=safe,
            status="gated" if entry.get("gated") else None,
        )


def _is_weights(item: Mapping[str, Any]) -> bool:
    path = word(item.get("rfilename"))
    if path is None or _LEFTOVER.search(path) or "!" in path or "\\" in path:
        return False
    if leaves_folder(path) or not {"", "."}.isdisjoint(path.split("/")):
        return False
    return PurePosixPath(path).suffix.lower() in _FORMATS


def _preference(item: Mapping[str, Any]) -> tuple[int, int, str]:
    path = PurePosixPath(item["rfilename"])
    return len(path.parts), list(_FORMATS).index(path.suffix.lower()), str(path)


def _precision(path: str) -> str | None:
    """What the name of a file says: `model.fp16.safetensors`, `model-Q4_K_M.gguf`."""
    stem = PurePosixPath(path).stem
    if path.endswith(".gguf"):
        found = re.search(r"(?:^|[-_.])(I?Q\d\w*|BF16|F16|F32)(?:-\d{5}-of-\d{5})?$", stem, re.I)
    else:
        found = re.search(r"[._](fp16|fp32|bf16|int8|int4)$", stem, re.I)
    said = found[1].lower() if found else None
    return {"f16": "fp16", "f32": "fp32"}.get(said, said) if said else None


def _size(item: Mapping[str, Any]) -> int | None:
    lfs = item.get("lfs")
    size = lfs.get("size") if isinstance(lfs, dict) else item.get("size")
    return size if _count(size) else None


def _digest(item: Mapping[str, Any]) -> Digest | None:
    lfs = item.get("lfs")
    sha256 = lfs.get("sha256") if isinstance(lfs, dict) else None
    if isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256):
        return Digest(algorithm="sha256", value=sha256)
    return None
