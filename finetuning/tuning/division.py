"""A network in two: a lower part that stays as it is, and an upper part that learns.

torch's exporter gives the network in evaluation mode as a graph of operators, whatever its code
looks like. A layer at which one tensor alone leads from the input to all that follows is a
*boundary*: what lies below can be computed once for every picture and kept, however often the
upper part is trained on it. In evaluation mode batch norm uses the statistics it came with, so
that frozen means frozen. The parameters are those of the network itself: what is learned is in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from catalog.errors import ConversionError
from converters.backbone import Network
from converters.layers import names_of

OWN = "model."  # how parameters begin that lie in the file of the framework's own module
ATTENTION = {  # operators
    torch.ops.aten.scaled_dot_product_attention.default,
    torch.ops.aten.softmax.int,
}
# What the exporter saw of tensors: it holds on the device that was traced on, and there alone.
_ASSERTION = torch.ops.aten._assert_tensor_metadata.default
_CPU = torch.device("cpu")
_TOLERANCE = 1e-4  # of the range: the same operators in the same order, but for fused kernels


@dataclass(frozen=True)
class Division:
    """The two parts; ``boundary`` is the layer between them, or "" where all of it learns.

    ``lower`` takes the network's tensors and gives that of the boundary, in a tuple. ``upper``
    takes this and the network's other tensors (the mask of a text), and gives those of the layers
    it was asked for.
    """

    boundary: str
    lower: fx.GraphModule
    upper: fx.GraphModule

    def learned(self) -> dict[str, torch.nn.Parameter]:
        """The parameters of the upper part by the names that the network has for them."""
        return {
            name.removeprefix(OWN): parameter
            for name, parameter in self.upper.named_parameters()
            if parameter.requires_grad
        }


class Traced:
    """A network as its operators, and the boundaries it can be divided at."""

    def __init__(
        self,
        network: Network,
        example: Sequence[torch.Tensor],
        dynamic: Sequence[Mapping[int, str]] = (),
    ) -> None:
        """Trace the network on an example of its tensors, with a batch of two.

        ``dynamic`` are the axes of each that vary, with their names; else the batch does.

        Raises:
            ConversionError: torch cannot trace it.
        """
        self._network = network.eval()
        self._example = tuple(example)
        axes = dynamic or [{0: "batch"} for _ in example]
        batch = torch.export.Dim("batch", min=1)
        shapes = tuple(  # how many tokens there may be, the exporter finds out
            {axis: torch.export.Dim.DYNAMIC if axis else batch for axis in one} for one in axes
        )
        try:
            program = torch.export.export(
                network,
                self._example,
                dynamic_shapes=(shapes,) if _takes_any(network) else shapes,
            )
        except Exception as error:  # the exporter lets whatever the network's code raises through
            raise ConversionError(
                f"torch {torch.__version__} cannot trace the network to train it: "
                f"{str(error).strip().partition(chr(10))[0]}"
            ) from error
        self._module = program.module()
        self._graph = self._module.graph
        for node in self._graph.find_nodes(op="call_function", target=_ASSERTION):
            self._graph.erase_node(node)
        _make_functional(self._graph)
        self._nodes = list(self._graph.nodes)
        self._inputs = [node for node in self._nodes if node.op == "placeholder"]
        self._ends = self._layer_ends(names_of(network, self._example))

    @property
    def attends(self) -> bool:
        """Whether it is a transformer, or something like it."""
        return any(node.target in ATTENTION for node in self._nodes)

    def boundaries(self, layer: str) -> tuple[str, ...]:
        """The layers below ``layer`` at which the network can be divided, from its input on.

        Between each and ``layer`` there is something to learn.
        """
        passes, goal = self._passes(), self._tensor_of(layer)
        places = {node: place for place, node in enumerate(self._nodes)}
        return tuple(
            name
            for name, node in self._ends.items()
            if node in passes and places[node] < places[goal] and self._learns(node, goal)
        )

    def _learns(self, start: fx.Node, goal: fx.Node) -> bool:
        names = {
            str(node.target) for node in _behind([goal], stop={start}) if node.op == "get_attr"
        }
        own = {name for name, _ in self._module.named_parameters() if name.startswith(OWN)}
        return not own.isdisjoint(names)

    def divide(self, boundary: str, layers: Sequence[str], device: torch.device = _CPU) -> Division:
        """The network up to ``boundary``, and from there to the tensors of ``layers`` above it.

        ``boundary`` may be "": all of the network is the upper part then. A layer may be the
        embedding or another output. The parts are on the ``device``, and parameters with them.

        Raises:
            ConversionError: the parts together do not compute what the network does.
        """
        self._network.cpu()  # where a part was on a GPU, and shares parameters with all others
        start = self._ends[boundary] if boundary else self._inputs[0]
        goals = [self._tensor_of(name) for name in layers]
        lower = self._between(self._inputs, [start])
        upper = self._between([start, *self._inputs[1:]], goals)
        for name, parameter in upper.named_parameters():
            parameter.requires_grad_(name.startswith(OWN))
        lower.requires_grad_(False)
        division = Division(boundary, lower, upper)
        self._check(division, layers)
        for part in (lower, upper):
            _move(part, device)
        return division

    def _tensor_of(self, name: str) -> fx.Node:
        if name in self._network.outputs:
            (returned,) = self._nodes[-1].args
            node: fx.Node = returned[self._network.outputs.index(name)]
            return node
        return self._ends[name]

    def _layer_ends(self, names: Sequence[str]) -> dict[str, fx.Node]:
        """The node that gives each layer's tensor: the last that was called within it."""
        last: dict[str, fx.Node] = {}
        for node in self._nodes:
            for path, _ in node.meta.get("nn_module_stack", {}).values():
                last[path] = node
        return {name: last[f"model.{name}"] for name in names if f"model.{name}" in last}

    def _passes(self) -> set[fx.Node]:
        """The nodes that all that follows depends on by them alone."""
        place = {node: number for number, node in enumerate(self._nodes)}
        reached = {self._inputs[0]}
        for node in self._nodes:
            if not _is_size(node) and not reached.isdisjoint(node.all_input_nodes):
                reached.add(node)
        needed_until = {
            node: max((place[user] for user in node.users if user in reached), default=-1)
            for node in reached
        }
        alive: set[fx.Node] = set()
        passes: set[fx.Node] = set()
        for number, node in enumerate(self._nodes):
            if node in reached:
                alive.add(node)
            alive = {other for other in alive if needed_until[other] > number}
            if len(alive) == 1:
                passes |= alive
        return passes

    def _between(self, given: Sequence[fx.Node], goals: Sequence[fx.Node]) -> fx.GraphModule:
        """The operators that lead from some nodes to others."""
        wanted = _behind(goals, stop=set(given))
        graph = fx.Graph()
        copies = {node: graph.placeholder(node.name) for node in given}
        for node in self._nodes:
            if node not in wanted or node in copies:
                continue
            if _is_size(node):  # of whatever the part is given first
                copies[node] = graph.call_function(node.target, (copies[given[0]], node.args[1]))
            else:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(tuple(copies[goal] for goal in goals))
        return fx.GraphModule(self._module, graph)

    def _check(self, division: Division, layers: Sequence[str]) -> None:
        from converters.layers import Tapped

        names = [name for name in layers if name not in self._network.outputs]
        tapped = Tapped(self._network, names)
        noise = [_noise(tensor) for tensor in self._example]
        with torch.no_grad():
            expected = dict(zip(tapped.outputs, tapped(*noise), strict=True))
            seen = division.upper(*division.lower(*noise), *noise[1:])
        for name, tensor in zip(layers, seen, strict=True):
            apart = float((tensor - expected[name]).abs().max())
            if not apart <= _TOLERANCE * float(expected[name].abs().max()):
                raise ConversionError(
                    f"divided at {division.boundary or 'its input'}, the network computes another "
                    f"{name}: {apart:.1e} apart",
                    hint="train with --unfreeze none; please report the model",
                )


def _noise(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))


def _takes_any(network: Network) -> bool:
    """Whether ``forward`` takes ``*tensors``, which the exporter counts as one argument."""
    kinds = {item.kind for item in inspect.signature(network.forward).parameters.values()}
    return inspect.Parameter.VAR_POSITIONAL in kinds


def _move(part: fx.GraphModule, device: torch.device) -> None:
    """Put a part on a device, what it makes of nothing (positions, masks) included."""
    for node in part.graph.nodes:
        node.args = tuple(device if isinstance(item, torch.device) else item for item in node.args)
        if "device" in node.kwargs:
            node.update_kwarg("device", device)
    part.recompile()
    part.to(device)


def _is_size(node: fx.Node) -> bool:
    """Whether it is how many inputs there are, or how many tokens each has at most."""
    return node.target is torch.ops.aten.sym_size.int


def _behind(goals: Sequence[fx.Node], stop: set[fx.Node]) -> set[fx.Node]:
    """The nodes that some depend on; no further back than ``stop``, nor than a size."""
    found: set[fx.Node] = set()
    waiting = list(goals)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            if node not in stop and not _is_size(node):
                waiting += node.all_input_nodes
    return found


def _make_functional(graph: fx.Graph) -> None:
    """Have no operator change a tensor that another part of the graph may still read."""
    for node in list(graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or not schema.is_mutable:
            continue
        changed = node.args[0]
        plain = getattr(torch.ops.aten, schema.name.partition("::")[2].removesuffix("_"))
        node.target = getattr(plain, schema.overload_name or "default")
        seen = False
        for other in list(graph.nodes):
            if seen:
                other.replace_input_with(changed, node)
            seen = seen or other is node
    graph.lint()
