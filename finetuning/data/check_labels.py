"""What is odd about labels."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from finetuning.data.dataset import Dataset, classes_of
from finetuning.data.findings import Finding

_FEW = 10  # examples, fewer of which hardly tell a class
_RATIO = 10  # of the largest class to the smallest
_SHORT = 5  # letters of a name, in a shorter one another letter makes another word
_RARE = 0.2  # of the other class, for one to be a misspelling of it


def findings(data: Dataset) -> Iterator[Finding]:
    """What is to be said of them."""
    if data.kind == "regression":
        yield from _numbers(data)
        return
    counts = Counter(dict.fromkeys(data.classes, 0))
    for example in data.examples:
        counts.update(data.classes[n] for n in classes_of(example.target))
    if not data.examples:
        return
    single = [name for name, count in counts.items() if count == 1]
    few = [f"{name} ({count})" for name, count in counts.items() if 1 < count < _FEW]
    if single:
        yield Finding.of("single", "classes of one example", single, "nothing of them is held out")
    if few and data.kind != "embedding":
        text = f"classes of fewer than {_FEW} examples"
        yield Finding.of("few", text, few, "kept: their results are uncertain")
    most, least = counts.most_common()[0], counts.most_common()[-1]
    if most[1] >= _RATIO * least[1]:
        names = (f"{most[0]} ({most[1]})", f"{least[0]} ({least[1]})")
        text = f"the largest class has over {_RATIO} times the examples of the smallest"
        yield Finding("imbalance", text, 1, names, "kept: see the results of each class", True)
    if typos := [f"{a!r} and {b!r}" for a, b in alike(counts)]:
        text = "class names that may mean the same"
        yield Finding.of("typos", text, typos, "kept as they are: rename one if so")
    without = [e.name for e in data.examples if e.target == ()]
    if without:
        text = "none of the labels holds"
        yield Finding.of("none", text, without, "kept", serious=False)


def alike(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs of class names of which one may be the other misspelt."""
    found: dict[tuple[str, str], None] = {}
    plain: dict[str, list[str]] = defaultdict(list)
    near: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        key = _plain(name)
        for one in {key, _singular(key)}:
            plain[one].append(name)
        if len(key) >= _SHORT and not re.search(r"\d", key):
            for one in {key, *(key[:n] + key[n + 1 :] for n in range(len(key)))}:
                near[one].append(name)
    for names in plain.values():
        found |= dict.fromkeys(_pairs(names))
    for names in near.values():
        for a, b in _pairs(names):
            few, many = sorted((counts[a], counts[b]))
            if few <= _RARE * many and _one_slip(_plain(a), _plain(b)):
                found[a, b] = None
    return list(found)


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\s_.,'-]+", "", letters) or letters


def _singular(key: str) -> str:
    return key[:-1] if key.endswith("s") and len(key) > 3 and not key.endswith("ss") else key


def _pairs(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for n, first in enumerate(sorted(names)):
        for second in sorted(names)[n + 1 :]:
            yield first, second


def _one_slip(a: str, b: str) -> bool:
    """Whether one letter was left out, added, or is another, or two changed places."""
    if len(a) == len(b):
        places = [n for n in range(len(a)) if a[n] != b[n]]
        swapped = len(places) == 2 and a[places[0]] == b[places[1]] and a[places[1]] == b[places[0]]
        return len(places) == 1 or (swapped and places[1] == places[0] + 1)
    short, long = sorted((a, b), key=len)
    return any(long[:n] + long[n + 1 :] == short for n in range(len(long)))


def _numbers(data: Dataset) -> Iterator[Finding]:
    for place, name in enumerate(data.numbers):
        targets = [e.target[place] for e in data.examples if isinstance(e.target, tuple)]
        if targets:
            yield from _of_one(data, [float(value) for value in targets], name)


def _of_one(data: Dataset, numbers: Sequence[float], name: str) -> Iterator[Finding]:
    values = sorted(numbers)
    of = f" of {name!r}" if len(data.numbers) > 1 else ""
    if values[0] == values[-1]:
        text = f"all numbers{of} are the same"
        yield Finding("constant", text, len(values), (str(values[0]),), "nothing", True)
    quarter = len(values) // 4
    low, high = values[quarter], values[-quarter - 1]
    reach = 10 * (high - low)
    far = [
        f"{e.name} ({number})"
        for e, number in zip(data.examples, numbers, strict=True)
        if not low - reach <= number <= high + reach
    ]
    if far and reach:
        text = f"numbers{of} far from all others"
        yield Finding.of("outliers", text, far, "kept: see if they hold")
