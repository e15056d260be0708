"""Images that are nearly the same: recompressed, resized, a frame later.

Each image is known by 64 bits that say where it gets brighter from left to right (dHash) and by a
picture of 16 x 16 pixels. Hashes that differ in four bits agree in two of six pieces at least, and
most that differ in six do, so that sorting by each pair of pieces brings them together; the small
pictures then decide.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from converters.images import RGB
from finetuning.data.joining import joined

Hashes = NDArray[np.uint64]
Pictures = NDArray[np.uint8]  # (N, 768)

SIDE = 16
_BITS = 6  # in which hashes of the same image may differ
_STEP = 3  # of 255, by which it must get brighter: what is of one color has no direction
_WINDOW = 48  # of images of like hashes, each is compared with so many
_DIFFERENCE = 4.0  # of 255, on average over the small pictures
_OF_CONTRAST = 0.2  # of the picture's own standard deviation
_PIECES = (11, 11, 11, 11, 10, 10)
_BLOCKS = 4
_CHUNK = 1 << 14


def fingerprint(small: RGB) -> tuple[int, Pictures]:
    """The hash of an image, and its picture (768,), from a small one of it."""
    image = Image.fromarray(small)
    gray = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    bits = np.packbits(gray[:, 1:] > gray[:, :-1] + _STEP)
    picture = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1)
    return int.from_bytes(bits.tobytes(), "big"), picture


def clusters(hashes: Hashes, pictures: Pictures) -> list[list[int]]:
    """The images that are nearly the same as another, each cluster in order."""
    # What has the same fingerprint is compared once.
    firsts: dict[tuple[int, bytes], int] = {}
    same = [
        (firsts.setdefault((number, pictures[n].tobytes()), n), n)
        for n, number in enumerate(hashes.tolist())
    ]
    chosen = np.fromiter(firsts.values(), np.int64)
    alike = chosen[_alike(hashes[chosen], pictures[chosen])].tolist()
    found = joined(len(hashes), [*same, *alike])
    return [members for members in found if len(members) > 1]


def _alike(hashes: Hashes, pictures: Pictures) -> NDArray[np.int64]:
    """Pairs (P, 2) of images that are nearly the same."""
    sums = pictures.sum(axis=1, dtype=np.int64)
    squares = pictures.reshape(-1, _BLOCKS, SIDE // _BLOCKS, _BLOCKS, SIDE // _BLOCKS, 3)
    blocks = squares.mean(axis=(2, 4, 5), dtype=np.float32).reshape(-1, _BLOCKS**2)
    found = [np.zeros(0, np.int64)]
    for key in _keys(hashes):
        order = np.lexsort((sums, hashes, key))
        sorted_key = key[order]
        for step in range(1, min(_WINDOW, len(order))):
            same = np.flatnonzero(sorted_key[step:] == sorted_key[:-step])
            if not len(same):
                break
            pairs = np.stack([order[same], order[same + step]], axis=1)
            bits = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
            pairs = pairs[bits <= _BITS]
            # What differs more in blocks of pixels cannot differ less in pixels.
            apart = np.abs(blocks[pairs[:, 0]] - blocks[pairs[:, 1]]).mean(axis=1)
            first, second = np.sort(pairs[apart <= _DIFFERENCE], axis=1).T
            found.append(first * len(hashes) + second)
    pairs = np.stack(np.divmod(np.unique(np.concatenate(found)), len(hashes)), axis=1)
    keep = [_same(pictures, pairs[n : n + _CHUNK]) for n in range(0, len(pairs), _CHUNK)]
    return pairs[np.concatenate(keep)] if keep else pairs


def _keys(hashes: Hashes) -> list[Hashes]:
    """Two pieces of each hash in one number, for every two of the six."""
    pieces = []
    shift = 0
    for width in _PIECES:
        pieces.append((hashes >> np.uint64(shift)) & np.uint64((1 << width) - 1))
        shift += width
    return [(a << np.uint64(max(_PIECES))) | b for a, b in combinations(pieces, 2)]


def _same(pictures: Pictures, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    first = pictures[pairs[:, 0]].astype(np.float32)
    apart = first - pictures[pairs[:, 1]]
    # The square counts a small thing that differs before a background that does not.
    within = np.sqrt((apart**2).mean(axis=1)) <= _OF_CONTRAST * first.std(axis=1)
    same: NDArray[np.bool_] = within & (np.abs(apart).mean(axis=1) <= _DIFFERENCE)
    return same
