"""A run in torch, its head included: what its graph is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from safetensors.torch import load_file
from torch.nn import functional

from catalog.errors import UsageError
from converters.backbone import Network, TorchBackbone
from converters.folder import ModelFolder
from converters.interface import EMBEDDING, LOGITS, PREDICTIONS, SIMILARITIES
from converters.layers import Tapped
from finetuning import lineage
from finetuning.stages import Stage
from finetuning.tuning.pooling import layers_of, together

_ACTIVATIONS = {"classification": "softmax", "multi-label": "sigmoid", "regression": "identity"}


class Headed(Network):
    """A network with another head on some of its stages.

    ``forward`` takes what the network takes and returns the head's scores (N, classes), and
    ``embedding`` (N, features), what the head is given: the stages' vectors side by side.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    hidden: torch.Tensor | None
    shifts: torch.Tensor | None

    def __init__(
        self,
        network: Network,
        stages: Sequence[Stage],
        head: Mapping[str, torch.Tensor],
        activation: str,
    ) -> None:
        super().__init__(network.model)
        self.inputs, self.activation = network.inputs, activation
        self.outputs = (PREDICTIONS if activation == "identity" else LOGITS, EMBEDDING)
        layers = [stage.layer for stage in stages]
        self.network = Tapped(network, [name for name in layers if name not in network.outputs])
        self.stages = tuple(stages)
        for name in ("weight", "bias", "hidden", "shifts"):
            self.register_buffer(name, head.get(name))

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and embedding of a batch."""
        seen = dict(zip(self.network.outputs, self.network(*tensors), strict=True))
        layers = [seen[name] for name in layers_of(self.stages)]
        embedding = together(self.stages)(*layers, *tensors[1:])
        given = embedding
        if self.hidden is not None:
            given = functional.relu(functional.linear(embedding, self.hidden, self.shifts))
        return functional.linear(given, self.weight, self.bias), embedding


class Projected(Headed):
    """A network whose embedding is a projection of some of its stages, of length 1.

    ``forward`` returns its cosines (N, classes) with the classes' prototypes, and it (N, features).
    """

    prototypes: torch.Tensor

    def __init__(
        self, network: Network, stages: Sequence[Stage], head: Mapping[str, torch.Tensor]
    ) -> None:
        super().__init__(network, stages, head, "identity")
        self.outputs = (SIMILARITIES, EMBEDDING)
        self.register_buffer("prototypes", head["prototypes"])

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and embedding of a batch."""
        vectors = functional.normalize(super().forward(*tensors)[0])
        return vectors @ self.prototypes.T, vectors


def reference(run: ModelFolder) -> TorchBackbone:
    """The network of a run with its head.

    Raises:
        ConversionError: the network cannot be loaded, or the run does not say how.
        UsageError: it is not in torch.
    """
    backbone = lineage.load(run)
    if not isinstance(backbone, TorchBackbone):
        raise UsageError(
            f"{run.path} has its network as ONNX alone: nothing to compare its graph with"
        )
    preprocess = run.manifest.record.preprocess
    if preprocess is not None:
        backbone = lineage.framed(backbone, preprocess)
    head = load_file(run.path / lineage.HEAD)
    kind = str((run.manifest.run or {})["metrics"]["kind"])
    stages = lineage.network_of(run).stages
    if kind == "embedding":
        return replace(backbone, module=Projected(backbone.module, stages, head))
    module = Headed(backbone.module, stages, head, _ACTIVATIONS[kind])
    return replace(backbone, module=module)
