"""WebDataset shards: tar files in which `key.jpg` and `key.cls` or `key.json` are one example."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

from catalog.errors import DataError, TlhubError
from converters.images import SUFFIXES
from finetuning.data import archives, texts
from finetuning.data.assemble import Found, Raw
from finetuning.data.dataset import Part, Skipped, Stored, printable
from finetuning.data.files import Content, Files, read_bytes
from finetuning.data.folders import parts_of
from finetuning.data.labels import Label
from finetuning.data.options import Options

_LABELS = ("cls", "label", "labels", "class", "json")
_KEYS = ("label", "labels", "cls", "class", "class_name", "target", "category")
_MOST_SHARDS = 100_000
_MOST_LABEL_BYTES = 1 << 20


def is_shards(files: Files) -> bool:
    """Whether the members of an archive come as `key.jpg` and `key.cls`."""
    keys: dict[str, set[str]] = {}
    for name in list(files.found)[:1000]:
        key, ending = _split(name)
        keys.setdefault(key, set()).add(ending)
    labeled = [endings for endings in keys.values() if endings & set(_LABELS)]
    return len(labeled) > len(keys) / 2


def expand(data: Path) -> list[Path]:
    """The files that `shard-{000..009}.tar`, `shard-*.tar` or a folder of tar files stands for.

    Raises:
        DataError: there is none, or one of them is missing.
    """
    if data.is_dir():
        return [path for path in sorted(data.iterdir()) if _is_tar(path)]
    text = str(data)
    if any(mark in text for mark in "*?["):
        found = sorted(data.parent.glob(data.name))
    else:
        found = [Path(name) for name in _braces(text)]
        missing = [path for path in found if not path.is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(found)} shards are missing: {missing[0]}",
                hint="give the range of those that are there",
            )
    if not found:
        raise DataError(f"no file matches {data}", hint="is the pattern in quotes?")
    return found


def read(paths: list[Path], root: Path, options: Options) -> Found:
    """The examples in the shards.

    Raises:
        UnsafeError: one of them is no archive that can be meant well.
        DataError: one of them is damaged.
    """
    parts = _parts(paths)
    raws: list[Raw] = []
    skipped: list[Skipped] = []
    modality = "text"
    for path, part in zip(paths, parts, strict=True):
        for key, members in _samples(archives.files_of(path)):
            name = printable(f"{path.name}/{key}")
            image = next((m for m in members if f".{m.rsplit('.')[-1]}" in SUFFIXES), None)
            try:
                label, group = _label(members, options)
                content: Content | Stored | str
                if image is not None:
                    modality, content = "image", members[image]
                elif "txt" in members:
                    content = texts.decode(read_bytes(members["txt"]), name)[0]
                else:
                    skipped.append(Skipped(name, f"has no image or text, but {', '.join(members)}"))
                    continue
            except TlhubError as error:
                skipped.append(Skipped(name, error.message.removeprefix(f"{name} ")))
                continue
            raws.append(Raw(name, content, label, part, group))
    if modality == "image":
        skipped += [
            Skipped(raw.name, "has no image") for raw in raws if isinstance(raw.content, str)
        ]
        raws = [raw for raw in raws if not isinstance(raw.content, str)]
    return Found(root, "image" if modality == "image" else "text", raws, skipped)


def _is_tar(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(archives.TARS)


def _braces(text: str) -> Iterator[str]:
    pieces = re.split(r"\{(\d+)\.\.(\d+)\}", text)
    ranges = [
        [f"{n:0{len(first)}d}" for n in range(int(first), min(int(last), _MOST_SHARDS) + 1)]
        for first, last in zip(pieces[1::3], pieces[2::3], strict=True)
    ]
    for numbers in product(*ranges):
        yield "".join(a + b for a, b in zip(pieces[::3], (*numbers, ""), strict=True))


def _parts(paths: list[Path]) -> list[Part | None]:
    """By the first word of the shards' names, `train-000.tar`, or the folder they lie in."""
    words = [
        next(iter(re.findall(r"^[a-z]+", path.name.lower())), path.parent.name) for path in paths
    ]
    parts = parts_of(words)
    return [parts.get(word) for word in words]


def _samples(files: Files) -> Iterator[tuple[str, dict[str, Content]]]:
    samples: dict[str, dict[str, Content]] = {}
    for name, content in files.found.items():
        key, ending = _split(name)
        samples.setdefault(key, {})[ending] = content
    yield from samples.items()


def _split(name: str) -> tuple[str, str]:
    """A key and an ending: what is before and behind the first dot of the file's own name."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return folder + slash + stem, ending.lower()


def _label(members: Mapping[str, Content], options: Options) -> tuple[Label, str | None]:
    ending = next((name for name in _LABELS if name in members), None)
    if ending is None:
        return None, None
    text = texts.decode(read_bytes(members[ending]), f".{ending}")[0]
    if len(text) > _MOST_LABEL_BYTES:
        raise DataError(f".{ending} is too long for a label")
    facts: object = None
    if "json" in members:
        facts = _json(read_bytes(members["json"]))
    group = facts.get(options.group) if isinstance(facts, dict) and options.group else None
    if ending != "json":
        return text, None if group is None else str(group)
    if isinstance(facts, dict):
        names = options.labels or _KEYS
        facts = next((facts[name] for name in names if name in facts), None)
    return facts, None if group is None else str(group)


def _json(data: bytes) -> object:
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f".json is damaged: {error}") from error
    return value
