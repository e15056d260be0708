"""`ImageModel`: an image classifier that runs, from photos to labels; and what others share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from converters.images import as_rgb, read_image
from converters.runtime import Answer, OnnxModel, Ranking
from converters.session import run

Photo = NDArray[np.uint8] | Image.Image | str | Path | bytes

# So many photos, and so many pixels of them, are decoded at a time.
_BATCH, _BATCH_PIXELS = 16, 32_000_000


class PhotoModel(OnnxModel[Photo, Answer]):
    """A model of images of any size: paths, bytes of files, PIL images or arrays.

    An array is uint8 (H, W, 3) RGB.

    Where one cannot be read, its methods raise `DataError`; where there is none at a path,
    `NotFoundError`.
    """

    @staticmethod
    def _is_one(given: Photo | Sequence[Photo]) -> bool:
        return isinstance(given, (np.ndarray, Image.Image, str, Path, bytes))

    def several(self, given: Sequence[Photo], outputs: Sequence[str]) -> list[list[NDArray[Any]]]:
        """Several outputs for each; images of one size that lie near go through together."""
        rows: list[list[NDArray[Any]]] = []
        for decoded in _batches(given):
            found: dict[int, list[NDArray[Any]]] = {}
            for shape in dict.fromkeys(image.shape for image in decoded):
                places = [n for n, image in enumerate(decoded) if image.shape == shape]
                batch = self._run(np.stack([decoded[n] for n in places]), outputs)
                found |= dict(zip(places, map(list, zip(*batch, strict=True)), strict=True))
            rows += [found[n] for n in range(len(decoded))]
        return rows

    def _run(self, images: NDArray[np.uint8], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        values: list[NDArray[Any]] = [images]
        for session in self._sessions:
            wanted = outputs if session is self._sessions[-1] else None
            values = run(session, wanted, {session.get_inputs()[0].name: values[0]})
        return values


class ImageModel(PhotoModel[Ranking]):
    """A model that tells classes, labels or numbers of images, or an encoder."""

    def predict(self, given: Sequence[Photo], *, top: int | None = None) -> list[Ranking]:
        """For each image its ``top`` classes, the likeliest first (5); or its numbers.

        A class without a name goes by its number. Where several labels may hold, those that do are
        given, if not ``top`` of them.

        Raises:
            UsageError: ``top`` is below 1, or the graph has no output ``probabilities``.
        """
        return self._ranked(given, top)


def decode(image: Photo) -> NDArray[np.uint8]:
    """An image as uint8 (H, W, 3) RGB."""
    return read_image(image) if isinstance(image, (str, Path, bytes)) else as_rgb(image)


def _batches(images: Iterable[Photo]) -> Iterator[list[NDArray[np.uint8]]]:
    """The images decoded, as many at a time as memory should hold; at least one."""
    batch: list[NDArray[np.uint8]] = []
    pixels = 0
    for image in map(decode, images):
        size = image.shape[0] * image.shape[1]
        if batch and (len(batch) == _BATCH or pixels + size > _BATCH_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(image)
        pixels += size
    if batch:
        yield batch
