"""What the same data give without transfer, on the same split: the measure of what it bought."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from catalog.record import ModelRecord, encode
from finetuning.evaluation import accuracy
from finetuning.features import Extract, Extractor, key_of
from finetuning.heads import Labels

_SIDE = 32


def majority(train: Labels, test: Labels) -> float:
    """The accuracy of always saying the most frequent training class."""
    return accuracy(np.full_like(test, np.bincount(train).argmax()), test)


def pixels() -> Extractor:
    """The picture itself, 32 x 32 RGB in 0..1, as features (3072,)."""
    return Extractor(key_of("pixels", str(_SIDE)), lambda: _thumbnail)


def random_weights(record: ModelRecord, seed: int) -> Extractor:
    """Features of the record's architecture with fresh random weights, by torch.

    Opening it raises ConversionError where torch has no such architecture.
    """
    versions = [version(name) for name in ("torch", "torchvision", "timm")]
    key = key_of("random", *versions, str(seed), encode(record).decode())
    return Extractor(key, lambda: _random(record, seed))


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    small = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).ravel() / np.float32(255)


def _random(record: ModelRecord, seed: int) -> Extract:
    import torch

    from converters.registry import random_backbone

    backbone = random_backbone(record, seed)
    backbone.module.to(memory_format=torch.channels_last)

    def extract(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        # One image keeps few cores busy, and every layer waits for the last of them.
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads // 2))
        try:
            features: NDArray[np.float32] = backbone.features([image])[0]
        finally:
            torch.set_num_threads(threads)
        return features

    return extract
