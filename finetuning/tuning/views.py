"""Pictures as a network is trained on them: whole as it will see them, and pieces of them.

What the lower part of a network says of them does not change while the upper part learns: it is
computed once for a few views of each picture and kept (`Kept`). Where all of the network learns,
or memory does not hold as much, pieces are cut anew for every step (`Live`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from catalog.record import Preprocess
from converters.preprocess import pixel_values
from finetuning.ranks import ALONE, Ranks
from finetuning.tuning.texts import Texts

_AREA = (0.35, 1.0)  # of the picture that a piece shows
_RATIO = (3 / 4, 4 / 3)  # of its width to its height
_TRIES = 10
_BATCH = 32  # examples that go through the lower part at once


def piece(
    photo: NDArray[np.uint8],
    preprocess: Preprocess,
    size: tuple[int, int],
    random: np.random.Generator,
    *,
    mirrored: bool,
) -> torch.Tensor:
    """A random piece of a photo uint8 (H, W, 3) as float32 (3, *size); ``mirrored`` half the time.

    Source: Szegedy et al. 2015, as torchvision's RandomResizedCrop has it.
    """
    height, width = photo.shape[:2]
    left, top, across, down = _box(width, height, random)
    filter_ = Image.Resampling[preprocess.interpolation.upper()]
    box = (left, top, left + across, top + down)
    resized = Image.fromarray(photo).resize((size[1], size[0]), filter_, box=box)
    pixels = np.asarray(resized)
    if mirrored and random.random() < 0.5:
        pixels = pixels[:, ::-1]
    return normalized(pixels, preprocess)


def normalized(pixels: NDArray[np.uint8], preprocess: Preprocess) -> torch.Tensor:
    """Pixels uint8 (H, W, 3) as float32 (3, H, W) of the network's range."""
    unit = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (preprocess.mean, preprocess.std))
    return (unit - mean) / std


def _box(width: int, height: int, random: np.random.Generator) -> tuple[float, float, float, float]:
    """Left, top, width and height of a piece; all of the picture where none fits."""
    least, most = map(math.log, _RATIO)
    for _ in range(_TRIES):
        area = width * height * random.uniform(*_AREA)
        ratio = math.exp(random.uniform(least, most))
        across, down = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if across <= width and down <= height:
            return random.uniform(0, width - across), random.uniform(0, height - down), across, down
    return 0.0, 0.0, float(width), float(height)


@dataclass(frozen=True)
class Photos:
    """Photos as tensors of a network: view 0 as it will see them, others random pieces."""

    read: Sequence[Callable[[], NDArray[np.uint8]]]
    preprocess: Preprocess
    size: tuple[int, int]
    seed: int
    mirrored: bool = False
    lengths: ClassVar[None] = None

    def __len__(self) -> int:
        return len(self.read)

    def part(self, numbers: Sequence[int]) -> Photos:
        """These of the photos; their pieces are numbered anew."""
        return replace(self, read=[self.read[n] for n in numbers])

    def tensor(self, number: int, view: int) -> torch.Tensor:
        """One view of one photo, float32 (3, H, W); the same each time it is asked for."""
        photo = self.read[number]()
        if view == 0:
            return pixel_values(photo, self.preprocess, self.size)
        random = np.random.default_rng([self.seed, number, view])
        return piece(photo, self.preprocess, self.size, random, mirrored=self.mirrored)

    def batch(self, numbers: Sequence[int], view: int) -> tuple[torch.Tensor, ...]:
        """One view of several photos, float32 (N, 3, H, W)."""
        return (torch.stack([self.tensor(int(number), view) for number in numbers]),)

    @property
    def beside(self) -> tuple[torch.Tensor, ...]:
        """Nothing: a photo is one tensor."""
        return ()

    def whole(self, said: torch.Tensor) -> torch.Tensor:
        """What a part of the network said of a batch, as it is."""
        return said

    def trimmed(self, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """The tensors as they are."""
        return tensors


Examples = Photos | Texts


class Kept:
    """What the lower part of a network says of ``views`` views of every example.

    Kept as float16 where its figures allow, (examples, views, ...), in memory. Each process
    computes what is its own, and has what all of them computed.
    """

    def __init__(
        self,
        examples: Examples,
        lower: torch.nn.Module,
        views: int,
        *,
        seed: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.count, self.lengths = len(examples), _lengths(examples, device)
        self._examples, self._seed, self._device = examples, seed, device
        lower.to(device).to(memory_format=torch.channels_last)
        own = ranks.own(self.count)
        said = [self._said(lower, own, view) for view in range(views)]
        kinds = ranks.collected(max((rows.element_size() for rows in said), default=2))
        kind = torch.float16 if max(kinds) == 2 else torch.float32
        self._rows = ranks.gathered(torch.stack([rows.to(kind) for rows in said], 1), self.count)

    def _said(self, lower: torch.nn.Module, own: range, view: int) -> torch.Tensor:
        rows = []
        for start in range(0, len(own), _BATCH):
            given = self._examples.batch(own[start : start + _BATCH], view)
            with torch.inference_mode():
                (said,) = lower(*(fast(tensor.to(self._device)) for tensor in given))
            rows.append(_halved(self._examples.whole(said.cpu())))
        return torch.cat(rows)

    def batch(self, pictures: NDArray[np.int64], step: int) -> tuple[torch.Tensor, ...]:
        """What was said of these, each in a view that the step draws; of view 0 for step -1."""
        views = np.zeros(len(pictures), np.int64)
        if step >= 0:
            random = np.random.default_rng([self._seed, step, 2])
            views = random.integers(self._rows.shape[1], size=self.count)[pictures]
        places = torch.from_numpy(pictures)
        rows = self._rows[places, torch.from_numpy(views)].to(self._device, torch.float32)
        beside = (tensor[places] for tensor in self._examples.beside)
        given = self._examples.trimmed((rows, *beside))
        return tuple(fast(tensor.to(self._device)) for tensor in given)


class Live:
    """The examples as the ``lower`` part has them now; of photos a new piece in every step."""

    def __init__(
        self, examples: Examples, device: torch.device, lower: torch.nn.Module | None = None
    ) -> None:
        self.count, self.lengths = len(examples), _lengths(examples, device)
        self._examples, self._device = examples, device
        self._lower = lower and lower.to(device).to(memory_format=torch.channels_last)

    def batch(self, pictures: NDArray[np.int64], step: int) -> tuple[torch.Tensor, ...]:
        """See `Kept`."""
        given = self._examples.batch([int(n) for n in pictures], 0 if step < 0 else step + 1)
        given = tuple(fast(tensor.to(self._device)) for tensor in given)
        if self._lower is None:
            return given
        with torch.no_grad():
            (said,) = self._lower(*given)
        return (fast(said), *given[1:])


def _lengths(examples: Examples, device: torch.device) -> NDArray[np.int64] | None:
    """Of texts; a GPU is done sooner with all of a batch at once, padding or not."""
    return examples.lengths if device.type == "cpu" else None


def fast(maps: torch.Tensor) -> torch.Tensor:
    """Maps in the order of memory in which convolutions are twice as fast on a CPU."""
    return maps.contiguous(memory_format=torch.channels_last) if maps.ndim == 4 else maps


def _halved(said: torch.Tensor) -> torch.Tensor:
    half = said.half()
    return half if bool(torch.isfinite(half).all()) else said
