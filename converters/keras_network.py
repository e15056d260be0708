"""Models of Keras 3 on its torch backend, as networks whose layers have names.

A layer of Keras is no child of its model to torch, and has no hooks. `Graph` runs a model's own
graph with each layer in a module of its own, so that the layers are named, measured and exported
as those of any other network.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from catalog.errors import ConversionError, UsageError
from converters import keras_pooling
from converters.backbone import Given, Network
from converters.interface import BATCH_SIZES, EMBEDDING, LOGITS, PIXEL_VALUES

_INSTALL = "pip install 'tlhub[keras]'"


def keras() -> Any:
    """Keras on its torch backend and the CPU; nothing of that stays in the environment.

    Raises:
        UsageError: this process has it on another backend. ConversionError: it is not installed.
    """
    there: Any = sys.modules.get("keras")
    if there is None:
        wanted = {"KERAS_BACKEND": "torch", "KERAS_TORCH_DEVICE": "cpu"}
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            there = importlib.import_module("keras")
        except ImportError as error:
            raise ConversionError("Keras is not installed", hint=_INSTALL) from error
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
    backend = there.backend.backend()
    if backend != "torch":
        raise UsageError(
            f"Keras runs on {backend} in this process, and is converted on torch",
            hint="convert before anything imports keras, or in a process of its own",
        )
    if there.config.image_data_format() != "channels_last":
        raise UsageError("Keras is set to channels_first", hint="mend ~/.keras/keras.json")
    return there


class _Called(torch.nn.Module):
    """A layer of Keras with its weights, as torch sees modules."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._layer = (layer,)  # hidden: it is a torch module too, and would be a child
        for weight in getattr(layer, "weights", ()):
            name = weight.path.replace("/", "_").replace(".", "_")
            self.register_parameter(name, weight.value)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """As torch's, and the layer casts what it is given to what its weights become."""
        if hasattr(self._layer[0], "dtype_policy"):
            self._layer[0].dtype_policy = str(fn(torch.zeros(())).dtype).removeprefix("torch.")
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return self._layer[0](*arguments, **options)


class Graph(torch.nn.Module):
    """A model of Keras, its layers by name."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._functional = (getattr(model, "_functional", None) or model,)
        if not hasattr(self._functional[0], "_run_through_graph"):
            raise ConversionError(
                f"{type(model).__name__} is a model whose layers are called by code of its own",
                hint="only Sequential and functional models of Keras are converted",
            )
        keras_pooling.mend(model)
        for layer in self._functional[0].operations:
            kind = type(type(layer).__name__, (_Called,), {})
            self.add_module(self.name_of(layer), kind(layer))

    def forward(self, *tensors: torch.Tensor) -> Any:
        """What the model gives in evaluation mode."""
        return self._functional[0]._run_through_graph(list(tensors), operation_fn=self._module)

    def name_of(self, layer: Any) -> str:
        """The name of a layer's module; Keras sees to it that no two are the same."""
        return str(layer.name).replace(".", "_")

    def _module(self, layer: Any) -> Any:
        return self.get_submodule(self.name_of(layer))


class KerasClassifier(Network):
    """An image classifier of Keras.

    ``forward`` takes ``pixel_values`` float32 (N, 3, H, W) and returns ``logits`` (N, classes) and
    ``embedding`` (N, features). ``flipped`` networks were trained on BGR.
    """

    inputs = (PIXEL_VALUES,)
    outputs = (LOGITS, EMBEDDING)

    def __init__(self, model: Graph, head: str, activation: str, *, flipped: bool) -> None:
        super().__init__(model)
        self.head, self.activation, self.flipped = head, activation, flipped

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and embedding of a batch."""
        pixels = pixel_values.flip(1) if self.flipped else pixel_values
        seen: list[torch.Tensor] = []
        hook = self.model.get_submodule(self.head).register_forward_pre_hook(
            lambda _module, arguments: seen.append(arguments[0])
        )
        try:
            logits = self.model(pixels.permute(0, 2, 3, 1))
        finally:
            hook.remove()
        features = seen[0]
        return logits, features.mean((1, 2)) if features.ndim == 4 else features


class KerasNetwork(Network):
    """Any model of Keras, with the tensors and names that it has."""

    def __init__(
        self, model: Graph, inputs: Sequence[str], outputs: Sequence[str], activation: str
    ) -> None:
        super().__init__(model)
        self.inputs, self.outputs, self.activation = tuple(inputs), tuple(outputs), activation

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Every output."""
        found = self.model(*tensors)
        if isinstance(found, Mapping):
            return tuple(found.values())
        return tuple(found) if isinstance(found, list | tuple) else (found,)


@dataclass(frozen=True)
class Tensors:
    """A front for models that say of their inputs no more than shapes and types."""

    shapes: Mapping[str, tuple[int, ...]]  # of one
    dtypes: Mapping[str, str]

    @property
    def dynamic(self) -> tuple[dict[int, str], ...]:
        """The batch."""
        return tuple({0: "batch"} for _ in self.shapes)

    def example(self) -> tuple[torch.Tensor, ...]:
        """Two of each."""
        return self.tensors(self._random(2))

    def tensors(self, given: Given) -> tuple[torch.Tensor, ...]:
        """The same."""
        return tuple(torch.from_numpy(given[name]) for name in self.shapes)

    def samples(self) -> list[Any]:
        """None: what it is for is not known."""
        return []

    def exact(self, samples: Sequence[Any]) -> dict[str, Given]:  # noqa: ARG002 - a Front
        """Random tensors."""
        return {f"random-{count}": self._random(count) for count in BATCH_SIZES}

    def real(self, samples: Sequence[Any]) -> dict[str, Given]:  # noqa: ARG002 - a Front
        """Nothing."""
        return {}

    def attach(self, model: Any) -> None:
        """Leave the graph as it is."""

    def description(self) -> dict[str, Any]:
        """What it takes."""
        inputs = [
            {"name": name, "dtype": self.dtypes[name], "shape": ["batch", *shape]}
            for name, shape in self.shapes.items()
        ]
        return {"in_graph": False, "inputs": inputs}

    def _random(self, count: int) -> dict[str, NDArray[Any]]:
        random = np.random.default_rng(count)
        return {
            name: (
                random.normal(size=(count, *shape)).astype(self.dtypes[name])
                if "float" in self.dtypes[name]
                else random.integers(0, 2, (count, *shape)).astype(self.dtypes[name])
            )
            for name, shape in self.shapes.items()
        }
