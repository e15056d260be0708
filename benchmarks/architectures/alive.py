"""Random weights whose outputs depend on every tensor and on the input.

Fresh norms and layer scales are ones and zeros, which mute whole branches: a network with half of
its weights wrong would seem the same.
"""

from __future__ import annotations

import torch

from catalog.record import ModelRecord
from converters.evidence import sample_photos
from converters.preprocess import pixel_values, recipe


def enliven(module: torch.nn.Module, record: ModelRecord) -> None:
    """Draw norms, biases and layer scales; take batch statistics from photos."""
    generator = torch.Generator().manual_seed(0)
    how, size = recipe(record)
    photos = [
        photo[y:, x:] for photo in sample_photos().values() for y in (0, 200) for x in (0, 300)
    ]
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            if tensor.ndim <= 1:
                fresh = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(fresh + 0.5 if name.endswith(("weight", "gamma")) else fresh - 0.5)
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 1.0
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
        torch.manual_seed(0)
        module.train()(torch.stack([pixel_values(photo, how, size) for photo in photos]))
        module.eval()
