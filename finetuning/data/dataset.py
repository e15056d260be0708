"""What is learned from: examples with their targets, and what was left out on the way."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from catalog.errors import DataError, NotFoundError
from converters.images import RGB, read_image

_log = logging.getLogger(__name__)

Kind = Literal["classification", "multi-label", "regression", "embedding"]
Modality = Literal["image", "text"]
Part = Literal["train", "test"]
# By kind: a class, the classes that hold, numbers.
Target = int | tuple[int, ...] | tuple[float, ...]

MAX_UNREADABLE = 0.25  # a larger share is a mistake in the data, not an accident
MAX_FILE_BYTES = 1 << 30  # of an encoded image


class Stored(Hashable, Protocol):
    """The bytes of an image inside an archive or a table."""

    def read(self) -> bytes:
        """The bytes.

        Raises:
            DataError: they are not there any more, or are damaged.
        """


@dataclass(frozen=True)
class Example:
    """One labelled image or text."""

    content: Path | Stored | str  # an image file, an image stored in another file, or a text
    name: str  # relative to the data, `/` between its parts
    sha256: str  # of the content: of an image's encoded bytes, of a text's UTF-8
    target: Target
    part: Part | None = None  # where the data themselves say which
    # Examples of one group, or that are nearly the same, are never on both sides of a split.
    group: str | None = None
    near: str | None = None

    @property
    def unit(self) -> str:
        """What it belongs to: its group, else what it is nearly the same as, else its own bytes."""
        return self.group or self.near or self.sha256

    @property
    def text(self) -> str:
        """The text.

        Raises:
            TypeError: it is an image.
        """
        if not isinstance(self.content, str):
            raise TypeError(f"{self.name} is no text")
        return self.content

    @property
    def length(self) -> int:
        """Characters of a text, by which texts go through a network together; 0 of an image."""
        return len(self.content) if isinstance(self.content, str) else 0

    def data(self) -> bytes:
        """The bytes that were hashed when the data were read.

        Raises:
            NotFoundError: the file is gone.
            DataError: it cannot be read, or has changed since.
        """
        if isinstance(self.content, str):
            data = self.content.encode()
        elif isinstance(self.content, Path):
            data = bytes_of(self.content)
        else:
            data = self.content.read()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise DataError(
                f"{self.name} has changed since it was read",
                hint="leave the data as they are while this runs",
            )
        return data

    def image(self) -> RGB:
        """The decoded image, uint8 (H, W, 3) RGB.

        Raises:
            NotFoundError: the file is gone.
            DataError: it cannot be decoded, or has changed since it was read.
        """
        return read_image(self.data(), self.name)


@dataclass(frozen=True)
class Skipped:
    """One file or row that is left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """The examples that can be used, and what was left out on the way."""

    root: Path
    kind: Kind
    modality: Modality
    classes: tuple[str, ...]  # what targets index; for regression none
    examples: tuple[Example, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...] = ()  # what was guessed about them
    numbers: tuple[str, ...] = ()  # what each number of a target is called; for classes none

    def without(self, unreadable: Collection[Skipped]) -> Dataset:
        """The same without the examples that could not be read.

        Raises:
            DataError: they are more than an accident, or they were all a class had.
        """
        if not unreadable:
            return self
        share = len(unreadable) / len(self.examples)
        if share > MAX_UNREADABLE:
            raise DataError(
                f"{len(unreadable)} of {len(self.examples)} {self.modality}s in {self.root} cannot "
                "be read: " + some([f"{item.name} ({item.reason})" for item in unreadable]),
                hint="repair or delete them, then run this again",
            )
        for item in unreadable:
            _log.warning("left out %s: %s", item.name, item.reason)
        gone = {item.name for item in unreadable}
        examples = tuple(example for example in self.examples if example.name not in gone)
        left = {label for example in examples for label in classes_of(example.target)}
        for label, name in enumerate(self.classes):
            if label not in left:
                raise DataError(
                    f"no {self.modality} of class {name!r} can be read",
                    hint=f"repair its {self.modality}s, or take the class out",
                )
        return replace(self, examples=examples, skipped=(*self.skipped, *unreadable))


def classes_of(target: Target) -> tuple[int, ...]:
    """The classes that a target names; none for numbers."""
    named = target if isinstance(target, tuple) else (target,)
    return tuple(item for item in named if isinstance(item, int))


def printable(text: str) -> str:
    """A file name as it can be written into any file: bytes that are no UTF-8 as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def some(names: Sequence[str], limit: int = 3) -> str:
    """The first few of many names, in one line."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def bytes_of(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        NotFoundError: it is gone.
        DataError: it cannot be read, or is too large to be an image.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", hint="check who may read it"
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"{path} has over {MAX_FILE_BYTES:,} bytes", hint="scale it down")
    return data
