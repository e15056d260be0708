"""The pooling of stages in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from finetuning.stages import Stage

Pool = Callable[..., torch.Tensor]  # of tensors of layers, and of the masks that go with them


def layers_of(stages: Sequence[Stage]) -> tuple[str, ...]:
    """The layers that stages are of, each once."""
    return tuple(dict.fromkeys(stage.layer for stage in stages))


def together(stages: Sequence[Stage]) -> Pool:
    """The vectors of all stages side by side, of the tensors of `layers_of` them and the masks."""
    layers = layers_of(stages)
    pools = [(layers.index(stage.layer), pool_of(stage)) for stage in stages]

    def pool(*tensors: torch.Tensor) -> torch.Tensor:
        masks = tensors[len(layers) :]
        return torch.cat([one(tensors[place], *masks) for place, one in pools], 1)

    return pool


def pool_of(stage: Stage) -> Pool:
    """What `finetuning.pools` does in the graph, in torch."""

    def words(tokens: torch.Tensor, mask: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        weights = mask.unsqueeze(-1).to(tokens.dtype)
        return (tokens * weights).sum(1) / weights.sum(1)

    ways: dict[str, Pool] = {
        "none": lambda vectors, *_: vectors,
        "maps": lambda maps: maps.mean((2, 3)),
        "maps, channels last": lambda maps: maps.mean((1, 2)),
        "first token": lambda tokens: tokens[:, 0],
        "patches": lambda tokens: tokens[:, stage.prefix :].mean(1),
        "words": words,
    }
    return ways[stage.pool]
