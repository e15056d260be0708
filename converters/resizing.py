"""The same weights for pictures of another size: fewer pixels are faster, more show more."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from catalog.errors import ConversionError, UsageError
from converters.backbone import Backbone, TorchBackbone
from converters.image_front import ImageFront

LEAST, MOST = 16, 2048  # pixels of a side


def resized(backbone: Backbone, side: int) -> TorchBackbone:
    """The backbone for pictures of ``side`` by ``side`` pixels, which its record then says too.

    Networks of timm with embeddings of places interpolate these (`set_input_size`).

    Raises:
        UsageError: there are no pictures of this size.
        ConversionError: it does not take pictures, or none of this size.
    """
    if not LEAST <= side <= MOST:
        raise UsageError(f"an input size of {side}: it is from {LEAST} to {MOST} pixels")
    record = backbone.record
    if not isinstance(backbone, TorchBackbone) or not isinstance(backbone.front, ImageFront):
        raise ConversionError(
            f"{record.uid} is not made for another input size: that is done of networks in torch "
            "that take photos of one size",
            hint="leave --input-size away",
        )
    record = msgspec.structs.replace(record, input_size=(3, side, side))
    change = getattr(backbone.module.model, "set_input_size", None)
    try:
        if change is not None:
            change(img_size=(side, side))
        sized = replace(backbone, record=record, front=ImageFront.of(record))
        sized.outputs(sized.front.example())
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise ConversionError(
            f"{record.architecture} takes no pictures of {side} by {side} pixels: {why[0]}",
            hint=f"its own size is {backbone.front.size[0]} by {backbone.front.size[1]}; networks "
            "of windows or patches take multiples of them",
        ) from error
    return sized
