"""How well several labels each are told: average precision, F1, and each label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from finetuning.evaluation import HeldOut, Metrics
from finetuning.objectives import ranking
from finetuning.objectives.labels import LabelTrust, SeveralLabels
from finetuning.results import measures
from finetuning.ridge import Floats
from finetuning.scores import Score

_UNSURE = 0.5  # the threshold where nothing was left out to choose one by


class LabelResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one label fared on the held-out images; a rate that has no image is absent."""

    label: str
    n_train: int
    n_test: int
    threshold: float  # the probability from which on it is said to hold
    average_precision: float | None
    recall: float | None  # of the images it holds of, the fraction of which it is said
    precision: float | None  # of those it is said of, the fraction of which it holds
    f1: float | None


class LabelMistake(msgspec.Struct, frozen=True, kw_only=True):
    """A held-out image and a label that is said of it and does not hold, or the other way round."""

    file: str
    label: str
    holds: bool
    score: float  # the probability given to the label


class LabelMetrics(Metrics, frozen=True, kw_only=True, tag="multi-label"):
    """`metrics.json` of several labels each."""

    macro_f1: float  # the mean of the labels' own
    micro_f1: float  # of all labels together
    all_right: float  # the fraction of images of which all that is said holds, and nothing else
    labels: tuple[LabelResult, ...]
    mistakes: tuple[LabelMistake, ...]  # the surest first
    calibration_error_before: float | None  # None where there are too few examples
    calibration_error: float | None  # on training examples left out in turn
    held_out_calibration_error: float

    @property
    def worst(self) -> tuple[str, ...]:
        """The examples of the mistakes."""
        return tuple(dict.fromkeys(item.file for item in self.mistakes))

    def figures(self) -> dict[str, float]:
        """Mean average precision, and F1 by the thresholds."""
        return {"mean_average_precision": self.score.value, "f1": self.macro_f1}

    def summary(self) -> dict[str, Any]:
        """The figures and the thresholds."""
        return {
            "macro_f1": self.macro_f1,
            "micro_f1": self.micro_f1,
            "all_right": self.all_right,
            "thresholds": {item.label: item.threshold for item in self.labels},
        }


def thresholds(trust: object, objective: SeveralLabels) -> tuple[float, ...]:
    """The probability of each label from which on it is said to hold."""
    if isinstance(trust, LabelTrust):
        return trust.thresholds
    return (_UNSURE,) * len(objective.names)


def metrics(shared: Mapping[str, Any], held: HeldOut, objective: SeveralLabels) -> LabelMetrics:
    """What was measured, with what is ``shared`` by all kinds."""
    given, truth = held.answers, held.truth
    chosen = thresholds(held.trust, objective)
    above = np.array(chosen)
    said = given >= above
    found = measures.of_labels(given, truth, objective.names, chosen, seed=held.seed)
    precision = found["mean_average_precision"]
    trust = held.trust if isinstance(held.trust, LabelTrust) else None
    return LabelMetrics(
        **shared,
        score=Score(
            measure=objective.measure,
            value=precision.value,
            interval=precision.interval or (0.0, 1.0),
        ),
        macro_f1=found["macro_f1"].value,
        micro_f1=found["micro_f1"].value,
        all_right=found["all_right"].value,
        labels=_by_label(held, objective, above, said),
        mistakes=_mistakes(held, objective, said, above),
        calibration_error_before=None if trust is None else trust.error_before,
        calibration_error=None if trust is None else trust.error,
        held_out_calibration_error=found["calibration_error"].value,
    )


def _by_label(
    held: HeldOut, objective: SeveralLabels, above: Floats, said: NDArray[np.bool_]
) -> tuple[LabelResult, ...]:
    precision = ranking.Ranked.of(held.answers, held.truth).average_precision()
    f1, right = ranking.f1(said, held.truth), (said & (held.truth == 1)).sum(axis=0)
    true, taken, learned = (a.sum(axis=0) for a in (held.truth, said, held.learned))
    return tuple(
        LabelResult(
            label=label,
            n_train=int(learned[n]),
            n_test=int(true[n]),
            threshold=float(above[n]),
            average_precision=_known(precision[n]),
            recall=float(right[n] / true[n]) if true[n] else None,
            precision=float(right[n] / taken[n]) if taken[n] else None,
            f1=_known(f1[n]),
        )
        for n, label in enumerate(objective.names)
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mistakes(
    held: HeldOut, objective: SeveralLabels, said: NDArray[np.bool_], above: Floats
) -> tuple[LabelMistake, ...]:
    """Farthest on the wrong side of the threshold first."""
    rows, columns = np.nonzero(said != (held.truth == 1))
    apart = np.where(
        said, (held.answers - above) / np.maximum(1 - above, 1e-9), (above - held.answers) / above
    )
    order = np.argsort(-apart[rows, columns], kind="stable")
    return tuple(
        LabelMistake(
            file=held.examples[row].name,
            label=objective.names[column],
            holds=bool(held.truth[row, column]),
            score=float(held.answers[row, column]),
        )
        for row, column in zip(rows[order], columns[order], strict=True)
    )
