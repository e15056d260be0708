"""Random weights whose outputs depend on every tensor and on the input.

Fresh norms and layer scales are ones and zeros, which mute whole branches: a network with half of
its weights wrong would seem the same.
"""

from __future__ import annotations

import torch

from catalog.record import ModelRecord
from converters.backbone import TorchBackbone
from converters.evidence import sample_photos
from converters.image_front import ImageFront
from converters.interface import BOXES, IMAGE


def enliven(module: torch.nn.Module, record: ModelRecord, scale: float = 1.0) -> None:
    """Draw norms, biases and layer scales; take batch statistics from photos and noise.

    Both are what it is checked on: what a norm has not seen grows from layer to layer. What is
    drawn is ``scale`` times as large: where attention is given too much, rounding decides what it
    chooses.
    """
    generator = torch.Generator().manual_seed(0)
    front = ImageFront.of(record)
    photos = [
        photo[y:, x:] for photo in sample_photos().values() for y in (0, 200) for x in (0, 300)
    ]
    photos += [*front.exact(photos)["noise-2"][IMAGE]]
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            if tensor.ndim <= 1:
                fresh = torch.rand(tensor.shape, generator=generator)
                fresh += 0.5 if name.endswith(("weight", "gamma")) else -0.5
                tensor.copy_(scale * fresh)
            elif not tensor.any():  # some classifiers start as nothing
                tensor.normal_(0, 0.02, generator=generator)
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 1.0
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
        torch.manual_seed(0)
        module.train()(front.pixel_values(photos))
        module.eval()


def enliven_spatial(backbone: TorchBackbone) -> None:
    """The same of a network for each pixel or for things: they have no one size of input.

    It is milder, since what is chosen among many boxes by scores that are all but tied would be
    chosen by rounding; for the same reason what gives the scores is scaled up.
    """
    module, front = backbone.module.model, backbone.front
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            if tensor.ndim <= 1:
                fresh = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(fresh * 0.4 + (0.8 if name.endswith("weight") else -0.2))
            elif "cls_" in name:
                tensor.mul_(10)
        norms = [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
        # Of nothing but a black photo a segmentation network rounds least, a detector finds least.
        finds = BOXES in backbone.module.outputs
        given = front.exact(front.samples()).values()
        hooks = [layer.register_forward_pre_hook(_see if finds else _settle) for layer in norms]
        for layer in norms:
            layer.momentum = None  # the mean of all that it sees
        for tensors in map(front.tensors, given) if finds else [front.example()]:
            backbone.module(*tensors)
        for hook in hooks:
            hook.remove()
        module.eval()


def _see(layer: torch.nn.BatchNorm2d, arguments: tuple[torch.Tensor, ...]) -> None:
    """Take statistics of what the layer is given; of a single pixel there are none."""
    layer.train(arguments[0][:, 0].numel() > 1)


def _settle(layer: torch.nn.BatchNorm2d, arguments: tuple[torch.Tensor, ...]) -> None:
    """Have those of what the layer is given; of a single pixel there is no variance."""
    layer.get_buffer("running_mean").copy_(arguments[0].mean((0, 2, 3)))
    if arguments[0][:, 0].numel() > 1:
        layer.get_buffer("running_var").copy_(arguments[0].var((0, 2, 3)) + 1e-3)
