"""Splits: every label on both sides, what belongs together on one, written down and read again."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from catalog.errors import DataError
from finetuning.data.dataset import Dataset, Example, Kind, Target, classes_of
from finetuning.data.options import Options
from finetuning.data.reading import read
from finetuning.data.splits import parts_in, split, write
from terminal import Run


def of(targets: list[Target], kind: Kind = "classification", **marks: list[str | None]) -> Dataset:
    """Texts with these targets, and perhaps groups or near copies."""
    groups, near = marks.get("group"), marks.get("near")
    examples = tuple(
        Example(
            f"text {n}",
            f"t:{n}",
            hashlib.sha256(b"%d" % n).hexdigest(),
            target,
            group=groups[n] if groups else None,
            near=near[n] if near else None,
        )
        for n, target in enumerate(targets)
    )
    used = max((n for target in targets for n in classes_of(target)), default=-1) + 1
    classes = tuple(f"class {n}" for n in range(used))
    return Dataset(Path("data"), kind, "text", classes, examples, ())


def held(data: Dataset, seed: int = 0, fraction: float = 0.25) -> list[Example]:
    sides = split(data, seed=seed, test_fraction=fraction)
    assert sorted(sides.train + sides.test) == list(range(len(data.examples)))
    return [data.examples[n] for n in sides.test]


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_never_on_both_sides_and_classes_have_their_share(seed: int) -> None:
    draw = random.Random(seed)
    groups = [f"patient {draw.randrange(60)}" for _ in range(600)]
    targets: list[Target] = [int(draw.random() < (0.3 if len(g) % 2 else 0.2)) for g in groups]
    data = of(targets, group=list(groups))
    test = held(data, seed)
    inside = {example.group for example in test}
    assert not inside & {e.group for e in data.examples if e not in test}
    for label in (0, 1):
        share = sum(e.target == label for e in test) / targets.count(label)
        assert 0.2 < share < 0.3


def test_groups_of_one_class_each_and_of_many_sizes() -> None:
    groups: list[str | None] = [f"g{n}" for n in range(12) for _ in range(n + 1)]
    targets: list[Target] = [int(str(g)[1:]) % 3 for g in groups]
    for seed in range(10):
        test = held(of(targets, group=groups), seed)
        assert {e.target for e in test} == {0, 1, 2}
        assert 0.1 < len(test) / len(groups) < 0.4


def test_near_copies_stay_together_unless_a_class_has_nothing_else() -> None:
    near: list[str | None] = [f"n{n // 4}" for n in range(40)] + ["all"] * 8
    targets: list[Target] = [0] * 40 + [1] * 8
    data = of(targets, near=near)
    for seed in range(5):
        test = held(data, seed)
        counts = Counter(e.near for e in test if e.target == 0)
        assert set(counts.values()) == {4}
        assert sum(e.target == 1 for e in test) == 2  # else class 1 could not be measured


def test_a_group_of_a_whole_class_is_learned_from_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    groups: list[str | None] = [f"g{n}" for n in range(10)] + ["one"] * 5
    test = held(of([0] * 10 + [1] * 5, group=groups))
    assert {e.target for e in test} == {0}
    assert "nothing is held out of these classes: class 1" in caplog.text
    with pytest.raises(DataError, match="can be held out"):
        held(of([0] * 5 + [1] * 5, group=["a"] * 5 + ["b"] * 5))


@pytest.mark.parametrize("seed", range(5))
def test_each_of_several_labels_has_its_share(seed: int) -> None:
    draw = random.Random(seed)
    chances = [0.5, 0.3, 0.1, 0.05, 0.02]
    targets: list[Target] = [
        tuple(n for n, chance in enumerate(chances) if draw.random() < chance) for _ in range(800)
    ]
    test = held(of(targets, "multi-label"), seed)
    assert 0.2 < len(test) / 800 < 0.3
    for label in range(5):
        total = sum(label in t for t in targets if isinstance(t, tuple))
        there = sum(label in e.target for e in test if isinstance(e.target, tuple))
        assert abs(there - 0.25 * total) <= max(1, 0.03 * total)


def test_numbers_are_held_out_over_their_whole_range() -> None:
    draw = random.Random(0)
    numbers = [draw.lognormvariate(0, 2) for _ in range(200)]
    test = [e.target for e in held(of([(number,) for number in numbers], "regression"))]
    assert len(test) == 50
    ranks = [sorted(numbers).index(target[0]) // 20 for target in test if isinstance(target, tuple)]
    assert set(Counter(ranks).values()) == {5}
    assert len(held(of([(1.0,)] * 8, "regression"))) == 2
    assert len(held(of([(1.0,), (2.0,)], "regression"))) == 1


def test_several_numbers_are_each_held_out_over_their_range() -> None:
    draw = random.Random(0)
    pairs = [(draw.lognormvariate(0, 2), draw.random()) for _ in range(200)]
    test = [e.target for e in held(of([*pairs], "regression")) if isinstance(e.target, tuple)]
    for place in (0, 1):
        values = sorted(pair[place] for pair in pairs)
        tenths = Counter(values.index(target[place]) // 20 for target in test)
        assert min(tenths[n] for n in range(10)) >= 4
    assert len(test) < 75


def test_a_thousand_classes_of_two_and_one_of_one() -> None:
    targets: list[Target] = [n // 2 for n in range(2000)] + [1000]
    test = held(of(targets))
    assert sorted(int(e.target) for e in test if not isinstance(e.target, tuple)) == list(
        range(1000)
    )


def test_adding_examples_moves_few() -> None:
    data = of([n % 3 for n in range(300)])
    more = of([n % 3 for n in range(310)])
    before, after = ({e.name for e in held(d)} for d in (data, more))
    assert len(before ^ after) <= 10


def odd(root: Path) -> Path:
    """Texts in folders of names that hurt a table."""
    for label in ('say "hi", you', "\U0001f600; a,b"):
        for n in range(6):
            place = root / label / f"{n} 'x',y\n.txt"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"{label} {n}")
    return root


def test_what_is_written_down_is_what_is_read(tmp_path: Path) -> None:
    root, file = odd(tmp_path / "data"), tmp_path / "split.csv"
    data = read(root)
    sides = split(data, seed=3, test_fraction=0.4)
    write(file, data, sides)
    again = read(root, Options(split=file))
    assert split(again, seed=0, test_fraction=0.1) == replace(sides, given=True)
    metrics = {
        part: [data.examples[n].name for n in getattr(sides, part)] for part in ("train", "test")
    }
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.json").write_text(json.dumps({"split": {"given": False, **metrics}}))
    assert parts_in(tmp_path / "run") == parts_in(file)


def test_a_split_of_other_data_is_refused_and_new_examples_are_learned_from(
    tmp_path: Path,
) -> None:
    root, file = odd(tmp_path / "data"), tmp_path / "split.csv"
    data = read(root)
    write(file, data, split(data, seed=0, test_fraction=0.25))
    label = next(root.iterdir())
    (label / "new.txt").write_text("something new")
    next(label.glob("0*")).unlink()
    again = read(root, Options(split=file))
    assert next(e.part for e in again.examples if e.name.endswith("new.txt")) == "train"
    assert [note.split(": ")[0] for note in again.notes] == [
        "1 names of the split are not in the data",
        "1 examples are not in the split and are learned from",
    ]
    for path in list(root.rglob("*.txt")):
        path.rename(path.with_name("other " + path.name))
    with pytest.raises(DataError, match="is a split of other data"):
        read(root, Options(split=file))


def test_a_split_of_which_all_that_is_held_out_is_gone_is_refused(tmp_path: Path) -> None:
    root, file = odd(tmp_path / "data"), tmp_path / "split.csv"
    data = read(root)
    sides = split(data, seed=0, test_fraction=0.25)
    write(file, data, sides)
    for n in sides.test:
        (root / data.examples[n].name).unlink()
    with pytest.raises(DataError, match="nothing is held out"):
        split(read(root, Options(split=file)), seed=0, test_fraction=0.25)


@pytest.mark.parametrize(
    "text", ["", "name,part\na,train\n", "a,b\n1,2\n", '{"split": [1]}', "\x00", "[" * 9999]
)
def test_what_is_no_split_is_refused(tmp_path: Path, text: str) -> None:
    for name in ("split.csv", "split.json"):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError):
            parts_in(tmp_path / name)


def test_the_command_writes_a_split_that_check_reads(tmp_path: Path, tlhub: Run) -> None:
    rows = [f"sentence number {n},{'ab'[n % 2]},p{n // 4}" for n in range(40)]
    (tmp_path / "t.csv").write_text(
        "\n".join(["text,label,patient", *rows, "Sentence number 39!,b,p9"])
    )
    asked = ("data", "split", tmp_path / "t.csv", "--group-column", "patient")
    done = tlhub(*asked, "--out", tmp_path / "split.csv", "--json")
    assert json.loads(done.stdout)["train"] + json.loads(done.stdout)["test"] == 41
    with (tmp_path / "split.csv").open(newline="") as stream:
        parts = {row["name"]: row["part"] for row in csv.DictReader(stream)}
    for n in range(0, 40, 4):
        assert len({parts[f"t.csv:{row}"] for row in range(n + 1, n + 5)}) == 1
    assert parts["t.csv:40"] == parts["t.csv:41"]
    again = tlhub(*asked, "--out", tmp_path / "split.csv")
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    checked = ("data", "check", tmp_path / "t.csv", "--group-column", "patient", "--json")
    found = json.loads(tlhub(*checked, "--split", tmp_path / "split.csv").stdout)
    assert {item["code"] for item in found["findings"]} == {"guessed", "near copies"}


def test_the_command_takes_numbers_and_says_when_nothing_is_left(
    tmp_path: Path, tlhub: Run
) -> None:
    rows = [f"sentence number {n},{n / 3}" for n in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["text,stars", *rows]))
    done = tlhub("data", "check", tmp_path / "t.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert "regression of 40 texts; looked at" in done.stdout
    (tmp_path / "t.csv").write_text("text,label\nthe same,a\nthe same,b\n")
    done = tlhub("data", "check", tmp_path / "t.csv", "--json")
    assert done.returncode == 1
    assert "same bytes in another class (2)" in json.loads(done.stderr)["error"]["message"]
