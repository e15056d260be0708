"""What a run measured: `metrics.json`, and the arithmetic behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from catalog.errors import ConversionError
from converters.folder import Parity
from converters.interface import PROBABILITIES
from converters.runtime import OnnxModel
from converters.session import Device
from finetuning.calibration import Abstention, Calibration, Labels
from finetuning.cut import Tried
from finetuning.data.dataset import Example, Skipped
from finetuning.data.findings import Finding
from finetuning.heads import HeadTried, fit
from finetuning.scores import Answer, Bin, ClassResult, Measure
from finetuning.tuning.evidence import Evidence

SCHEMA_VERSION = 2

Right = NDArray[np.bool_]  # of each held-out example, whether it is told right

# What a model is measured against, in words.
BASELINES = {
    "majority": "always the most frequent class",
    "pixels": "32 x 32 pixels, no network",
    "words": "bag of words, no network",
    "random_weights": "the same network, random weights",
}

_FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
_REPEATS = 3

# max|file - head| / max|head| over probabilities: fp32 against fp64, batches of other sizes.
TOLERANCE = 1e-3
_DRAWS = 1000  # of the bootstrap
_PREDICT = 64  # photos between two lines of progress


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """Held-out accuracy of heads that learned from ``n_train`` of the training images."""

    n_train: int
    accuracy: float  # the mean over the draws
    lowest: float
    highest: float
    draws: int


class SplitFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Which files were on which side, relative to the data folder."""

    given: bool  # by `train/` and `test/` folders
    test_fraction: float | None  # None where given
    train: tuple[str, ...]
    test: tuple[str, ...]


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """Held-out accuracy over the best baseline, as fractions."""

    over: str  # a key of BASELINES
    value: float
    interval: tuple[float, float]  # 95 %, by a bootstrap of the held-out examples


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """`metrics.json`. Accuracies are fractions, measured with the exported ONNX file.

    Every loss is of training examples that were left out in turn.
    """

    schema_version: int
    modality: Literal["image", "text"]
    accuracy: float
    interval: tuple[float, float]  # 95 %
    measures: Mapping[str, Measure] = {}  # by the keys of `scores.TITLES`
    n_train: int
    n_test: int
    baselines: Mapping[str, float | None]  # by the keys of BASELINES
    baselines_absent: Mapping[str, str]  # why one of them is None
    gain: Gain
    onnx_agreement: float  # held-out examples on which the file and the fitted head agree
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...]  # a row for each true class, a column for each predicted
    mistakes: tuple[Answer, ...]  # the surest first
    sure: tuple[Answer, ...] = ()  # told right, the surest of each class
    reliability: tuple[Bin, ...] = ()
    reliability_before: tuple[Bin, ...] = ()  # of the same answers, had they not been calibrated
    learning_curve: tuple[CurvePoint, ...]
    framing: str  # how a photo is fitted to the network
    framings: Mapping[str, float]  # tried -> log loss; empty where there is one way
    stages: tuple[str, ...]  # whose vectors, side by side, the head is on
    share: float  # of the backbone's multiply-accumulates that are left
    cuts: tuple[Tried, ...]
    head: str
    strength: float | None
    heads: tuple[HeadTried, ...]
    tuning: Evidence  # what training through the network was tried, and with what result
    calibration: Calibration | None  # None where there are too few examples for one
    abstention: Abstention | None
    seed: int
    command: str
    seconds: Mapping[str, float]  # by step
    features_extracted: Mapping[str, int]  # the others came from the cache
    split: SplitFiles
    skipped: tuple[Skipped, ...]
    findings: tuple[Finding, ...]  # what `tlhub data check` says of the data


def accuracy(predicted: Labels, true: Labels) -> float:
    """The fraction that is right."""
    return float((predicted == true).mean())


def probabilities(
    file: Path,
    examples: Sequence[Example],
    classes: Sequence[str],
    *,
    device: Device,
    progress: Callable[[str], None],
) -> NDArray[np.float64]:
    """What `predict` says of each example, from its file on, float64 (N, classes)."""
    model: OnnxModel[Any, Any] = OnnxModel.open(file, device=device)
    column = {label: n for n, label in enumerate(classes)}
    table = np.zeros((len(examples), len(column)))
    for start in range(0, len(examples), _PREDICT):
        part = examples[start : start + _PREDICT]
        given = [item.text if isinstance(item.content, str) else item.data() for item in part]
        for row, predictions in enumerate(model.predict(given, top=len(column)), start):
            for prediction in predictions:
                table[row, column[prediction.label]] = prediction.score
        progress(f"measured {min(start + _PREDICT, len(examples))} of {len(examples)}")
    return table


def parity(seen: NDArray[np.float64], logits: NDArray[np.float64]) -> Parity:
    """How near the file's probabilities are to the fitted head's.

    Raises:
        ConversionError: not near enough, or another class comes first without a tie.
    """
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    difference = float(np.abs(seen - expected).max() / np.abs(expected).max())

    def agreement(top: int) -> float:
        best = -np.sort(-expected, axis=1)[:, :top]
        chosen = np.take_along_axis(expected, np.argsort(-seen, axis=1)[:, :top], axis=1)
        return float((np.abs(best - chosen).max(axis=1) <= TOLERANCE).mean())

    if not difference <= TOLERANCE or agreement(1) < 1:
        raise ConversionError(
            f"the exported model does not compute what was fitted: probabilities differ by "
            f"{difference:.1e}, the first class agrees on {agreement(1):.1%} of the images",
            hint="nothing was kept; please report the model and the device",
        )
    return Parity(
        reference=f"scikit-learn {version('scikit-learn')}",
        tolerance=TOLERANCE,
        max_rel_diff=difference,
        top1_agreement=agreement(1),
        top5_agreement=agreement(5),
        photo_max_rel_diff=difference,
        outputs={PROBABILITIES: difference},
        batch_sizes=(),  # `predict` groups the photos by their sizes
        photos=len(seen),
    )


def gain(right: Right, baselines: Mapping[str, Right], *, seed: int) -> Gain:
    """How much more often ``right`` is true than it is for the best baseline.

    A baseline may be of fewer examples, which are then the first.
    """
    over = max(baselines, key=lambda name: float(baselines[name].mean()))
    beside = baselines[over]
    difference = right[: len(beside)].astype(float) - beside
    draws = np.random.default_rng(seed).integers(0, len(beside), (_DRAWS, len(beside)))
    low, high = np.quantile(difference[draws].mean(axis=1), [0.025, 0.975])
    return Gain(over=over, value=float(difference.mean()), interval=(float(low), float(high)))


def learning_curve(
    train: tuple[NDArray[np.float32], Labels],
    test: tuple[NDArray[np.float32], Labels],
    *,
    method: str,
    strength: float | None,
    seed: int,
) -> tuple[CurvePoint, ...]:
    """Accuracy on ``test`` (features, labels) by how much of ``train`` was learned from.

    Parts are drawn class by class, at least one image of each, several times.
    """
    x, y = train
    points: dict[int, list[float]] = {}
    for fraction in _FRACTIONS:
        for draw in range(_REPEATS if fraction < 1 else 1):
            random = np.random.default_rng([seed, draw])
            rows = np.concatenate(
                [
                    random.permutation(own)[: max(1, round(fraction * len(own)))]
                    for own in (np.flatnonzero(y == label) for label in np.unique(y))
                ]
            )
            head = fit(x[rows], y[rows], method=method, strength=strength)
            points.setdefault(len(rows), []).append(accuracy(head.predict(test[0]), test[1]))
    return tuple(
        CurvePoint(
            n_train=n,
            accuracy=float(np.mean(values)),
            lowest=min(values),
            highest=max(values),
            draws=len(values),
        )
        for n, values in points.items()
    )
