"""Which examples are learned from and which are held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from catalog.errors import DataError, UsageError
from finetuning.data.dataset import Dataset


@dataclass(frozen=True)
class Split:
    """Which examples train and which are held out, as indices into ``Dataset.examples``."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    given: bool  # the data said so themselves


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
    if any(example.part for example in data.examples):
        train = tuple(i for i, example in enumerate(data.examples) if example.part == "train")
        test = tuple(i for i, example in enumerate(data.examples) if example.part == "test")
        return Split(train, test, given=True)
    held: set[str] = set()
    for label, name in enumerate(data.classes):
        copies = Counter(example.sha256 for example in data.examples if example.target == label)
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
    test = tuple(i for i, example in enumerate(data.examples) if example.sha256 in held)
    train = tuple(i for i, example in enumerate(data.examples) if example.sha256 not in held)
    return Split(train, test, given=False)
