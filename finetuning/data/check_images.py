"""What is odd about images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from catalog.errors import DataError, NotFoundError
from converters.images import Glance, glance
from finetuning.data import near
from finetuning.data.dataset import Example, Skipped
from finetuning.data.files import suffix
from finetuning.data.findings import Finding

_ENDINGS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png"},
    "WEBP": {".webp"},
    "BMP": {".bmp"},
    "GIF": {".gif"},
    "TIFF": {".tif", ".tiff"},
}
_KNOWN = frozenset().union(*_ENDINGS.values())
_TINY = 16  # pixels of a side, under which hardly anything can be seen
_LONG = 3  # times the other side
_STEP = 500  # images between two lines of progress
_AT_A_TIME = 2048  # images that wait for a thread


@dataclass(frozen=True)
class Seen:
    """What is remembered of an image."""

    width: int
    height: int
    mode: str
    format: str
    rotated: bool
    transparent: bool
    blank: bool  # of one color
    hash: int
    picture: near.Pictures


@dataclass(frozen=True)
class Looked:
    """What was seen of each example; None where it cannot be read."""

    seen: tuple[Seen | None, ...]
    unreadable: tuple[Skipped, ...]

    def clusters(self) -> list[list[int]]:
        """The examples that are nearly the same as another, by their places."""
        known = [(n, seen) for n, seen in enumerate(self.seen) if seen is not None]
        if not known:
            return []
        hashes = np.array([seen.hash for _, seen in known], np.uint64)
        pictures = np.stack([seen.picture for _, seen in known])
        return [[known[n][0] for n in found] for found in near.clusters(hashes, pictures)]


def look(examples: Sequence[Example], progress: Callable[[str], None]) -> Looked:
    """Each image decoded once, on all cores."""
    seen: list[Seen | None] = []
    unreadable: list[Skipped] = []
    # Each thread sets and restores the filters of all: within this, whatever they leave is undone.
    with warnings.catch_warnings(), ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as threads:
        warnings.simplefilter("ignore")
        for start in range(0, len(examples), _AT_A_TIME):
            for result in threads.map(_look, examples[start : start + _AT_A_TIME]):
                if isinstance(result, Skipped):
                    unreadable.append(result)
                seen.append(result if isinstance(result, Seen) else None)
                if len(seen) % _STEP == 0:
                    progress(f"looked at {len(seen)} of {len(examples)} images")
    return Looked(tuple(seen), tuple(unreadable))


def findings(
    examples: Sequence[Example], looked: Looked, input_size: int | None
) -> Iterator[Finding]:
    """What is to be said of them."""
    if looked.unreadable:
        names = [f"{item.name} ({item.reason})" for item in looked.unreadable]
        yield Finding.of("unreadable", "cannot be read", names, "left out")
    known = [(e, s) for e, s in zip(examples, looked.seen, strict=True) if s is not None]

    def where(holds: Callable[[Example, Seen], bool]) -> list[str]:
        return [example.name for example, seen in known if holds(example, seen)]

    kinds: list[tuple[str, str, list[str], str, bool]] = [
        ("ending", "another format than the name says", where(_misnamed), "read as it is", False),
        ("rotated", "turned by EXIF", where(lambda _, s: s.rotated), "turned upright", False),
        ("gray", "gray", where(lambda _, s: s.mode in _GRAY), "as RGB", False),
        ("cmyk", "CMYK", where(lambda _, s: s.mode == "CMYK"), "as RGB", False),
        ("alpha", "transparent", where(lambda _, s: s.transparent), "laid on white", False),
        ("blank", "of one color", where(lambda _, s: s.blank), "kept: see if they belong", True),
        (
            "tiny",
            f"a side under {_TINY} pixels",
            where(lambda _, s: min(s.width, s.height) < _TINY),
            "enlarged",
            True,
        ),
        (
            "long",
            f"one side over {_LONG} times the other",
            where(lambda _, s: max(s.width, s.height) > _LONG * min(s.width, s.height)),
            "cut or squeezed, whichever does better",
            False,
        ),
    ]
    if input_size is not None:
        small = where(lambda _, s: min(s.width, s.height) < input_size)
        text = f"smaller than the {input_size} pixels of the model's input"
        tiny = 2 * len(where(lambda _, s: 2 * min(s.width, s.height) <= input_size)) > len(known)
        action = "enlarged: a smaller --input-size is faster and may be better"
        kinds.append(("small", text, small, action if tiny else "enlarged", False))
    for code, text, names, action, serious in kinds:
        if names:
            yield Finding.of(code, text, names, action, serious=serious)


_GRAY = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"}


def _misnamed(example: Example, seen: Seen) -> bool:
    ending = suffix(example.name)
    return ending in _KNOWN and ending not in _ENDINGS[seen.format]


def _look(example: Example) -> Seen | Skipped:
    try:
        found: Glance = glance(example.data(), example.name)
    except (DataError, NotFoundError) as error:
        return Skipped(example.name, error.message.removeprefix(f"{example.name} "))
    number, picture = near.fingerprint(found.small)
    return Seen(
        found.width,
        found.height,
        found.mode,
        found.format,
        found.rotated,
        found.transparent,
        bool((found.small == found.small[0, 0]).all()),
        number,
        picture,
    )
