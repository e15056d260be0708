"""Probabilities that mean what they say: temperature, calibration error, abstention.

Everything here is fitted on predictions for examples that were left out of the fit. A temperature
is one number that all logits are divided by (Guo et al., "On calibration of modern neural
networks", 2017): it changes no prediction, and it is folded into the head.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from finetuning.ridge import Floats

Labels = NDArray[np.int64]

_BINS = 15
_RANGE = (-7.0, 7.0)  # of the logarithm of a temperature
_EXACT = 1e-3  # of it: thousands of examples do not tell it better
RISK = 0.05


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How far probabilities were from the truth, on training examples left out in turn."""

    temperature: float  # what the logits are divided by, within the graph
    error_before: float  # expected calibration error
    error: float
    held_out_error: float | None = None  # of the exported file


class Abstention(msgspec.Struct, frozen=True, kw_only=True):
    """From which probability on an answer is to be trusted, for an error of ``risk`` at most."""

    risk: float  # that was asked for
    threshold: float | None  # None: no threshold reaches it
    coverage: float  # of the examples left out in turn, the fraction at or above it
    held_out_coverage: float | None = None
    held_out_risk: float | None = None  # None where nothing held out is above it


def log_softmax(logits: Floats) -> Floats:
    """Logarithms of the probabilities (N, K)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def log_losses(logits: Floats, y: Labels) -> Floats:
    """The negative log likelihood of each true class (N,)."""
    found: Floats = -log_softmax(logits)[np.arange(len(y)), y]
    return found


def temperature(logits: Floats, y: Labels, weights: Floats | None = None) -> float:
    """What to divide logits (N, K) by for the least log loss.

    The truth counts as certain but for one in N + 2 (Platt's targets, 1999): where every answer
    is right, nothing else would keep the probabilities from being 1.
    """
    doubt = 1 / (len(y) + 2)
    of_each = doubt / max(1, logits.shape[1] - 1)
    logits = logits - logits.max(axis=1, keepdims=True)
    true = logits[np.arange(len(y)), y]
    aims = (1 - doubt - of_each) * true + of_each * logits.sum(axis=1)
    shares = np.full(len(y), 1 / len(y)) if weights is None else weights / weights.sum()
    # Convex in the scale 1 / temperature: Newton's method, kept within what brackets the least.
    (low, high), scale = np.exp(_RANGE), 1.0
    while high > low * (1 + _EXACT):
        chances = np.exp(scale * logits)
        chances /= chances.sum(axis=1, keepdims=True)
        means = np.einsum("nk,nk->n", chances, logits)
        slope = shares @ (means - aims)
        if slope == 0:  # at once where nothing tells classes apart
            break
        low, high = (low, scale) if slope > 0 else (scale, high)
        curve = shares @ (np.einsum("nk,nk,nk->n", chances, logits, logits) - means**2)
        last, scale = scale, scale - slope / max(curve, abs(slope) / high)
        if abs(scale - last) < _EXACT * last:
            break
        if not low < scale < high:
            scale = float(np.sqrt(low * high))
    return float(1 / scale)


def calibration_error(probabilities: Floats, y: Labels, weights: Floats | None = None) -> float:
    """Expected calibration error: how far confidence is from accuracy, over bins of confidence."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    return over_bins(confidence, (confidence - right) * (1 if weights is None else weights))


def over_bins(confidence: Floats, apart: Floats) -> float:
    """The mean over all (N,) of how far off the bins of confidence are."""
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return float(np.abs(np.bincount(place, apart, _BINS)).sum() / len(confidence))


def abstention(probabilities: Floats, y: Labels, risk: float = RISK) -> Abstention:
    """The lowest threshold above which no more than ``risk`` of the answers are wrong."""
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != y
    order = np.argsort(-confidence, kind="stable")
    errors = np.cumsum(wrong[order]) / np.arange(1, len(y) + 1)
    last = np.append(np.diff(confidence[order]) != 0, True)  # equal ones are taken together
    good = np.flatnonzero((errors <= risk) & last)
    if not len(good):
        return Abstention(risk=risk, threshold=None, coverage=0.0)
    return Abstention(
        risk=risk,
        threshold=float(confidence[order][good[-1]]),
        coverage=float((good[-1] + 1) / len(y)),
    )


def measured(found: Abstention, probabilities: Floats, y: Labels) -> Abstention:
    """The same with what the threshold does on held-out examples."""
    if found.threshold is None:
        return found
    kept = probabilities.max(axis=1) >= found.threshold
    wrong = (probabilities.argmax(axis=1) != y)[kept]
    return msgspec.structs.replace(
        found,
        held_out_coverage=float(kept.mean()),
        held_out_risk=float(wrong.mean()) if len(wrong) else None,
    )
