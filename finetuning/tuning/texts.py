"""Texts as a network of texts is trained on them: token ids and masks, padded to the longest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from converters.text_front import TextFront


@dataclass(frozen=True)
class Texts:
    """Texts as tensors of a network; every view is the text itself."""

    tensors: tuple[torch.Tensor, ...]  # token ids, mask, ...: int64 (texts, longest)
    mirrored = False

    @classmethod
    def of(cls, texts: Sequence[str], front: TextFront) -> Texts:
        """As the tokenizer of the network cuts them."""
        return cls(front.tensors(front.given(texts)))

    def __len__(self) -> int:
        return len(self.tensors[0])

    @property
    def lengths(self) -> NDArray[np.int64] | None:
        """Of each text, in tokens; None where padding on the left stays."""
        mask = self.tensors[1]
        return mask.sum(1).numpy() if bool(mask[:, 0].all()) else None

    def part(self, numbers: Sequence[int]) -> Texts:
        """These of the texts."""
        return replace(self, tensors=tuple(tensor[list(numbers)] for tensor in self.tensors))

    def batch(self, numbers: Sequence[int], view: int) -> tuple[torch.Tensor, ...]:  # noqa: ARG002
        """Some of the texts, no longer than the longest of them."""
        return self.trimmed(tuple(tensor[list(numbers)] for tensor in self.tensors))

    @property
    def beside(self) -> tuple[torch.Tensor, ...]:
        """What the upper part of a network is given beside what the lower part says."""
        return self.tensors[1:]

    def whole(self, said: torch.Tensor) -> torch.Tensor:
        """What a part of the network said of a batch (N, tokens, ...), as long as the longest."""
        lacking = self.tensors[0].shape[1] - said.shape[1]
        return functional.pad(said, (*(0, 0) * (said.ndim - 2), 0, lacking))

    def trimmed(self, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Without what is padding in all of them; the mask is the second."""
        mask = tensors[1]
        if not bool(mask[:, 0].all()):  # padded on the left
            return tensors
        longest = int(mask.sum(1).max())
        return tuple(tensor[:, :longest] for tensor in tensors)
