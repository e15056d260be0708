"""What is needed of what is there: one set of weights, whole, and what it takes to use them.

Repositories hold the same weights several times: pickled and as safetensors, for TensorFlow, Flax
and ONNX, in other precisions, and as the state of a training that was never meant to be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from catalog.errors import NotFoundError
from catalog.record import Artifact
from hub_client.formats import AGAIN, TORCH, WEIGHTS, Kind, kind_of

_NEVER = re.compile(r"(^|/)\.git(attributes|ignore)$")
_TRAINING = re.compile(
    r"(^|/)(optimizer|scheduler|scaler|rng_state(_\d+)?|training_args)\.(pt|pth|bin)$"
    r"|(^|/)(checkpoint-|global_step)\d+/|(^|/)events\.out\.tfevents\."
)
# Before any other where the publisher has none without a suffix.
_PRECISIONS = ("fp32", "bf16", "fp16", "q8_0", "int8", "uint8")
_NAMED = 5  # files that a message names


def of_repository(
    artifacts: Sequence[Artifact],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    precision: str | None = None,
) -> tuple[Artifact, ...]:
    """The files of a repository that one set of weights needs.

    Weights are taken in one format (safetensors before pickles; TensorFlow, Flax, ONNX and the
    like only where there is nothing for torch) and in one precision: the asked one, or the
    publisher's own. Everything that is no weights is taken, but for what a training left behind.
    ``include`` patterns (`fnmatch`, over the whole path) take the place of all this; ``exclude``
    patterns take away.

    Raises:
        NotFoundError: nothing is left, the precision is not there, or a shard is missing.
    """
    if include:
        chosen = [a for a in artifacts if _matches(a.path, include)]
    else:
        kinds = {artifact.path: kind_of(artifact.path) for artifact in artifacts}
        kept = _needed(kinds, precision)
        _refuse_incomplete({path: kinds[path] for path in kept})
        chosen = [a for a in artifacts if a.path in kept]
    left = tuple(a for a in chosen if not _matches(a.path, exclude))
    if not left:
        names = ", ".join(a.path for a in artifacts[:_NAMED])
        more = ", ..." if len(artifacts) > _NAMED else ""
        raise NotFoundError(
            "no file is left to fetch", hint=f"there are {names}{more}" if names else None
        )
    return left


def of_record(
    artifacts: Sequence[Artifact], *, precision: str | None = None
) -> tuple[Artifact, ...]:
    """One set of weights of a record, whose files state their format and precision.

    Raises:
        NotFoundError: the precision is not there.
    """
    if not artifacts:
        return ()
    formats = [a.format for a in artifacts]
    first = next((f for f in ("safetensors", "pytorch") if f in formats), formats[0])
    same = [a for a in artifacts if a.format == first]
    best = _precision({a.precision for a in same}, precision)
    return tuple(a for a in same if a.precision == best)


def weights_among(artifacts: Iterable[Artifact]) -> tuple[Artifact, ...]:
    """Those that hold weights."""
    return tuple(a for a in artifacts if a.format in WEIGHTS)


def is_needed_besides(artifact: Artifact) -> bool:
    """Whether a file goes with any weights of its repository: configuration, tokenizer, text."""
    path = artifact.path
    return artifact.format not in WEIGHTS and not _NEVER.search(path) and not _TRAINING.search(path)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    # As the patterns of `hf download`: a folder stands for all that is in it.
    return any(fnmatchcase(path, f"{p}*" if p.endswith("/") else p) for p in patterns)


def _needed(kinds: dict[str, Kind], precision: str | None) -> set[str]:
    usable = {
        path: kind
        for path, kind in kinds.items()
        if not _NEVER.search(path) and not _TRAINING.search(path)
    }
    weights = {path: kind for path, kind in usable.items() if kind.is_weights}
    kept = set(usable) - set(weights)
    weights = _one_family(weights)
    if "model_index.json" in kinds:  # diffusers: what lies beside the parts is all of them in one
        parts = {path: kind for path, kind in weights.items() if kind.group[0] != "."}
        weights = parts or weights
    weights = _without_originals(weights)
    if precision is not None and all(k.precision != precision for k in weights.values()):
        _precision({kind.precision for kind in weights.values()}, precision)
    groups: dict[tuple[str, str], list[str]] = {}
    for path, kind in weights.items():
        groups.setdefault(kind.group, []).append(path)
    for paths in groups.values():
        best = min((weights[path].format for path in paths), key=WEIGHTS.index)
        same = [path for path in paths if weights[path].format == best]
        there = {weights[path].precision for path in same}
        wanted = precision if precision in there else _precision(there, None)
        kept.update(path for path in same if weights[path].precision == wanted)
    return kept


def _one_family(weights: dict[str, Kind]) -> dict[str, Kind]:
    """Without the same weights again for another framework than the first there is."""
    formats = {kind.format for kind in weights.values()}
    first = next((f for f in WEIGHTS if f in formats & (TORCH | AGAIN)), None)
    again = AGAIN - {first}
    return {path: kind for path, kind in weights.items() if kind.format not in again}


def _without_originals(weights: dict[str, Kind]) -> dict[str, Kind]:
    """Without the copy in the layout of the publisher's own code: `original/`, `consolidated`."""
    others = {
        path: kind
        for path, kind in weights.items()
        if kind.group[0] != "original" and not kind.group[1].startswith("consolidated")
    }
    return others or weights


def _precision(there: set[str | None], wanted: str | None) -> str | None:
    if wanted is not None:
        if wanted in there:
            return wanted
        have = ", ".join(sorted(p or "the publisher's own (no suffix)" for p in there))
        raise NotFoundError(f"there are no weights in {wanted}", hint=f"there are: {have or '-'}")
    for precision in (None, *_PRECISIONS):
        if precision in there:
            return precision
    return min((p for p in there if p is not None), default=None)


def _refuse_incomplete(kinds: dict[str, Kind]) -> None:
    """Shards are all there or of no use."""
    shards: dict[tuple[object, ...], set[int]] = {}
    for kind in kinds.values():
        if kind.shard is not None:
            key = (kind.group, kind.format, kind.precision, kind.shard[1])
            shards.setdefault(key, set()).add(kind.shard[0])
    for (*_, count), numbers in shards.items():
        # Some publishers count from 0.
        if len(numbers) < int(str(count)):
            missing = sorted(set(range(1, int(str(count)) + 1)) - numbers)
            raise NotFoundError(
                f"the weights are in {count} files, but number {missing[0]} of them is not there",
                hint="name what you need with --include",
            )
