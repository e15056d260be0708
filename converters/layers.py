"""The named layers of a network: its stages and blocks, the same for every framework.

A layer is a module that is called once and gives one tensor. Of what contains others the children
are layers too where it only chains them (`Sequential`, `ModuleList`) or gives no tensor of its own;
what a block consists of is its own affair. Where a network has no blocks (AlexNet, VGG), its
activations and pooling layers are named instead: between a convolution and its batch norm nothing
is, so that the two can become one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch

from catalog.errors import UsageError
from converters.backbone import Network
from converters.folder import Layer

_FEWEST = 4  # blocks; a network with fewer is named by its activations and pooling layers
_CHAINS = (torch.nn.Sequential, torch.nn.ModuleList)
_NO_LAYERS = (torch.nn.Dropout, torch.nn.Identity, torch.nn.Flatten)


class Tapped(Network):
    """A network with the tensors of some of its layers as further outputs."""

    def __init__(self, network: Network, names: Sequence[str]) -> None:
        super().__init__(network.model)
        self.network = network
        self.names = tuple(names)
        self.inputs = network.inputs
        self.outputs = (*network.outputs, *names)
        self.activation, self.traced = network.activation, network.traced

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs of the network, then the layers in the order of their names."""
        with _seen(self.network, self.names) as seen:
            outputs = self.network(*tensors)
        return (*outputs, *(_tensor(seen[name][-1]) for name in self.names))


def tapped(network: Network, names: Sequence[str], tensors: Sequence[torch.Tensor]) -> Network:
    """The network with these layers as further outputs; ``tensors`` are an example of its inputs.

    Raises:
        UsageError: it has no such layer; the hint has those that it has.
    """
    have = names_of(network, tensors)
    for name in names:
        if name not in have:
            near = get_close_matches(name, have, 1)
            raise UsageError(
                f"there is no layer {name!r}",
                hint=f"{f'did you mean {near[0]}? ' if near else ''}it has {', '.join(have)}",
            )
    return Tapped(network, names) if names else network


def names_of(network: Network, tensors: Sequence[torch.Tensor]) -> tuple[str, ...]:
    """The names of the layers in the order of their calls; those of no other layer's tensor."""
    return tuple(name for name, _ in _called(network, tensors))


def layers_of(network: Network, tensors: Sequence[torch.Tensor]) -> tuple[Layer, ...]:
    """The layers, with what each is made of and costs for the first of a batch of inputs.

    Multiply-accumulates are counted by torch's `FlopCounterMode`: matrix products, convolutions
    and attention.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        found = _called(network, tensors)
    flops = counter.get_flop_counts()
    root = type(network).__name__
    layers = []
    for name, tensor in found:
        module = network.model.get_submodule(name)
        layers.append(
            Layer(
                name=name,
                type=type(module).__name__,
                shape=tuple(tensor.shape[1:]),
                params=sum(parameter.numel() for parameter in module.parameters()),
                gmacs=sum(flops.get(f"{root}.model.{name}", {}).values()) / 2e9,
            )
        )
    return tuple(layers)


def _called(network: Network, tensors: Sequence[torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
    """The layers with their tensors, of the first of a batch.

    Of several that have the same tensor, the last.
    """
    every = [name for name, _ in network.model.named_modules() if name]
    with torch.no_grad(), _seen(network, every) as seen:
        outputs = network(*(tensor[:1] for tensor in tensors))
    calls = Counter({name: len(results) for name, results in seen.items()})
    names = _distinct(_within("", network.model, seen, calls, leaves=False), seen, outputs)
    if len(names) < _FEWEST:
        modules = dict(network.model.named_modules())
        leaves = _within("", network.model, seen, calls, leaves=True)
        free = [name for name in leaves if not list(modules[name].parameters(recurse=False))]
        names = _distinct(free, seen, outputs)
    return [(name, _tensor(seen[name][0])) for name in names]


def _distinct(
    names: Iterable[str], seen: dict[str, list[Any]], outputs: Iterable[torch.Tensor]
) -> list[str]:
    """The names in the order of their calls: one for each tensor, none for an output."""
    order = {name: number for number, name in enumerate(seen)}
    blocks = sorted(names, key=order.__getitem__)
    same: dict[int, list[str]] = {}  # names of one tensor, the outermost last
    for name in blocks:
        same.setdefault(id(_tensor(seen[name][0])), []).append(name)
    for output in outputs:
        same.pop(id(output), None)
    return [_outermost(these, blocks) for these in same.values()]


def _outermost(names: Sequence[str], blocks: Sequence[str]) -> str:
    """Of the names of one tensor that of a stage before its last block, but not of the trunk."""
    for name in reversed(names):
        within = sum(block.startswith(f"{name}.") for block in blocks)
        if 2 * within < len(blocks):
            return name
    return names[0]


def _within(
    prefix: str,
    module: torch.nn.Module,
    seen: dict[str, list[Any]],
    calls: Counter[str],
    *,
    leaves: bool,
) -> Iterator[str]:
    for child, inner in module.named_children():
        name = f"{prefix}{child}"
        has_children = any(True for _ in inner.children())
        has_tensor = calls[name] == 1 and _tensor(seen[name][0]) is not None
        chains = isinstance(inner, _CHAINS)
        wanted = not chains if leaves else has_children
        if has_tensor and wanted and not isinstance(inner, _NO_LAYERS):
            yield name
        if has_children and (chains or not has_tensor):
            yield from _within(f"{name}.", inner, seen, calls, leaves=leaves)


@contextmanager
def _seen(network: Network, names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """What modules of these names give when the network is called, in the order of the calls."""
    seen: dict[str, list[Any]] = {}

    def keep(name: str) -> Any:
        return lambda _module, _arguments, result: seen.setdefault(name, []).append(result)

    hooks = [network.model.get_submodule(n).register_forward_hook(keep(n)) for n in names]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _tensor(result: Any) -> Any:
    """The one float tensor, with a batch, that a module gave, or the first of several; or None."""
    if isinstance(result, tuple | list) and result:
        result = result[0]
    is_layer = isinstance(result, torch.Tensor) and result.ndim > 1 and result.is_floating_point()
    return result if is_layer else None
