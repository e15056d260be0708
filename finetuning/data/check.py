"""A look at every example before anything is learned from it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from finetuning.data import check_images, check_labels, check_texts
from finetuning.data.dataset import Dataset, Example, Skipped, classes_of
from finetuning.data.files import suffix
from finetuning.data.findings import Finding, Findings

Progress = Callable[[str], None]

# Reasons for which readers leave something out: the code, and what is done about it.
_LEFT_OUT = {
    "same bytes held out": ("leak", "out of training", True),
    "same bytes in another class": ("two labels", "left out of both", True),
    "same bytes with other labels": ("two labels", "left out of both", True),
    "has no label": ("no label", "left out", True),
    "is an empty text": ("empty", "left out", True),
    "is no Unicode": ("no Unicode", "left out", True),
    "no file": ("missing", "left out", True),
    "is in no part": ("in no part", "left out: neither to learn from nor held out", True),
    "hidden": ("hidden", "left out", False),
    "beside": ("beside", "left out", False),
}
_BESIDE = {
    ".md",
    ".txt",
    ".json",
    ".jsonl",
    ".csv",
    ".tsv",
    ".xml",
    ".yaml",
    ".db",
    ".ini",
    ".html",
}
_SAID = {
    "beside": "files that describe the others",
    "leak": "in training, and byte for byte held out",
    "two labels": "the same content under two labels",
    "no label": "no label",
    "empty": "empty texts",
    "no Unicode": "texts with half a surrogate pair",
    "missing": "missing files",
    "in no part": "in a part of the data that is not known",
    "hidden": "hidden files and folders",
}


def check(
    data: Dataset, *, input_size: int | None = None, progress: Progress = lambda _: None
) -> Findings:
    """What is odd about the data; every image is decoded once, small.

    ``input_size`` is the side in pixels that the backbone takes.
    """
    start = time.perf_counter()
    items = list(_guessed(data))
    items += _left_out(data.skipped)
    clusters: list[list[int]]
    if data.modality == "image":
        looked = check_images.look(data.examples, progress)
        unreadable = looked.unreadable
        items += check_images.findings(data.examples, looked, input_size)
        clusters = looked.clusters()
    else:
        unreadable = ()
        items += check_texts.findings(data.examples)
        clusters = check_texts.clusters(data.examples)
    data = _with_near(data, clusters)
    lost = {item.name for item in unreadable}
    readable = [example for example in data.examples if example.name not in lost]
    leaked = tuple(_leaked(readable))
    items += _twins(data, readable, leaked)
    items += check_labels.findings(replace(data, examples=tuple(readable)))
    items.sort(key=lambda item: not item.serious)
    return Findings(data, tuple(items), unreadable, leaked, time.perf_counter() - start)


def _guessed(data: Dataset) -> Iterator[Finding]:
    for note in data.notes:
        yield Finding("guessed", note, 1, (), "", serious=False)


def _left_out(skipped: Iterable[Skipped]) -> Iterator[Finding]:
    """What readers left out, by the reason; a reason ends where it names another file."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for item in skipped:
        known = next((reason for reason in _LEFT_OUT if item.reason.startswith(reason)), None)
        if suffix(item.name) in _BESIDE and item.reason.startswith("not a"):
            known = "beside"
        by_reason[known or item.reason.split(":")[0]].append(item.name)
    for reason, names in by_reason.items():
        code, action, serious = _LEFT_OUT.get(reason, ("left out", "left out", True))
        yield Finding.of(code, _SAID.get(code, reason), names, action, serious=serious)


def _with_near(data: Dataset, clusters: list[list[int]]) -> Dataset:
    """The data in which examples that are nearly the same say so."""
    first = {n: data.examples[members[0]].name for members in clusters for n in members}
    examples = tuple(replace(item, near=first.get(n)) for n, item in enumerate(data.examples))
    return replace(data, examples=examples)


def _leaked(examples: Iterable[Example]) -> Iterator[Skipped]:
    """What is in training and nearly the same as something that the data hold out."""
    examples = list(examples)
    held = {e.near: e.name for e in examples if e.part == "test" and e.near is not None}
    for example in examples:
        if example.part == "train" and example.near in held:
            yield Skipped(example.name, f"nearly the same held out: {held[example.near]}")


def _twins(
    data: Dataset, examples: list[Example], leaked: tuple[Skipped, ...]
) -> Iterator[Finding]:
    copies, near = defaultdict(list), defaultdict(list)
    for example in examples:
        copies[example.sha256].append(example)
        if example.near is not None:
            near[example.near].append(example)
    exact = [e.name for group in copies.values() for e in group[1:]]
    if exact:
        action = "kept on one side of the split"
        yield Finding.of("copies", "exact copies of another", exact, action, serious=False)
    alike = [e.name for group in near.values() for e in group[1:] if len({*_sha(group)}) > 1]
    if alike:
        action = "kept on one side of the split"
        yield Finding.of("near copies", "nearly the same as another", alike, action, serious=False)
    if leaked:
        names = [item.name for item in leaked]
        yield Finding.of(
            "near leak", "in training, and nearly the same held out", names, "out of training"
        )
    torn = [_two(data, group) for group in near.values() if len({e.target for e in group}) > 1]
    if torn and data.kind != "regression":
        yield Finding.of(
            "near labels", "nearly the same under two labels", torn, "kept: see which is right"
        )
    parts: dict[str, set[object]] = defaultdict(set)
    for example in examples:
        if example.group is not None:
            parts[example.group].add(example.part)
    both = [group for group, found in parts.items() if {"train", "test"} <= found]
    if both:
        yield Finding.of(
            "group leak", "groups in training and held out", both, "as the data say: move them"
        )


def _two(data: Dataset, group: list[Example]) -> str:
    """Two examples of a group that have different labels."""
    first = group[0]
    other = next(example for example in group if example.target != first.target)
    said = [
        f"{e.name} ({', '.join(data.classes[n] for n in classes_of(e.target))})"
        for e in (first, other)
        if data.classes
    ]
    return " and ".join(said)


def _sha(group: Iterable[Example]) -> Iterator[str]:
    return (example.sha256 for example in group)
