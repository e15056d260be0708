"""Low-rank adapters (LoRA) on the linear layers of a network with attention, in its graph.

Beside ``x W'`` of a linear layer goes ``2 (x A') B'``, where A (rank, in) is drawn and B (out,
rank) begins as zero, so that nothing changes at first; A and B alone learn. Merged, their product
is in W. Source: Hu et al. 2021, section 4, with alpha twice the rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from catalog.errors import UsageError
from finetuning.tuning.division import ATTENTION, OWN

_SCALE = 2.0
_NAME = "lora"  # of the adapters in the graph's module
_LINEAR = torch.ops.aten.linear.default


class Adapter(torch.nn.Module):
    """What is beside the linear layers that have the weight (out, in) of one name."""

    def __init__(self, name: str, weight: torch.Tensor, rank: int, random: torch.Generator) -> None:
        super().__init__()
        out, width = weight.shape
        rank = min(rank, out, width)
        drawn = torch.rand(rank, width, generator=random) * 2 - 1
        self.name = name
        self.down = torch.nn.Parameter(drawn / math.sqrt(width))
        self.up = torch.nn.Parameter(torch.zeros(out, rank))

    def merge(self, weight: torch.Tensor) -> None:
        """Add what was learned to the weight, and be nothing beside it."""
        with torch.no_grad():
            weight.add_(_SCALE * (self.up @ self.down))
            self.up.zero_()


def add(upper: fx.GraphModule, rank: int, seed: int) -> None:
    """Put adapters beside all linear layers of the network's own, and let nothing else learn.

    Raises:
        UsageError: the network has no attention, or no linear layer.
    """
    layers = list(_layers(upper))
    if not layers or not any(node.target in ATTENTION for node in upper.graph.nodes):
        raise no_transformer()
    random = torch.Generator().manual_seed(seed)
    upper.requires_grad_(False)
    adapters = torch.nn.ModuleList()
    upper.add_module(_NAME, adapters)
    places: dict[str, int] = {}
    for node, name in layers:
        if name not in places:
            places[name] = len(adapters)
            adapters.append(Adapter(name, upper.get_parameter(name), rank, random))
        _insert(upper.graph, node, f"{_NAME}.{places[name]}")
    upper.graph.lint()
    upper.recompile()


def merge(upper: fx.GraphModule) -> None:
    """Put what the adapters learned into the weights that they are beside."""
    for adapter in upper.modules():
        if isinstance(adapter, Adapter):
            adapter.merge(upper.get_parameter(adapter.name))


def no_transformer() -> UsageError:
    """That there is nothing to put adapters on."""
    return UsageError(
        "LoRA adapts the linear layers of transformers, and this network is none",
        hint="--unfreeze 2 trains its last two layers, --unfreeze all everything",
    )


def _layers(upper: fx.GraphModule) -> Iterator[tuple[fx.Node, str]]:
    """The linear layers, and the names of their weights."""
    own = {name for name, _ in upper.named_parameters() if name.startswith(OWN)}
    for node in upper.graph.nodes:
        if node.target == _LINEAR:
            weight = node.args[1]
            if weight.op == "get_attr" and weight.target in own:
                yield node, str(weight.target)


def _insert(graph: fx.Graph, layer: fx.Node, adapter: str) -> None:
    """Add to what a layer gives what its adapter does."""
    with graph.inserting_after(layer):
        total = graph.call_function(torch.ops.aten.add.Tensor, (layer, layer))
    layer.replace_all_uses_with(total)
    with graph.inserting_before(total):
        down, up = (graph.get_attr(f"{adapter}.{side}") for side in ("down", "up"))
        narrow = graph.call_function(_LINEAR, (layer.args[0], down))
        wide = graph.call_function(_LINEAR, (narrow, up))
        scaled = graph.call_function(torch.ops.aten.mul.Tensor, (wide, _SCALE))
    total.args = (layer, scaled)
