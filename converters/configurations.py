"""Configurations of transformers: read, bounded, and what they say of the classes of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from catalog.errors import IntegrityError, UnsafeError

LARGEST_BYTES = 4 << 20  # a configuration that is larger is none
_MOST_LABELS = 100_000
_MOST_OF_A_COUNT = 1_000  # layers, heads, ...: a loop of the framework runs so often
_LARGEST_NUMBER = 1 << 31
_COUNT = re.compile(r"(^|_)(num|n)_|depth|layers|groups")
_LABELS = ("id2label", "label2id")
_DEEPEST = 8

Read = Callable[[str], bytes]


@dataclass(frozen=True)
class Loader:
    """JSON files of a repository by their names."""

    names: set[str]
    read: Read

    def object(self, name: str) -> dict[str, Any] | None:
        """The object in a file; None where there is no such file."""
        found: dict[str, Any] | None = self.value(name, dict[str, Any])
        return found

    def value(self, name: str, type_: Any) -> Any:
        """What is in a file, as one of ``type_``; None where there is no such file.

        Raises:
            IntegrityError: it makes no sense.
            UnsafeError: it is far too large.
        """
        if name not in self.names:
            return None
        data = self.read(name)
        if len(data) > LARGEST_BYTES:
            raise UnsafeError(f"{name} has {len(data)} bytes, which no configuration has")
        try:
            return msgspec.json.decode(data, type=type_)
        except (msgspec.DecodeError, RecursionError) as error:
            raise IntegrityError(f"{name} makes no sense: {error}") from error


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the classes in the order of the logits; those that are made up are none."""
    names = config.get("id2label")
    if not isinstance(names, dict):
        return ()
    try:
        numbered = {int(key): name for key, name in names.items()}
    except ValueError:
        return ()
    labels = [numbered.get(n) for n in range(len(numbered))]
    if not all(isinstance(name, str) and name.splitlines() == [name] for name in labels):
        return ()
    invented = all(name == f"LABEL_{n}" for n, name in enumerate(labels))
    return () if invented else tuple(map(str, labels))


def num_classes_of(config: Mapping[str, Any]) -> int:
    """How many classes a classifier tells apart, as transformers counts them."""
    names = config.get("id2label")
    if isinstance(names, dict):
        return len(names)
    count = config.get("num_labels", config.get("_num_labels", 2))
    return count if isinstance(count, int) else 2


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse figures that would fill memory or time before a tensor's shape can speak.

    Raises:
        UnsafeError: one is absurd; the message names it.
    """
    labels = [value for key in _LABELS if isinstance(value := config.get(key), dict)]
    if any(len(value) > _MOST_LABELS for value in labels):
        raise UnsafeError(f"config.json has over {_MOST_LABELS} labels")
    for key, value in _numbers("", {k: v for k, v in config.items() if k not in _LABELS}, 0):
        most = _LARGEST_NUMBER
        if key in {"num_labels", "_num_labels"}:
            most = _MOST_LABELS
        elif _COUNT.search(key):
            most = _MOST_OF_A_COUNT
        if not abs(value) <= most:
            raise UnsafeError(f"config.json says {key} is {value}, which is absurd")


def _numbers(key: str, value: Any, depth: int) -> Iterator[tuple[str, float]]:
    if depth > _DEEPEST:
        raise UnsafeError(f"config.json is nested over {_DEEPEST} deep")
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(str(name), inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(key, inner, depth + 1)
