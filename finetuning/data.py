"""A folder of labelled images: read, checked, and split into training and held-out parts.

One folder is one class; folders inside a class are only for keeping order. Where the folder has
`train/` with `test/` or `val/` beside it, those are the split. Everything that is left out is
kept by name with its reason, so that a report can say so.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from catalog.errors import DataError, UsageError
from converters.folder import sha256_of
from converters.images import SUFFIXES

_log = logging.getLogger(__name__)

Part = Literal["train", "test"]

MAX_UNREADABLE = 0.25  # a larger share is a mistake in the data, not an accident


@dataclass(frozen=True)
class Photo:
    """One labelled image file."""

    path: Path
    name: str  # relative to the data folder, `/` between its parts
    label: int  # index into the classes
    sha256: str  # of the file's bytes
    part: Part | None = None  # where the folder itself says which


@dataclass(frozen=True)
class Skipped:
    """One file that is left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """The images that can be used, and what was left out on the way."""

    root: Path
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...]

    def without(self, unreadable: Collection[Skipped]) -> Dataset:
        """The same without the images that could not be read.

        Raises:
            DataError: they are more than an accident, or they were all a class had.
        """
        share = len(unreadable) / len(self.photos)
        if share > MAX_UNREADABLE:
            raise DataError(
                f"{len(unreadable)} of {len(self.photos)} images in {self.root} cannot be read: "
                + _some([f"{item.name} ({item.reason})" for item in unreadable]),
                hint="repair or delete them, then run this again",
            )
        for item in unreadable:
            _log.warning("left out %s: %s", item.name, item.reason)
        gone = {item.name for item in unreadable}
        photos = tuple(photo for photo in self.photos if photo.name not in gone)
        for label, name in enumerate(self.classes):
            if not any(photo.label == label for photo in photos):
                raise DataError(
                    f"no image of class {name!r} can be read",
                    hint="repair its images, or delete its folder",
                )
        return replace(self, photos=photos, skipped=(*self.skipped, *unreadable))


@dataclass(frozen=True)
class Split:
    """Which images train and which are held out, as indices into ``Dataset.photos``."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    given: bool  # the folder said so itself


def check_folder(root: Path) -> None:
    """Raise early what `read_folder` would: no file is opened, so that it takes no time.

    Raises:
        DataError: there is no such folder, it holds fewer than two classes, a class is empty or
            its name cannot be a label, or `train/` and `test/` do not have the same classes.
    """
    with _reading(root):
        _classes(root, _listing(root, []))


def read_folder(root: Path) -> Dataset:
    """The labelled images under ``root``, every file hashed, none decoded yet.

    An image that lies byte for byte in two classes is left out, for nobody can say which is
    right; one that lies in `train/` and in `test/` is left out of training.

    Raises:
        DataError: there is no such folder, it holds fewer than two classes, a class is empty or
            its name cannot be a label, or `train/` and `test/` do not have the same classes.
    """
    skipped: list[Skipped] = []
    with _reading(root):
        files = _listing(root, skipped)
        classes = _classes(root, files)
        photos = [
            Photo(path, _name(path, root), classes.index(name), sha256_of(path), part)
            for (part, name), images in files.items()
            for path in images
        ]
    held = {name for part, name in files if part == "test"}
    if held and (missing := set(classes) - held):
        _log.warning("nothing is held out of these classes: %s", _some(sorted(missing)))
    usable = _without_conflicts(photos, skipped)
    reasons = Counter(item.reason for item in skipped)
    for reason, count in reasons.items():
        names = [item.name for item in skipped if item.reason == reason]
        _log.warning("left out %d (%s): %s", count, reason, _some(names))
    for label, name in enumerate(classes):
        if not any(photo.label == label for photo in usable):
            raise DataError(
                f"every image of class {name!r} lies in another class or in the test part as well",
                hint="delete the copies that do not belong there",
            )
    return Dataset(root, classes, tuple(usable), tuple(skipped))


def split(data: Dataset, *, seed: int, test_fraction: float) -> Split:
    """The folder's own split where it has one, else a stratified one.

    Images of the same bytes stay together. Which side an image falls on follows from the seed
    and its bytes alone, so that adding images moves few of the others.

    Raises:
        UsageError: ``test_fraction`` is not between 0 and 1.
        DataError: a class has fewer than two different images.
    """
    if not 0 < test_fraction < 1:
        raise UsageError(
            f"a test fraction of {test_fraction} makes no sense", hint="give one such as 0.25"
        )
    if any(photo.part for photo in data.photos):
        train = tuple(i for i, photo in enumerate(data.photos) if photo.part == "train")
        test = tuple(i for i, photo in enumerate(data.photos) if photo.part == "test")
        return Split(train, test, given=True)
    held: set[str] = set()
    for label, name in enumerate(data.classes):
        copies = Counter(photo.sha256 for photo in data.photos if photo.label == label)
        if len(copies) < 2:
            raise DataError(
                f"class {name!r} has only {len(copies)} image: one to learn from and another to "
                "test on are needed",
                hint="add images to it, or delete its folder",
            )
        order = sorted(copies, key=lambda sha: hashlib.sha256(f"{seed}:{sha}".encode()).digest())
        wanted = max(1, round(test_fraction * copies.total()))
        taken = 0
        for sha in order[:-1]:  # one stays to learn from
            if taken >= wanted:
                break
            held.add(sha)
            taken += copies[sha]
    test = tuple(i for i, photo in enumerate(data.photos) if photo.sha256 in held)
    train = tuple(i for i, photo in enumerate(data.photos) if photo.sha256 not in held)
    return Split(train, test, given=False)


def printable(text: str) -> str:
    """A file name as it can be written into any file: bytes that are no UTF-8 as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _reading(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or root} cannot be read: {error.strerror}",
            hint="check who may read it",
        ) from error


def _listing(root: Path, skipped: list[Skipped]) -> dict[tuple[Part | None, str], list[Path]]:
    """The image files of each part and class."""
    if not root.is_dir():
        seen = "is a file" if root.exists() else "does not exist"
        raise DataError(f"the data folder {root} {seen}", hint="give a folder of class folders")
    files: dict[tuple[Part | None, str], list[Path]] = defaultdict(list)
    for folder, part in _parts(root, skipped):
        for name, images in _class_folders(folder, root, skipped):
            files[part, name] += images
    return files


def _parts(root: Path, skipped: list[Skipped]) -> list[tuple[Path, Part | None]]:
    """The folders that hold class folders, with the part each stands for."""
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not _hidden(path)]
    names = {path.name.lower() for path in folders}
    # With no `test/`, `val/` is what is held out; with one, it is more to learn from.
    held = {"test"} & names or {"val", "valid", "validation"} & names
    if not (held and "train" in names):
        return [(root, None)]
    parts: list[tuple[Path, Part | None]] = []
    for path in sorted(root.iterdir()):
        name = path.name.lower()
        if path in folders and name in held:
            parts.append((path, "test"))
        elif path in folders and name in {"train", "val", "valid", "validation"}:
            parts.append((path, "train"))
        else:
            skipped.append(Skipped(_name(path, root), "not in train/, val/ or test/"))
    return parts


def _class_folders(
    folder: Path, root: Path, skipped: list[Skipped]
) -> Iterator[tuple[str, list[Path]]]:
    for path in sorted(folder.iterdir()):
        if _hidden(path):
            skipped.append(Skipped(_name(path, root), "hidden"))
        elif not path.is_dir():
            skipped.append(Skipped(_name(path, root), "not in a class folder"))
        else:
            _check_name(path.name)
            images = list(_images(path, root, skipped))
            if not images:
                raise DataError(
                    f"the class folder {path} holds no images",
                    hint=f"add images ({' '.join(sorted(SUFFIXES))}) or delete the folder",
                )
            yield path.name, images


def _classes(root: Path, files: Iterable[tuple[Part | None, str]]) -> tuple[str, ...]:
    learned = {name for part, name in files if part != "test"}
    held = {name for part, name in files if part == "test"}
    if unknown := held - learned:
        raise DataError(
            f"{root} has classes to test that nothing can be learned of: {_some(sorted(unknown))}",
            hint="add them to train/, or delete them from the test part",
        )
    if len(learned) < 2:
        seen = f"only one class folder, {learned.pop()!r}" if learned else "no class folders"
        raise DataError(
            f"{root} has {seen}; at least two classes are needed",
            hint="make one folder for each class, with its images inside",
        )
    return tuple(sorted(learned))


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"the class folder name {name!r} is not valid UTF-8", hint="rename the folder"
        ) from None
    if name.splitlines() != [name] or not name.strip():
        raise DataError(
            f"the class folder name {name!r} has a line break in it or is blank",
            hint="rename the folder",
        )


def _images(folder: Path, root: Path, skipped: list[Skipped]) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not _hidden(Path(name)))
        for name in sorted(files):
            path = Path(place, name)
            if _hidden(path):
                skipped.append(Skipped(_name(path, root), "hidden"))
            elif path.suffix.lower() not in SUFFIXES:
                skipped.append(Skipped(_name(path, root), "not an image by its name"))
            elif not path.is_file():
                skipped.append(Skipped(_name(path, root), "not a regular file"))
            else:
                yield path


def _without_conflicts(photos: Sequence[Photo], skipped: list[Skipped]) -> list[Photo]:
    copies: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        copies[photo.sha256].append(photo)
    usable: list[Photo] = []
    for photo in photos:
        others = copies[photo.sha256]
        clash = next((other for other in others if other.label != photo.label), None)
        leak = next((other for other in others if other.part == "test"), None)
        if clash:
            skipped.append(Skipped(photo.name, f"same bytes in another class: {clash.name}"))
        elif leak and photo.part == "train":
            skipped.append(Skipped(photo.name, f"same bytes held out: {leak.name}"))
        else:
            usable.append(photo)
    return usable


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"


def _name(path: Path, root: Path) -> str:
    return printable(path.relative_to(root).as_posix())


def _some(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _raise(error: OSError) -> None:
    raise error
