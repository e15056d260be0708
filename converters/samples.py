"""Real inputs for measuring a finished graph: photos or sentences, given or shipped."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import DataError, UsageError
from converters.evidence import sample_photos
from converters.images import SUFFIXES, read_image
from converters.interface import ATTENTION_MASK, IMAGE, INPUT_IDS, TOKEN_TYPE_IDS

_log = logging.getLogger(__name__)

Given = dict[str, NDArray[Any]]  # what a graph is given once, by the names of its inputs

MOST = 512  # of what is given for calibration or for measuring, evenly chosen
_MOST_UNREADABLE = 0.25
# Photos of things that people photograph; the rest of scikit-image's data are plots and microscopy.
_SCIKIT_IMAGE = (
    *("astronaut.png", "brick.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png"),
    *("grass.png", "gravel.png", "motorcycle_left.png", "rocket.jpg"),
)


@dataclass(frozen=True)
class Samples:
    """Inputs of one kind; files are read when they are needed."""

    name: str  # what they are, for people
    items: tuple[Path | NDArray[np.uint8] | str, ...]
    labels: tuple[int, ...] = ()  # of each, the place of its class in the logits; () is unknown

    def __len__(self) -> int:
        return len(self.items)

    def part(self, places: Sequence[int]) -> Samples:
        """Those at these places."""
        labels = tuple(self.labels[n] for n in places) if self.labels else ()
        return Samples(self.name, tuple(self.items[n] for n in places), labels)

    def photos(self) -> Iterator[NDArray[np.uint8]]:
        """Each photo as uint8 (H, W, 3) RGB."""
        for item in self.items:
            if not isinstance(item, str):
                yield read_image(item) if isinstance(item, Path) else item

    def digest(self) -> str:
        """SHA-256 over what they are."""
        digest = hashlib.sha256()
        for item in self.items:
            if isinstance(item, np.ndarray):
                digest.update(repr(item.shape).encode() + item.tobytes())
            else:
                digest.update(item.read_bytes() if isinstance(item, Path) else item.encode())
            digest.update(b"\0")
        return digest.hexdigest()


def shipped_photos() -> Samples:
    """What ships with scikit-learn, and with scikit-image where that is installed."""
    photos = [photo for _, photo in sorted(sample_photos().items())]
    name = "scikit-learn's photos"
    try:
        import skimage
    except ImportError:
        return Samples(name, tuple(photos))
    folder = Path(skimage.__file__).parent / "data"
    files = [folder / file for file in _SCIKIT_IMAGE if (folder / file).is_file()]
    return Samples("photos of scikit-learn and scikit-image", (*photos, *files))


def shipped_sentences() -> Samples:
    """Sentences in several languages."""
    from converters.text_front import SENTENCES

    return Samples("tlhub's sentences", tuple(SENTENCES))


def photos_in(folder: Path) -> Samples:
    """The photos in a folder and the folders in it; those that cannot be read are left out.

    Raises:
        DataError: there are none, or too many of them cannot be read.
    """
    files = _evenly([path for path in _files(folder) if path.suffix.lower() in SUFFIXES])
    return Samples(str(folder), tuple(_readable(folder, files)))


def labelled_photos_in(folder: Path, labels: Sequence[str]) -> Samples:
    """The photos of a folder of class folders, each named like one of ``labels``.

    Raises:
        DataError: a folder's name is no label, or as `photos_in`.
    """
    if not labels:
        raise DataError("the model has no labels: its accuracy cannot be told")
    places = {label: place for place, label in reversed([*enumerate(labels)])}
    _files(folder)
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    unknown = [name for name in names if name not in places]
    if unknown or not names:
        what = f"{unknown[0]!r} is no label of the model" if unknown else "it has no class folders"
        raise DataError(
            f"{folder}: {what}",
            hint=f"name the folders as the labels are, such as {', '.join(labels[:3])}",
        )
    found = [path for name in names for path in _files(folder / name)]
    files = _evenly([path for path in found if path.suffix.lower() in SUFFIXES])
    kept = _readable(folder, files)
    return Samples(
        str(folder), tuple(kept), tuple(places[path.relative_to(folder).parts[0]] for path in kept)
    )


def sentences_in(file: Path) -> Samples:
    """The lines of a text file that are not blank.

    Raises:
        DataError: there are none, or it is no UTF-8 text.
    """
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file} cannot be read as sentences: {error}", hint="one sentence a line, in UTF-8"
        ) from error
    if not lines:
        raise DataError(f"{file} has no sentences", hint="one sentence a line")
    return Samples(str(file), tuple(_evenly(lines)))


def given(samples: Samples, inputs: Sequence[str], folder: Path) -> Iterator[Given]:
    """What a graph with these inputs is given for each sample; ``folder`` has its tokenizer.

    Raises:
        UsageError: it takes neither photos nor token ids.
    """
    if [*inputs] == [IMAGE]:
        for photo in samples.photos():
            yield {IMAGE: photo[None]}
    elif {INPUT_IDS, ATTENTION_MASK} <= {*inputs}:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
        for item in samples.items:
            found = tokenizer.encode(str(item))
            arrays = {
                INPUT_IDS: found.ids,
                ATTENTION_MASK: found.attention_mask,
                TOKEN_TYPE_IDS: found.type_ids,
            }
            yield {name: np.array([arrays[name]], np.int64) for name in inputs}
    else:
        raise UsageError(
            f"{folder} takes {', '.join(inputs)}: only graphs that take photos or token ids are "
            "measured",
            hint="convert it with its preprocessing",
        )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        seen = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {seen}", hint="give a folder of photos")
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in sorted(files) if not name.startswith(".")]
    return found


def _evenly(items: list[Any]) -> list[Any]:
    """At most `MOST` of them, from all over the list."""
    if len(items) <= MOST:
        return items
    return [items[n * len(items) // MOST] for n in range(MOST)]


def _readable(folder: Path, files: Sequence[Path]) -> list[Path]:
    kept, broken = [], []
    for path in files:
        try:
            read_image(path)
        except DataError as error:
            broken.append(path)
            _log.warning("left out %s: %s", path, error.message)
        else:
            kept.append(path)
    if not kept or len(broken) > _MOST_UNREADABLE * len(files):
        what = f"{len(broken)} of {len(files)} photos cannot be read" if broken else "has no photos"
        raise DataError(
            f"{folder}: {what}", hint=f"photos are files ending in {' '.join(sorted(SUFFIXES))}"
        )
    return kept
