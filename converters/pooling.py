"""From the vectors of tokens to one of the text, as sentence-transformers does it.

Source: `sentence_transformer/modules/{pooling,layer_norm}.py` and `base/modules/{dense,normalize}`
of sentence-transformers 6.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from catalog.errors import ConversionError

_ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    name: getattr(torch.nn, name)
    for name in ("ELU", "GELU", "Identity", "LeakyReLU", "ReLU", "SELU", "Sigmoid", "SiLU", "Tanh")
}


class Pooling(torch.nn.Module):
    """Pools ``tokens`` (N, T, D) over ``mask`` (N, T) in each of ``modes``, side by side."""

    def __init__(self, modes: Sequence[str]) -> None:
        super().__init__()
        self.modes = tuple(modes)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """One vector (N, D * modes) of each text."""
        weights = mask.unsqueeze(-1).to(tokens.dtype)
        found = [_pooled(mode, tokens, mask, weights) for mode in self.modes]
        return torch.cat(found, -1) if len(found) > 1 else found[0]


def _pooled(
    mode: str, tokens: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    if mode == "cls":  # the first that is no padding
        return _at(tokens, mask.to(torch.int32).argmax(1))
    if mode == "lasttoken":
        places = torch.arange(mask.shape[1], device=mask.device)
        return _at(tokens, (places * mask).argmax(1))
    if mode == "max":
        return tokens.masked_fill(weights == 0, float("-inf")).amax(1)
    if mode == "weightedmean":  # the n-th token counts n times
        weights = weights * weights.cumsum(1)
    total = (tokens * weights).sum(1)
    count = weights.sum(1).clamp(min=1e-9)
    return total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)


def _at(tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    index = places[:, None, None].expand(-1, 1, tokens.shape[-1])
    return tokens.gather(1, index).squeeze(1)


class Steps(torch.nn.Module):
    """A pooling, and what is done to its vectors after it."""

    def __init__(self, pooling: Pooling, steps: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.pooling = pooling
        self.steps = torch.nn.ModuleList(steps)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The embedding (N, features)."""
        vector: torch.Tensor = self.pooling(tokens, mask)
        for step in self.steps:
            vector = step(vector)
        return vector


class Normalize(torch.nn.Module):
    """Vectors at length 1."""

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        """The vector divided by its length."""
        return torch.nn.functional.normalize(vector, p=2.0, dim=-1)


class Dense(torch.nn.Module):
    """A linear layer and an activation, with a way around it where there is a ``residual``."""

    def __init__(
        self, linear: torch.nn.Linear, activation: torch.nn.Module, residual: torch.nn.Module | None
    ) -> None:
        super().__init__()
        self.linear, self.activation, self.residual = linear, activation, residual

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        """What becomes of the vector."""
        found: torch.Tensor = self.activation(self.linear(vector))
        return found if self.residual is None else found + self.residual(vector)


def activation(name: str) -> torch.nn.Module:
    """The activation that a configuration names by its class in torch; nothing is imported.

    Raises:
        ConversionError: it is none that is known here.
    """
    library, _, kind = name.rpartition(".")
    if library.partition(".")[0] != "torch" or kind not in _ACTIVATIONS:
        raise ConversionError(f"its activation, {name}, is not converted yet")
    return _ACTIVATIONS[kind]()
