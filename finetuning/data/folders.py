"""A folder of labelled images: one folder is one class.

Folders inside a class are only for keeping order. Where the folder has `train/` with `test/` or
`val/` beside it, those are the split. Everything that is left out is kept by name with its reason,
so that a report can say so.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from catalog.errors import DataError
from converters.folder import sha256_of
from converters.images import SUFFIXES
from finetuning.data.dataset import Dataset, Example, Part, Skipped, printable, some

_log = logging.getLogger(__name__)


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
        examples = [
            Example(path, _name(path, root), sha256_of(path), classes.index(name), part)
            for (part, name), images in files.items()
            for path in images
        ]
    held = {name for part, name in files if part == "test"}
    if held and (missing := set(classes) - held):
        _log.warning("nothing is held out of these classes: %s", some(sorted(missing)))
    usable = _without_conflicts(examples, skipped)
    reasons = Counter(item.reason for item in skipped)
    for reason, count in reasons.items():
        names = [item.name for item in skipped if item.reason == reason]
        _log.warning("left out %d (%s): %s", count, reason, some(names))
    for label, name in enumerate(classes):
        if not any(example.target == label for example in usable):
            raise DataError(
                f"every image of class {name!r} lies in another class or in the test part as well",
                hint="delete the copies that do not belong there",
            )
    return Dataset(root, "classification", "image", classes, tuple(usable), tuple(skipped))


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
            f"{root} has classes to test that nothing can be learned of: {some(sorted(unknown))}",
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


def _without_conflicts(examples: Sequence[Example], skipped: list[Skipped]) -> list[Example]:
    copies: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        copies[example.sha256].append(example)
    usable: list[Example] = []
    for example in examples:
        others = copies[example.sha256]
        clash = next((other for other in others if other.target != example.target), None)
        leak = next((other for other in others if other.part == "test"), None)
        if clash:
            skipped.append(Skipped(example.name, f"same bytes in another class: {clash.name}"))
        elif leak and example.part == "train":
            skipped.append(Skipped(example.name, f"same bytes held out: {leak.name}"))
        else:
            usable.append(example)
    return usable


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"


def _name(path: Path, root: Path) -> str:
    return printable(path.relative_to(root).as_posix())


def _raise(error: OSError) -> None:
    raise error
