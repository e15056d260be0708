"""What a run was made of, and how the network beneath its head is loaded again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from catalog.errors import ConversionError
from catalog.record import ModelRecord, Preprocess
from converters.folder import ONNX, ModelFolder
from finetuning.runs import METRICS
from finetuning.stages import LAST, Stage

if TYPE_CHECKING:
    from converters.backbone import Backbone, TorchBackbone

HEAD = "head.safetensors"

_NETWORK, _BASE = "network", "base"  # in the manifest's `run`
_WEIGHTS, _CONFIGURATION = ".safetensors", ".json"


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """The network whose weights lie beside a graph."""

    record: ModelRecord  # by which its framework loads them
    stages: tuple[Stage, ...]  # its points that the head is on, side by side
    projected: bool = False  # whether the graph's embedding is made of them by the head


def network_of(folder: ModelFolder) -> Network:
    """The network of a model, or that beneath the head of a run.

    Raises:
        ConversionError: the run does not say.
    """
    manifest = folder.manifest
    if manifest.kind != "run":
        return Network(record=manifest.record, stages=(LAST,))
    said = (manifest.run or {}).get(_NETWORK)
    if said is None:
        raise ConversionError(
            f"{manifest.uid} does not say how the network beneath its head is loaded: an older "
            "tlhub made it, or it is on the embedding of a run",
            hint=f"make it again with --force, or start from {manifest.record.base_model}",
        )
    try:
        return msgspec.convert(said, Network)
    except msgspec.ValidationError as error:
        raise ConversionError(f"what {manifest.uid} says of its network: {error}") from error


def load(folder: ModelFolder) -> Backbone:
    """The weights of `network_of`, in their framework.

    Raises:
        ConversionError: they cannot be loaded, or the run does not say how.
    """
    from converters.registry import load_backbone

    files = {name: file for name, file in folder.files.items() if name != HEAD}
    return load_backbone(files, network_of(folder).record)


def framed(backbone: TorchBackbone, preprocess: Preprocess) -> TorchBackbone:
    """The network of images with another way from the photo to it."""
    from converters.image_front import ImageFront

    record = msgspec.structs.replace(backbone.record, preprocess=preprocess)
    return replace(backbone, record=record, front=ImageFront.of(record))


def points(base: ModelFolder, stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """Stages of a base as points of the network that `load` gives.

    The embedding of a run is what the head of that run is on.

    Raises:
        ConversionError: the run does not say what that is.
    """
    found: list[Stage] = []
    for stage in stages:
        if stage == LAST and network_of(base).projected:
            raise ConversionError(f"the embedding of {base.manifest.uid} is no point of a network")
        found += network_of(base).stages if stage == LAST else (stage,)
    return tuple(found)


def is_of_network(name: str) -> bool:
    """Whether a file of a base is of its network: weights, configuration, tokenizer."""
    return name not in {HEAD, METRICS} and name.endswith((_WEIGHTS, _CONFIGURATION))


def described(
    base: ModelFolder, uid: str, stages: Iterable[Stage], preprocess: Preprocess | None, *,
    trained: bool, projected: bool,
) -> Mapping[str, Any]:  # fmt: skip
    """What the manifest of the run ``uid`` says of what it was made of, and of its network.

    ``stages`` are the base's, or of a network that was ``trained`` its own; ``projected`` says that
    the run's embedding is what its head makes of them.
    """
    manifest = base.manifest
    files = {
        name: entry.sha256
        for name, entry in manifest.files.items()
        if name == ONNX or name.endswith(_WEIGHTS)
    }
    before = (manifest.run or {}).get(_BASE)
    said: dict[str, Any] = {"uid": manifest.uid, "created": manifest.created, "files": files}
    found: dict[str, Any] = {_BASE: said if before is None else {**said, _BASE: before}}
    try:
        network = network_of(base)
        on = tuple(stages) if trained else points(base, stages)
    except ConversionError:  # of an older run, or on the projection of another
        return found
    record = msgspec.structs.replace(
        network.record, preprocess=preprocess, labels=(), label_set=None, evals=(), artifacts=()
    )
    if trained:
        record = msgspec.structs.replace(
            record, uid=uid, base_model=manifest.uid, relation="finetune"
        )
    beneath = Network(record=record, stages=on, projected=projected)
    return {**found, _NETWORK: msgspec.to_builtins(beneath)}
