from __future__ import annotations

import random
import re
import shlex
from pathlib import Path

import pytest

from catalog.errors import UsageError
from catalog.query import (
    COMPARED,
    SORTS,
    TERMS,
    Range,
    parse,
    parse_range,
    parse_sort,
    split,
)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("params", "<10M", Range(None, 1e7, with_high=False)),
        ("params", "<= 1.5b", Range(None, 1.5e9)),
        ("params", ">25k", Range(25e3, None, with_low=False)),
        ("params", "5M..10M", Range(5e6, 1e7)),
        ("params", "5M..", Range(5e6, None)),
        ("params", "..10M", Range(None, 1e7)),
        ("params", "25.6M", Range(25.55e6, 25.65e6, with_high=False)),
        ("params", "4652008", Range(4652008, 4652008)),
        ("gmacs", ">=1.5G", Range(1.5, None)),
        ("gmacs", "<500M", Range(None, 0.5, with_high=False)),
        ("gmacs", "<4.1", Range(None, 4.1, with_high=False)),
        ("top1", ">80%", Range(80, None, with_low=False)),
        ("size", "<20MB", Range(None, 20e6, with_high=False)),
        ("size", "<=1GiB", Range(None, 2.0**30)),
        ("input_size", "224", Range(224, 224)),
        ("input_size", "<=256px", Range(None, 256)),
    ],
)
def test_comparisons_mean_what_they_say(name: str, text: str, expected: Range) -> None:
    low, high, *closed = parse_range(name, text)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert tuple(closed) == expected[2:]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("params", "foo"),
        ("params", ""),
        ("params", "<"),
        ("params", "<10MB"),
        ("params", "-5"),
        ("params", "10M..5M"),
        ("params", ".."),
        ("params", "1..2..3"),
        ("params", "nan"),
        ("params", "<10M>5M"),
        ("gmacs", "<5 apples"),
        ("top1", ">80M"),
        ("size", "10px"),
    ],
)
def test_what_is_no_comparison_is_refused_with_an_example(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        parse_range(name, text)
    assert caught.value.hint is not None
    assert "such as" in caught.value.hint


def test_garbage_is_parsed_or_refused_and_nothing_else() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choices("<>=.0123456789kMGBx% -e", k=rng.randrange(9)))
        for name in ("params", "gmacs", "top1", "size", "input_size"):
            try:
                found = parse_range(name, text)
            except UsageError:
                continue
            assert found.low is not None or found.high is not None


def test_input_size_takes_a_side_or_a_shape() -> None:
    assert parse(fields={"input_size": 224}).ranges == (("side", Range(224, 224)),)
    assert parse(fields={"input_size": "224x224"}).terms == (("shape", ("3x224x224",)),)
    assert parse("input_size:1x28x28").terms == (("shape", ("1x28x28",)),)


def test_a_text_is_words_and_conditions() -> None:
    found = parse('cat "foo:bar" License:MIT,apache-2.0 dataset:"imagenet 1k" params:<1M dog')
    assert found.words == "cat foo:bar dog"
    assert found.terms == (("license", ("mit", "apache-2.0")), ("dataset", ("imagenet 1k",)))
    assert found.ranges == (("params", Range(None, 1e6, with_high=False)),)
    assert found.order is None
    assert parse("x params:>1M params:<2M").ranges == parse("params>1M x params<2M").ranges
    assert parse("sort:f1", metrics={"f1": True}).order == ("f1", "desc")
    assert parse("wer<5 sort:wer", metrics={"wer": False}).order == ("wer", "asc")


def test_unknown_names_come_with_the_valid_ones() -> None:
    with pytest.raises(UsageError, match="unknown task 'image-clasification'") as caught:
        parse("task:image-clasification")
    assert caught.value.hint is not None
    assert "did you mean image-classification or" in caught.value.hint
    assert "object-detection" in caught.value.hint
    with pytest.raises(UsageError, match="unknown modality"):
        parse(fields={"modality": "smell"})
    with pytest.raises(UsageError, match="unknown sort") as caught:
        parse_sort("speed")
    assert caught.value.hint is not None
    assert "top1, params, gmacs, size, input_size, name" in caught.value.hint


def test_garbage_is_split_or_refused_and_nothing_is_lost() -> None:
    rng = random.Random(1)
    pieces = ["task", "params", ":", "<", ">", '"', " ", "a", "1M", "..", "@", "-", "é", "//", "="]
    for _ in range(5000):
        text = "".join(rng.choices(pieces, k=rng.randrange(10)))
        try:
            plain, conditions = split(text)
        except UsageError:
            continue
        rebuilt = plain + "".join(name + value for name, value in conditions)

        def letters(said: str) -> str:
            return "".join(sorted(re.sub(r"[^\w]", "", said)))

        assert letters(rebuilt) == letters(text), text


def test_every_field_is_documented() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "search.md"
    text = page.read_text(encoding="utf-8")
    for name in (*TERMS, *COMPARED, "sort", *SORTS):
        assert f"`{name}`" in text, name
    for examples in re.findall(r"^    tlhub search (.+)$", text, re.MULTILINE):
        parse(
            shlex.split(examples)[0], metrics={"top1": True, "mean_iou@ade20k": True, "wer": False}
        )


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("params < 10M resnet", "params:<10M resnet"),
        ("resnet params:< 10M", "params:<10M resnet"),
        ("size:<1 MB", "size:<1MB"),
        ("size >= 10 mib vit", "size:>=10MiB vit"),
        ("size:1 GB", "size:1GB"),
    ],
)
def test_blanks_around_a_sign_and_before_the_unit_of_bytes_do_not_matter(
    text: str, same: str
) -> None:
    assert parse(text) == parse(same)


def test_what_follows_a_figure_and_is_no_unit_of_bytes_is_a_word() -> None:
    assert parse("vit params:<90M b 16").words == "vit b 16"
    assert parse("vit input_size:224 b 16").words == "vit b 16"
    assert parse("a < b").words == "a < b"
