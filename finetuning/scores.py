"""How well a classifier does on labelled examples, by the probabilities that it gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from finetuning.calibration import Labels, calibration_error, log_softmax
from finetuning.objectives.classes import OneClass
from finetuning.objectives.objective import Scorer, interval
from finetuning.ridge import Floats

_LEAST = 1e-12  # probability, so that one that fp32 gave as 0 does not make the log loss infinite
_BINS = 10
_SURE = 8  # examples


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure and where it may lie; accuracies and errors are fractions."""

    value: float
    interval: tuple[float, float] | None = None  # 95 %
    is_share: bool = True
    higher_is_better: bool = True


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is judged by, of the exported file on the held-out examples: more is better."""

    measure: str  # such as `accuracy`
    value: float
    interval: tuple[float, float]  # 95 %


# What each measure is called where people read it.
TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "mean_average_precision": "mean average precision",
    "micro_f1": "micro F1",
    "all_right": "all labels right",
    "r2": "R2",
}


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Answers of about the same probability, and how many of them are right."""

    confidence: float  # the mean
    accuracy: float
    interval: tuple[float, float]  # 95 %, of the accuracy
    count: int


class ClassResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one class fared on the held-out images; a rate that has no image is absent."""

    label: str
    n_train: int
    n_test: int
    recall: float | None  # of its images, the fraction that was found
    precision: float | None  # of what was taken for it, the fraction that was it


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A held-out example, and what the model says it is."""

    file: str
    label: str
    predicted: str
    score: float  # the probability given to ``predicted``


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """All that the answers to labelled examples say of a model."""

    measures: dict[str, Measure]  # by the keys of TITLES, or of numbers `mae of name`
    classes: tuple[ClassResult, ...] = ()  # this and what follows is of one class each
    confusion: tuple[tuple[int, ...], ...] = ()  # a row for each true class
    mistakes: tuple[Answer, ...] = ()  # the surest first
    sure: tuple[Answer, ...] = ()  # told right, of each class the surest first
    reliability: tuple[Bin, ...] = ()


def of(
    probabilities: Floats,
    true: Labels,
    labels: Sequence[str],
    names: Sequence[str],
    *,
    learned: Labels,
    seed: int = 0,
) -> Scores:
    """Of probabilities (N, classes) and the classes (N,) of the examples with these ``names``.

    ``learned`` are the classes of the training examples, which are counted in the table.
    """
    predicted = probabilities.argmax(axis=1)
    counts = confusion(predicted, true, len(labels))
    return Scores(
        measures=measures(probabilities, true, seed=seed),
        classes=by_class(counts, labels, learned),
        confusion=tuple(tuple(row) for row in counts.tolist()),
        mistakes=mistakes(names, probabilities, true, labels),
        sure=_sure(names, probabilities, true, labels),
        reliability=reliability(probabilities, true),
    )


def wilson(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a fraction (Wilson, 1927)."""
    z = 1.959964
    center = (right + z * z / 2) / (total + z * z)
    half = z / (total + z * z) * math.sqrt(right * (total - right) / total + z * z / 4)
    return max(0.0, center - half), min(1.0, center + half)


def confusion(predicted: Labels, true: Labels, classes: int) -> NDArray[np.int64]:
    """Counts (classes, classes): a row for each true class, a column for each predicted one."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (true, predicted), 1)
    return counts


def by_class(
    counts: NDArray[np.int64], labels: Sequence[str], train: Labels
) -> tuple[ClassResult, ...]:
    """Recall and precision of each class of a confusion matrix."""
    right, true, taken = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    learned = np.bincount(train, minlength=len(labels))
    return tuple(
        ClassResult(
            label=label,
            n_train=int(learned[n]),
            n_test=int(true[n]),
            recall=float(right[n] / true[n]) if true[n] else None,
            precision=float(right[n] / taken[n]) if taken[n] else None,
        )
        for n, label in enumerate(labels)
    )


def confusions(
    classes: Sequence[ClassResult], counts: Sequence[Sequence[int]]
) -> list[tuple[str, str, int]]:
    """(true class, taken for, count) of a confusion matrix, the commonest first."""
    pairs = [
        (classes[row].label, classes[column].label, count)
        for row, of_class in enumerate(counts)
        for column, count in enumerate(of_class)
        if count and row != column
    ]
    return sorted(pairs, key=lambda pair: -pair[2])


def mistakes(
    files: Sequence[str],
    probabilities: NDArray[np.float64],
    true: Labels,
    labels: Sequence[str],
) -> tuple[Answer, ...]:
    """The images that were taken for another class, the surest mistake first."""
    sure = [(float(row.max()), n, int(row.argmax())) for n, row in enumerate(probabilities)]
    return tuple(
        Answer(file=files[n], label=labels[true[n]], predicted=labels[said], score=score)
        for score, n, said in sorted(sure, key=lambda item: -item[0])
        if said != true[n]
    )


def measures(probabilities: Floats, true: Labels, *, seed: int) -> dict[str, Measure]:
    """Each measure with its 95 % interval: Wilson's of the accuracy, else by a bootstrap.

    A bootstrap of answers that are all right would say that no other can be wrong.
    """
    predicted = probabilities.argmax(axis=1)
    right = int((predicted == true).sum())
    losses = -np.log(np.maximum(probabilities[np.arange(len(true)), true], _LEAST))

    def measured(scorer: Scorer, **what: bool) -> Measure:
        within = interval([scorer], len(true), seed=seed)
        return Measure(value=scorer(None), interval=within, **what)

    balanced = OneClass((), balanced=True).scorer(predicted, true)
    return {
        "accuracy": Measure(value=right / len(true), interval=wilson(right, len(true))),
        "balanced_accuracy": measured(balanced),
        "macro_f1": measured(partial(_macro_f1, predicted, true)),
        "log_loss": measured(
            lambda weights: float(np.average(losses, weights=weights)),
            is_share=False,
            higher_is_better=False,
        ),
        # No interval: of fewer examples it is larger, and a bootstrap would count that twice.
        "calibration_error": Measure(
            value=calibration_error(probabilities, true), higher_is_better=False
        ),
    }


def reliability(probabilities: Floats, true: Labels) -> tuple[Bin, ...]:
    """How often answers of about the same probability are right, the least sure first."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return tuple(
        Bin(
            confidence=float(confidence[place == n].mean()),
            accuracy=float(right[place == n].mean()),
            interval=wilson(int(right[place == n].sum()), count),
            count=count,
        )
        for n, count in enumerate(np.bincount(place, minlength=_BINS).tolist())
        if count
    )


def uncalibrated(probabilities: Floats, temperature: float) -> Floats:
    """What they were before their logits were divided by ``temperature``."""
    logits = np.log(np.maximum(probabilities, 1e-30)) * temperature
    found: Floats = np.exp(log_softmax(logits))
    return found


def _macro_f1(predicted: Labels, true: Labels, weights: Floats | None) -> float:
    """The mean F1 over the classes that occur or are said."""
    size = int(max(predicted.max(), true.max())) + 1
    said, total = (np.bincount(one, weights, size) for one in (predicted, true))
    hits = predicted == true
    right = np.bincount(true[hits], None if weights is None else weights[hits], size)
    both = said + total
    return float((2 * right[both > 0] / both[both > 0]).mean())


def _sure(
    names: Sequence[str], probabilities: Floats, true: Labels, labels: Sequence[str]
) -> tuple[Answer, ...]:
    """The surest right answers, one of each class before a second of any."""
    confidence = probabilities.max(axis=1)
    right = np.flatnonzero(probabilities.argmax(axis=1) == true)
    ranked: list[tuple[int, float, int]] = []
    for label in np.unique(true[right]):
        own = right[true[right] == label]
        own = own[np.argsort(-confidence[own], kind="stable")][:_SURE]
        ranked += [(place, -float(confidence[n]), int(n)) for place, n in enumerate(own)]
    return tuple(
        Answer(
            file=names[n],
            label=labels[true[n]],
            predicted=labels[true[n]],
            score=float(confidence[n]),
        )
        for _, _, n in sorted(ranked)[:_SURE]
    )
