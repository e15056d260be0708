"""`DetectionModel`: a detector that runs, from photos to what is in them and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from catalog.errors import UsageError
from converters.image_model import Photo, PhotoModel, decode
from converters.interface import BOXES, KEYPOINTS, MASKS, NUMBERS, SCORES

MIN_SCORE = 0.5  # of what is shown, unless one says otherwise
_TOP = 100


class Detection(NamedTuple):
    """One thing in a photo."""

    label: str
    score: float  # 0..1
    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels of the photo
    mask: NDArray[np.bool_] | None = None  # (H, W) of the photo: which pixels are of it
    keypoints: NDArray[np.float32] | None = None  # (points, 2): x and y in pixels of the photo


class DetectionModel(PhotoModel[list[Detection]]):
    """A detector."""

    def predict(
        self, given: Sequence[Photo], *, top: int | None = None, min_score: float = MIN_SCORE
    ) -> list[list[Detection]]:
        """For each photo at most ``top`` things (100) of at least ``min_score``, the surest first.

        Raises:
            UsageError: ``top`` is below 1.
        """
        top = _TOP if top is None else top
        if top < 1:
            raise UsageError(f"top is {top}, must be at least 1")
        return [self._found(decode(photo), top, min_score) for photo in given]

    def several(self, given: Sequence[Photo], outputs: Sequence[str]) -> list[list[NDArray[Any]]]:
        """Several outputs for each photo, each of which goes through on its own."""
        return [self._run(decode(photo)[None], outputs) for photo in given]

    def _found(self, photo: NDArray[np.uint8], top: int, min_score: float) -> list[Detection]:
        outputs = dict(zip(self.outputs, self._run(photo[None], self.outputs), strict=True))
        height, width = photo.shape[:2]
        found = []
        for place in np.argsort(-outputs[SCORES], kind="stable")[:top]:
            score = float(outputs[SCORES][place])
            if score < min_score:
                break
            box = outputs[BOXES][place]
            found.append(
                Detection(
                    self._label(int(outputs[NUMBERS][place])),
                    score,
                    tuple(map(float, box)),  # type: ignore[arg-type]  # four of them
                    mask_in(outputs[MASKS][place], box, height, width)
                    if MASKS in outputs
                    else None,
                    outputs[KEYPOINTS][place, :, :2] if KEYPOINTS in outputs else None,
                )
            )
        return found


def mask_in(
    mask: NDArray[np.float32], box: NDArray[np.float32], height: int, width: int
) -> NDArray[np.bool_]:
    """Which pixels of a photo are over 0.5 in a mask that is spread over its box.

    As torchvision's `paste_masks_in_image` does it: the mask is given a border of one zero, and the
    box grows by as much, to whole pixels.
    """
    side = mask.shape[-1]
    scale = (side + 2) / side
    center = (box[:2] + box[2:]) / 2
    half = (box[2:] - box[:2]) / 2 * scale
    left, top, right, bottom = np.trunc(np.concatenate([center - half, center + half])).astype(int)
    size = (max(int(right - left) + 1, 1), max(int(bottom - top) + 1, 1))
    spread = _spread(np.pad(mask, 1), height=size[1], width=size[0])
    whole = np.zeros((height, width), np.bool_)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(right + 1, width), min(bottom + 1, height)
    if x1 > x0 and y1 > y0:
        whole[y0:y1, x0:x1] = spread[y0 - top : y1 - top, x0 - left : x1 - left] > 0.5
    return whole


def _spread(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear without antialiasing, as `torch.nn.functional.interpolate` does it."""
    for axis, side in enumerate((height, width)):
        last = values.shape[axis] - 1
        places = ((np.arange(side) + 0.5) * (last + 1) / side - 0.5).clip(0, last)
        below = np.floor(places).astype(int)
        part = (places - below).astype(np.float32)
        part = part[:, None] if axis == 0 else part
        low = np.take(values, below, axis)
        values = low + (np.take(values, np.minimum(below + 1, last), axis) - low) * part
    return values
