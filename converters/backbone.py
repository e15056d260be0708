"""Pretrained weights with what it takes to feed them: what a `Backbone` is, and that of torch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from catalog.errors import ConversionError
from catalog.record import ModelRecord
from converters.folder import Layer
from converters.interface import EMBEDDING, LOGITS, PIXEL_VALUES

if TYPE_CHECKING:
    import onnx

Given = Mapping[str, NDArray[Any]]  # what a graph is given, by the names of its inputs
Outputs = dict[str, NDArray[Any]]


class Network(torch.nn.Module):
    """A module of some framework, with named inputs and outputs.

    ``forward`` takes one tensor for each of ``inputs`` and returns a tuple of one for each of
    ``outputs``, each with the batch first. ``model`` is the framework's own module, untouched.
    ``activation`` makes probabilities of its logits, where it has some: of all classes together
    (``softmax``), or of each on its own (``sigmoid``); ``identity`` makes none. ``traced`` says why
    `torch.export` cannot follow it, where that is known: then the older exporter is taken at once.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    activation: str | None = "softmax"
    traced: str | None = None

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model


class ImageClassifier(Network):
    """An image classifier with two outputs.

    ``forward`` takes ``pixel_values`` float32 (N, 3, H, W) and returns ``logits`` (N, classes) and
    ``embedding`` (N, features): what the classifier, ``head``, is given (pooled where it is given
    a map).
    """

    inputs = (PIXEL_VALUES,)
    outputs = (LOGITS, EMBEDDING)

    def __init__(self, model: torch.nn.Module, head: str) -> None:
        super().__init__(model)
        self.head = head

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and embedding of a batch."""
        seen: list[torch.Tensor] = []
        hook = self.model.get_submodule(self.head).register_forward_pre_hook(
            lambda _module, arguments: seen.append(arguments[0])
        )
        try:
            logits = self.model(pixel_values)
        finally:
            hook.remove()
        return logits, _pooled(seen[0])


class ImageEncoder(Network):
    """An image network without a classifier.

    ``forward`` takes ``pixel_values`` float32 (N, 3, H, W) and returns ``embedding`` (N, features),
    pooled over places or tokens where the network itself does not.
    """

    inputs = (PIXEL_VALUES,)
    outputs = (EMBEDDING,)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
        """The embedding of a batch."""
        return (_pooled(self.model(pixel_values)),)


def _pooled(features: torch.Tensor) -> torch.Tensor:
    """One vector for each image, of a map (N, C, H, W), of tokens (N, T, C) or of vectors."""
    if features.ndim == 4:
        return features.mean((2, 3))
    return features.mean(1) if features.ndim == 3 else features


class Interface(Protocol):
    """What a graph is given, and what is done to it before its network."""

    def samples(self) -> list[Any]:
        """Real things that ship with what is installed: photos, or sentences."""

    def exact(self, samples: Sequence[Any]) -> dict[str, Given]:
        """Batches of 1, 2 and 5 and more, for which both sides compute the same to rounding."""

    def real(self, samples: Sequence[Any]) -> dict[str, Given]:
        """Each sample as a user gives it, where the way to the tensors is in the graph."""

    def attach(self, model: onnx.ModelProto) -> None:
        """Put the way from what the graph is given to the network's tensors into it."""

    def description(self) -> dict[str, Any]:
        """What is done to what the graph is given, for whoever reads its metadata."""


class Front(Interface, Protocol):
    """What lies between what a graph is given and the tensors of its torch network."""

    @property
    def dynamic(self) -> tuple[dict[int, str], ...]:
        """Of each tensor of the network: which axes vary, and what that is called."""

    def example(self) -> tuple[torch.Tensor, ...]:
        """Tensors to trace the network with, of a batch of two: one would be taken for a constant.

        In what varies else they differ from each other by size.
        """

    def tensors(self, given: Given) -> tuple[torch.Tensor, ...]:
        """The network's tensors, made by the framework's own means of what the graph is given."""


class Backbone(Protocol):
    """Weights of any framework: what it takes to make a graph of them and to check the graph."""

    @property
    def record(self) -> ModelRecord:
        """The record of the weights."""

    @property
    def front(self) -> Interface:
        """What the graph is given."""

    @property
    def evidence(self) -> Mapping[str, Any] | None:
        """Why these weights are this architecture, where that was in doubt."""

    @property
    def origin(self) -> Mapping[str, Any] | None:
        """What the graph was before, of a model that was ONNX."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """What goes with the graph, by name: configuration, tokenizer."""

    @property
    def reference(self) -> str:
        """What the graph is compared with, and its version: `torch 2.14.1`."""

    @property
    def activation(self) -> str | None:
        """What makes probabilities of its logits; None where it has them itself, or none."""

    def layers(self) -> tuple[Layer, ...]:
        """The named layers in the order in which they are computed."""

    def asked(self, layers: Sequence[str], *, preprocess: bool) -> Self:
        """The same with these layers as further outputs; without ``preprocess`` a bare network.

        Raises:
            UsageError: there is no such layer; the hint has those that there are.
        """

    def graph(self) -> onnx.ModelProto:
        """The graph with its interface, but for the metadata; unchecked.

        Raises:
            ConversionError: it cannot be made.
        """

    def answers(self, batches: Mapping[str, Given]) -> dict[str, Outputs]:
        """What the graph should answer when it is given each of these, by the reference itself."""

    def rounding(self, batches: Mapping[str, Given]) -> dict[str, float]:
        """How far the reference's own rounding takes it, relative to the largest, by output.

        Empty where that cannot be told.
        """

    def inner(self, given: Given) -> Outputs:
        """The tensors inside that have names in the graph too, in the order of computation."""

    def write_weights(self, file: Path) -> None:
        """Write the weights as safetensors, where they are not in the graph as they are."""


@dataclass(frozen=True)
class BareFront:
    """A front whose part of the graph is left away: the graph takes the network's own tensors."""

    front: Front
    inputs: tuple[str, ...]  # the network's

    @property
    def dynamic(self) -> tuple[dict[int, str], ...]:
        """As of the front."""
        return self.front.dynamic

    def example(self) -> tuple[torch.Tensor, ...]:
        """As of the front."""
        return self.front.example()

    def tensors(self, given: Given) -> tuple[torch.Tensor, ...]:
        """The arrays as they are."""
        return tuple(torch.from_numpy(given[name]) for name in self.inputs)

    def samples(self) -> list[Any]:
        """As of the front."""
        return self.front.samples()

    def exact(self, samples: Sequence[Any]) -> dict[str, Given]:
        """What the front makes of its batches and of each sample."""
        batches = {**self.front.exact(samples), **self.front.real(samples)}
        return {
            name: {
                key: tensor.numpy()
                for key, tensor in zip(self.inputs, self.front.tensors(given), strict=True)
            }
            for name, given in batches.items()
        }

    def real(self, samples: Sequence[Any]) -> dict[str, Given]:  # noqa: ARG002 - a Front
        """Nothing: no way to the tensors is in the graph."""
        return {}

    def attach(self, model: onnx.ModelProto) -> None:
        """Leave the graph as it is."""

    def description(self) -> dict[str, Any]:
        """What has to be done before."""
        return {**self.front.description(), "in_graph": False}


@dataclass(frozen=True)
class TorchBackbone:
    """Weights in their own framework, in evaluation mode on the CPU."""

    module: Network
    record: ModelRecord
    front: Front
    evidence: Mapping[str, Any] | None = None  # why these weights are this architecture
    origin: None = None
    # What it takes besides weights to load it again, and to run it: configuration, tokenizer.
    files: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.module.eval().requires_grad_(False)

    @property
    def reference(self) -> str:
        """Torch."""
        return f"torch {torch.__version__}"

    @property
    def activation(self) -> str | None:
        """The network's."""
        return self.module.activation

    def layers(self) -> tuple[Layer, ...]:
        """See `converters.layers.layers_of`."""
        from converters.layers import layers_of

        return layers_of(self.module, self.front.example())

    def asked(self, layers: Sequence[str], *, preprocess: bool) -> TorchBackbone:
        """See `Backbone`."""
        from converters.layers import tapped

        module = tapped(self.module, layers, self.front.example())
        front = self.front if preprocess else BareFront(self.front, module.inputs)
        return replace(self, module=module, front=front)

    def graph(self) -> onnx.ModelProto:
        """See `converters.export.export`."""
        from converters.export import export

        return export(self)

    def answers(self, batches: Mapping[str, Given]) -> dict[str, Outputs]:
        """See `Backbone`."""
        return {name: self.expected(batch) for name, batch in batches.items()}

    def rounding(self, batches: Mapping[str, Given]) -> dict[str, float]:
        """How far float32 takes the network from float64, relative to the largest, by output."""
        from converters.comparing import OtherFindsError, comparable, differences

        prepared = {batch: self.front.tensors(given) for batch, given in batches.items()}
        rounded = {batch: self.outputs(tensors) for batch, tensors in prepared.items()}
        exact: dict[str, Outputs] = {}
        self.module.double()
        try:
            for batch, tensors in prepared.items():
                doubled = [t.double() if t.is_floating_point() else t for t in tensors]
                with contextlib.suppress(OtherFindsError):  # rounding decides what it finds there
                    one, other = comparable(
                        {batch: batches[batch]},
                        {batch: self.outputs(doubled)},
                        {batch: rounded[batch]},
                        None,
                    )
                    exact, rounded = exact | one, rounded | other
        except RuntimeError:  # a network that is made for float32 alone
            return {}
        finally:
            self.module.float()  # exactly what it was, as double has every value of float
        return differences(exact, rounded)

    def inner(self, given: Given) -> Outputs:
        """See `Backbone`."""
        from converters.layers import Tapped, names_of

        tensors = self.front.tensors(given)
        layers = names_of(self.module, self.front.example())
        there = replace(self, module=Tapped(self.module, layers)).outputs(tensors)
        inputs = {n: t.numpy() for n, t in zip(self.module.inputs, tensors, strict=True)}
        return {**inputs, **{name: there[name] for name in layers}}

    def write_weights(self, file: Path) -> None:
        """See `converters.weights.write`."""
        from converters import weights

        weights.write(self.module.model.state_dict(), file)

    def outputs(self, tensors: Sequence[torch.Tensor]) -> Outputs:
        """Every output of a prepared batch, by name."""
        with torch.inference_mode():
            found = self.module(*tensors)
        return {
            name: tensor.numpy() for name, tensor in zip(self.module.outputs, found, strict=True)
        }

    def expected(self, given: Given) -> Outputs:
        """What the graph should answer when it is given this."""
        return self.outputs(self.front.tensors(given))

    def features(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embeddings float32 (N, embed_dim) of images uint8 (H, W, 3), by torch alone."""
        prepared = [self.front.tensors({"image": image[None]})[0] for image in images]
        batches = [
            self.outputs([torch.cat(prepared[start : start + 16])])[EMBEDDING]
            for start in range(0, len(prepared), 16)
        ]
        return np.concatenate(batches)


def head_of(model: torch.nn.Module, record: ModelRecord) -> str:
    """The name of the classifier: the record's, else the last layer as wide as the classes.

    Raises:
        ConversionError: there is none.
    """
    if record.head is not None:
        try:
            model.get_submodule(record.head)
        except AttributeError:
            raise ConversionError(
                f"{record.architecture} has no module {record.head!r}, the head of {record.uid}"
            ) from None
        return record.head
    modules: list[tuple[str, torch.nn.Module]] = list(model.named_modules())
    for name, module in reversed(modules):
        width = getattr(module, "out_features", getattr(module, "out_channels", None))
        if width == record.num_classes:
            return name
    raise ConversionError(
        f"{record.architecture} has no classifier of {record.num_classes} classes"
    )
