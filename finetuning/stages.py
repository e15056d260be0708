"""Stages: the few points of a network whose features may serve the data best.

A stage is a named layer pooled to one vector: a map by its mean over places, the tokens of a
picture by its class token and by the mean of its patches, those of a text by the mean over words.
The last stage is the embedding, which is pooled already. Where a network goes on at one shape the
last of the layers stands for them, of a long stretch (a transformer) some at even distances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import msgspec
import onnx

from catalog.record import ModelRecord
from converters.folder import Layer, ModelFolder, is_channels_last
from converters.interface import ATTENTION_MASK, EMBEDDING

Pool = Literal["none", "maps", "maps, channels last", "first token", "patches", "words"]

_MOST = 8  # layers beside the embedding
_STRETCH = 6  # of them, of one shape
_LEAST_SHARE = 0.1  # of a network's products come before what is no mere edge detector
_PREFIX = 8  # tokens before the patches, at most


@dataclass(frozen=True)
class Stage:
    """A point of a network, and how its tensor becomes a vector."""

    name: str  # for people: `blocks.4`, `blocks.5 patches`
    layer: str  # the tensor in the graph
    pool: Pool
    prefix: int = 0  # tokens before the patches
    share: float = 1.0  # of the backbone's multiply-accumulates that are computed up to here

    @property
    def output(self) -> str:
        """The name of its vector in the graph, float32 (batch, features)."""
        return self.layer if self.pool == "none" else f"stage/{self.name}"


LAST = Stage(EMBEDDING, EMBEDDING, "none")


def stages_of(base: ModelFolder, network: onnx.ModelProto) -> tuple[Stage, ...]:
    """The stages of a backbone from its input on; at least the embedding."""
    made = {name for node in network.graph.node for name in node.output}
    layers = [layer for layer in _named(base, network) if layer.name in made]
    shares = shares_of(layers, base.manifest.record)
    is_text = any(item.name == ATTENTION_MASK for item in network.graph.input)
    found: list[Stage] = []
    for layer in _spread([layer for layer in layers if shares[layer.name] >= _LEAST_SHARE]):
        found += _pooled(layer, shares[layer.name], is_text=is_text)
    if found and found[-1].pool.startswith("maps") and _only_pooled(network, found[-1].layer):
        found.pop()
    return (*found, LAST)


def _named(base: ModelFolder, network: onnx.ModelProto) -> Sequence[Layer]:
    """The layers as the folder says, or the graph itself."""
    if base.manifest.layers:
        return base.manifest.layers
    facts = {item.key: item.value for item in network.metadata_props}
    try:
        return msgspec.json.decode(facts.get("tlhub.layers", "[]"), type=list[Layer])
    except msgspec.DecodeError:
        return []


def shares_of(layers: Sequence[Layer], record: ModelRecord) -> dict[str, float]:
    """The fraction of all products that is computed when a layer is, by its name."""
    counted_here = record.gmacs_at == record.input_size  # not for pictures of another size
    whole = (record.gmacs or 0.0) if counted_here else 0.0
    done = 0.0
    reached: dict[str, float] = {}
    for place, layer in enumerate(layers):
        before = {other.name for other in layers[:place] if other.name.startswith(f"{layer.name}.")}
        counted = sum(other.gmacs for other in layers[:place] if other.name in before)
        done = done - counted + layer.gmacs if before else done + layer.gmacs
        reached[layer.name] = done
    total = max(done, whole)  # what lies between layers is counted in none of them
    return {name: value / total if total else 1.0 for name, value in reached.items()}


def _spread(layers: Sequence[Layer]) -> list[Layer]:
    """The last layer of each shape, and more of a long stretch; the deepest where too many."""
    chosen: list[Layer] = []
    for _, group in groupby(layers, key=lambda layer: layer.shape):
        same = list(group)
        count = min(_STRETCH, len(same)) if len(same) >= _STRETCH else 1
        places = {len(same) - 1 - round(n * len(same) / count) for n in range(count)}
        chosen += [same[place] for place in sorted(places)]
    return chosen[-_MOST:]


def _pooled(layer: Layer, share: float, *, is_text: bool) -> Iterator[Stage]:
    name, shape = layer.name, layer.shape
    if is_text:
        if len(shape) == 2:
            yield Stage(name, name, "words", 0, share)
        return
    if len(shape) == 3:
        pool: Pool = "maps, channels last" if is_channels_last(shape) else "maps"
        yield Stage(name, name, pool, 0, share)
    elif len(shape) == 2:
        prefix = _prefix(shape[0])
        if prefix:
            yield Stage(f"{name} class token", name, "first token", 0, share)
        if prefix is not None:
            yield Stage(f"{name} patches", name, "patches", prefix, share)


def _prefix(tokens: int) -> int | None:
    """How many tokens come before a square of patches; None where it is no such thing."""
    rest = tokens - math.isqrt(tokens) ** 2
    return rest if rest <= _PREFIX and tokens > rest else None


def _only_pooled(network: onnx.ModelProto, layer: str) -> bool:
    """Whether the embedding is no more than the mean of this layer."""
    producers = {name: node for node in network.graph.node for name in node.output}
    name = EMBEDDING
    while name != layer:
        node = producers.get(name)
        if node is None or node.op_type not in _SHAPING:
            return False
        name = node.input[0]
    return True


_SHAPING = {"Flatten", "GlobalAveragePool", "Identity", "ReduceMean", "Reshape", "Squeeze"}
