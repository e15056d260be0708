"""`SegmentationModel`: a segmentation network that runs, from photos to a class for each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from catalog.disk import writing
from catalog.errors import UsageError
from converters.image_model import Photo, PhotoModel
from converters.interface import CLASS_MAP
from converters.runtime import Prediction

_TOP = 5  # classes, unless one says otherwise


class Segmentation(NamedTuple):
    """What a photo shows where."""

    class_map: NDArray[np.uint8]  # (H, W) of the photo: the number of each pixel's class
    shares: list[Prediction]  # of the photo's pixels, in 0..1, the largest first

    def save(self, file: Path | str) -> None:
        """Write the class map as a PNG whose pixels are the numbers, each with a color to see it.

        Raises:
            UsageError: ``file`` does not end in .png. StorageError: it cannot be written.
        """
        file = Path(file)
        if file.suffix.lower() != ".png":
            raise UsageError(f"{file} is no .png, which the class map is written as")
        image = Image.fromarray(self.class_map)
        image.putpalette(_palette())
        with writing(file):
            image.save(file)


class SegmentationModel(PhotoModel[Segmentation]):
    """A segmentation network."""

    def predict(self, given: Sequence[Photo], *, top: int | None = None) -> list[Segmentation]:
        """For each photo its class map, and the ``top`` classes (5) with the largest shares of it.

        Raises:
            UsageError: ``top`` is below 1.
        """
        top = _TOP if top is None else top
        if top < 1:
            raise UsageError(f"top is {top}, must be at least 1")
        maps = [row.astype(np.uint8, copy=False) for row in self.rows(given, CLASS_MAP)]
        return [Segmentation(one, self._shares(one)[:top]) for one in maps]

    def _shares(self, class_map: NDArray[np.uint8]) -> list[Prediction]:
        counts = np.bincount(class_map.ravel())
        order = np.argsort(-counts, kind="stable")
        return [
            Prediction(self._label(int(n)), float(counts[n] / class_map.size))
            for n in order
            if counts[n]
        ]


def _palette() -> list[int]:
    """256 colors far from each other, the first black: those of the PASCAL VOC challenge."""
    colors = []
    for number in range(256):
        for channel in range(3):
            bits = [(number >> (3 * place + channel)) & 1 for place in range(3)]
            colors.append(sum(bit << (7 - place) for place, bit in enumerate(bits)))
    return colors
