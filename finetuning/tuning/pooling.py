"""The pooling of stages in torch."""

from __future__ import annotations

from collections.abc import Callable

import torch

from finetuning.stages import Stage

Pool = Callable[..., torch.Tensor]  # of a layer's tensor, and of the masks that go with it


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
