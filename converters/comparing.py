"""What a graph answered and what it should have, made so that number stands beside number."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from catalog.errors import ConversionError
from converters.backbone import Given, Outputs
from converters.interface import (
    ATTENTION_MASK,
    BOXES,
    CLASS_MAP,
    IMAGE,
    LOGITS,
    NUMBERS,
    PROBABILITIES,
    SCORES,
)


class OtherFindsError(ConversionError):
    """A graph finds other things in a photo than the network that it was made of."""


# Two finds are the same thing where they are of one class and nearer than this, relative to the
# largest coordinate and in score together.
NEAR = 1e-2
# Rounding decides whether a box is kept that is at a threshold: of all that is found in all photos
# so many may be without the other.
LONELY = 0.01


def comparable(
    batches: Mapping[str, Given],
    expected: Mapping[str, Outputs],
    seen: Mapping[str, Outputs],
    activation: str | None,
) -> tuple[dict[str, Outputs], dict[str, Outputs]]:
    """What graph and reference answer for each batch, as they are compared.

    What follows from the logits is the reference's of the graph's own logits: a softmax turns an
    absolute difference of logits into a relative one, so that with large logits even two exact
    softmaxes would seem to differ; and rounding decides between two classes that are tied. Finds
    are in pairs, in the order of the reference. What is of tokens is zero where a text is padded:
    no output depends on it, and some networks leave there what nothing determines.

    Raises:
        OtherFindsError: what is found is not the same, but for `LONELY` of all that is found.
    """
    ours, theirs = {}, {}
    for name, given in batches.items():
        ours[name], theirs[name] = _comparable(given, expected[name], seen[name], activation)
    paired = [name for name in batches if BOXES in expected[name] and BOXES in seen[name]]
    there, found, same = (
        [len(answers[name][BOXES]) for name in paired] for answers in (expected, seen, ours)
    )
    most = sum(map(max, there, found))
    if most - sum(same) > LONELY * most:
        raise OtherFindsError(
            f"the ONNX graph finds other things: of {sum(there)} it should find, and "
            f"{sum(found)} it finds, {sum(same)} are the same",
            hint="the model was not kept; please report its uid",
        )
    return ours, theirs


def _comparable(
    given: Given, reference: Outputs, seen: Outputs, activation: str | None
) -> tuple[Outputs, Outputs]:
    logits = seen.get(LOGITS, reference.get(LOGITS))
    if logits is not None and activation not in {None, "identity"}:
        tensor = torch.from_numpy(logits)
        chances = tensor.sigmoid() if activation == "sigmoid" else tensor.softmax(-1)
        reference = {**reference, PROBABILITIES: chances.numpy()}
    if logits is not None and CLASS_MAP in seen:
        from converters.segmentation import class_map

        height, width = given[IMAGE].shape[1:3]
        reference = {**reference, CLASS_MAP: class_map(logits, height, width)}
    if ATTENTION_MASK in given:
        mask = given[ATTENTION_MASK] != 0
        return _unpadded(mask, reference), _unpadded(mask, seen)
    if BOXES in reference and BOXES in seen:
        return _paired(reference, seen)
    return reference, seen


def _unpadded(mask: NDArray[np.bool_], outputs: Outputs) -> Outputs:
    """What is of tokens (N, T, width) without what is of padding."""
    return {
        name: np.where(mask[..., None], array, 0)
        if array.ndim == 3 and array.shape[:2] == mask.shape
        else array
        for name, array in outputs.items()
    }


def _paired(reference: Outputs, seen: Outputs) -> tuple[Outputs, Outputs]:
    apart = _distances(reference, seen)
    pairs: list[tuple[int, int]] = []
    for place in range(len(apart)):
        other = int(apart[place].argmin()) if apart.shape[1] else 0
        if apart.shape[1] and apart[place, other] <= NEAR:
            pairs.append((place, other))
            apart[:, other] = np.inf
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    finds = [name for name in reference if len(reference[name]) == apart.shape[0]]
    return (
        {**reference, **{name: reference[name][ours] for name in finds}},
        {**seen, **{name: seen[name][theirs] for name in finds}},
    )


def _distances(reference: Outputs, seen: Outputs) -> NDArray[np.float64]:
    """How far each find of the one is from each of the other; infinitely, if of another class."""
    boxes = reference[BOXES][:, None].astype(np.float64) - seen[BOXES][None]
    largest = max(float(np.abs(reference[BOXES]).max(initial=0)), 1)
    apart: NDArray[np.float64] = np.abs(boxes).max(-1) / largest
    apart += np.abs(reference[SCORES][:, None].astype(np.float64) - seen[SCORES][None])
    apart[reference[NUMBERS][:, None] != seen[NUMBERS][None]] = np.inf
    return apart


def differences(expected: Mapping[str, Outputs], seen: Mapping[str, Outputs]) -> dict[str, float]:
    """max|seen - expected| / max|expected| of each output over all batches.

    The range is that of all batches, as what two rows of one say may be near zero by chance. Of
    what are no fractions, 0 or 1: 1 where anything differs. What is no number is infinitely far.
    """
    apart: dict[str, float] = {}
    largest: dict[str, float] = {}
    for batch, outputs in expected.items():
        for name, reference in outputs.items():
            theirs = seen[batch][name]
            if reference.dtype.kind != "f":
                off = float(not np.array_equal(reference, theirs))
            else:
                off = float(np.abs(theirs.astype(np.float64) - reference).max(initial=0.0))
                off = math.inf if math.isnan(off) else off
                most = float(np.abs(reference).max(initial=0.0))
                largest[name] = max(largest.get(name, 0.0), most)
            apart[name] = max(apart.get(name, 0.0), off)
    return {name: off / (largest.get(name) or 1) for name, off in apart.items()}
