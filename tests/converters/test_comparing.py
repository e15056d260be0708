"""What a graph answered, made so that number stands beside number."""

from __future__ import annotations

import numpy as np
import pytest

from converters.comparing import OtherFindsError, comparable, differences


def compared(given, reference, seen):
    """Of one batch."""
    ours, theirs = comparable({"": given}, {"": reference}, {"": seen}, None)
    return ours[""], theirs[""]


def test_what_is_of_padding_is_not_compared():
    given = {"attention_mask": np.array([[1, 1, 0], [1, 0, 0]])}
    tokens = np.ones((2, 3, 4), np.float32)
    padded, wrong = tokens.copy(), tokens.copy()
    padded[0, 2], padded[1, 1:] = 7, np.nan
    wrong[1, 0, 3] = 2
    for seen, apart in ((padded, 0), (wrong, 1)):
        ours, theirs = compared(given, {"layer": tokens}, {"layer": seen})
        assert differences({"": ours}, {"": theirs}) == {"layer": apart}
    # What only looks like tokens, a vector of each text, stays as it is.
    vectors = {"embedding": np.ones((2, 3), np.float32)}
    assert compared(given, vectors, vectors)[0]["embedding"].all()


def _finds(boxes: list[list[float]], labels: list[int], scores: list[float]):
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.array(labels, np.int64),
        "scores": np.array(scores, np.float32),
    }


def test_finds_are_in_pairs_whatever_their_order():
    one, other = [0, 0, 10, 10], [20, 20, 100, 100]
    reference = _finds([one, other, other], [1, 1, 2], [0.9, 0.8, 0.79])
    seen = _finds([other, other, one], [2, 1, 1], [0.791, 0.8, 0.9])
    ours, theirs = compared({}, reference, seen)
    np.testing.assert_array_equal(ours["labels"], theirs["labels"])
    np.testing.assert_array_equal(ours["boxes"], theirs["boxes"])
    np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=0.02)


def test_other_finds_are_no_pairs():
    boxes = [[n, n, n + 10, n + 10] for n in range(0, 100, 20)]
    reference = _finds(boxes, [1] * 5, [0.9] * 5)
    fewer = _finds(boxes[:3], [1] * 3, [0.9] * 3)
    renamed = _finds(boxes, [1, 1, 1, 2, 2], [0.9] * 5)
    moved = _finds([[x + 3 for x in box] for box in boxes], [1] * 5, [0.9] * 5)
    for seen in (fewer, renamed, moved, _finds([], [], [])):
        with pytest.raises(OtherFindsError, match="finds other things"):
            compared({}, reference, seen)
    nothing = _finds([], [], [])
    assert compared({}, nothing, nothing)[0]["boxes"].shape == (0, 4)


def test_one_find_in_a_hundred_may_be_another_and_not_one_in_every_photo():
    boxes = [[n, n, n + 10, n + 10] for n in range(0, 1000, 10)]
    many = _finds(boxes, [1] * 100, [0.9] * 100)
    one_less, two_less = (_finds(boxes[n:], [1] * (100 - n), [0.9] * (100 - n)) for n in (1, 2))
    assert len(compared({}, many, one_less)[0]["boxes"]) == 99
    with pytest.raises(OtherFindsError, match="of 100 it should find, and 98"):
        compared({}, many, two_less)

    photos = {"a": {}, "b": {}}
    cat, bus = _finds([[0, 0, 9, 9]], [1], [0.9]), _finds([[50, 50, 90, 90]], [7], [0.9])
    with pytest.raises(OtherFindsError, match="of 2 it should find, and 2 it finds, 0 are"):
        comparable(photos, {"a": cat, "b": cat}, {"a": bus, "b": bus}, None)
    with pytest.raises(OtherFindsError, match="of 101"):
        comparable(photos, {"a": many, "b": cat}, {"a": one_less, "b": bus}, None)
    ours, _ = comparable(photos, {"a": many, "b": cat}, {"a": one_less, "b": cat}, None)
    assert [len(ours[name]["boxes"]) for name in photos] == [99, 1]


def test_the_range_of_an_output_is_that_of_all_batches():
    expected = {
        "near zero by chance": {"logits": np.array([[0.001, -0.001]], np.float32)},
        "others": {"logits": np.array([[2.0, -1.0]], np.float32)},
        "none": {"logits": np.zeros((0, 2), np.float32)},
    }
    seen = {batch: {"logits": each["logits"] + 2e-4} for batch, each in expected.items()}
    assert differences(expected, seen)["logits"] == pytest.approx(1e-4, rel=1e-3)
    assert differences(expected, expected) == {"logits": 0}
    broken = {**seen, "others": {"logits": np.array([[np.nan, -1.0]], np.float32)}}
    assert differences(expected, broken) == {"logits": np.inf}
    assert differences({"": {"labels": np.array([5])}}, {"": {"labels": np.array([4])}}) == {
        "labels": 1
    }
