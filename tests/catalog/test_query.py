from __future__ import annotations

import random

import pytest

from catalog.errors import UsageError
from catalog.query import Range, parse_filters, parse_range, parse_sort


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
    assert parse_filters(input_size=224).ranges == {"side": Range(224, 224)}
    assert parse_filters(input_size="224x224").terms == {"shape": "3x224x224"}
    assert parse_filters(input_size="1 x 28 x 28").terms == {"shape": "1x28x28"}


def test_unknown_names_come_with_the_valid_ones() -> None:
    with pytest.raises(UsageError, match="unknown task 'image-clasification'") as caught:
        parse_filters(task="image-clasification")
    assert caught.value.hint is not None
    assert "did you mean image-classification or" in caught.value.hint
    assert "object-detection" in caught.value.hint
    with pytest.raises(UsageError, match="unknown modality"):
        parse_filters(modality="smell")
    with pytest.raises(UsageError, match="unknown sort") as caught:
        parse_sort("speed")
    assert caught.value.hint is not None
    assert "top1, params, gmacs, size, name" in caught.value.hint
