"""How well one class each is told: accuracy, each class, what is taken for what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from finetuning import calibration, scores
from finetuning.calibration import Abstention, Calibration
from finetuning.evaluation import HeldOut, Metrics
from finetuning.objectives.classes import ClassTrust, OneClass
from finetuning.scores import Answer, Bin, ClassResult, Measure, Score


class ClassMetrics(Metrics, frozen=True, kw_only=True, tag="classification"):
    """`metrics.json` of one class each."""

    accuracy: float
    interval: tuple[float, float]  # 95 %
    measures: Mapping[str, Measure]  # by the keys of `scores.TITLES`
    balanced: bool  # whether rare classes were made to count as much as others
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...]  # a row for each true class, a column for each predicted
    mistakes: tuple[Answer, ...]  # the surest first
    sure: tuple[Answer, ...]  # told right, the surest of each class
    reliability: tuple[Bin, ...]
    reliability_before: tuple[Bin, ...]  # of the same answers, had they not been calibrated
    calibration: Calibration | None  # None where there are too few examples for one
    abstention: Abstention | None

    @property
    def unequal(self) -> bool:
        """Whether the classes have clearly different numbers of examples."""
        counts = [item.n_train + item.n_test for item in self.classes]
        return max(counts) > _UNEQUAL * min(counts)

    @property
    def worst(self) -> tuple[str, ...]:
        """The examples of the mistakes."""
        return tuple(dict.fromkeys(item.file for item in self.mistakes))

    def figures(self) -> dict[str, float]:
        """Accuracy, and what counts all classes the same."""
        found = {"accuracy": self.accuracy}
        if self.unequal or self.balanced:
            balanced, f1 = self.measures["balanced_accuracy"], self.measures["macro_f1"]
            found |= {"balanced_accuracy": balanced.value, "f1": f1.value}
        return found

    def summary(self) -> dict[str, Any]:
        """The figures, how they are to be trusted, and how many classes there are."""
        return {
            "accuracy": self.accuracy,
            "interval": self.interval,
            "balanced": self.balanced,
            "balanced_accuracy": self.measures["balanced_accuracy"].value,
            "macro_f1": self.measures["macro_f1"].value,
            "unequal": self.unequal,
            "calibration": msgspec.to_builtins(self.calibration),
            "abstention": msgspec.to_builtins(self.abstention),
        }


_UNEQUAL = 1.2  # times as many examples


def metrics(shared: Mapping[str, Any], held: HeldOut, objective: OneClass) -> ClassMetrics:
    """What was measured, with what is ``shared`` by all kinds."""
    truth = held.truth
    said = scores.of(
        held.answers,
        truth,
        objective.names,
        [example.name for example in held.examples],
        learned=held.learned,
        seed=held.seed,
    )
    measure = objective.measure
    accuracy, top = (said.measures[name] for name in ("accuracy", measure.replace(" ", "_")))
    calibrated, abstains = _on_held_out(held)
    return ClassMetrics(
        **shared,
        score=Score(measure=measure, value=top.value, interval=top.interval or (0.0, 1.0)),
        accuracy=accuracy.value,
        interval=accuracy.interval or (0.0, 1.0),
        measures=said.measures,
        balanced=objective.balanced,
        classes=said.classes,
        confusion=said.confusion,
        mistakes=said.mistakes,
        sure=said.sure,
        reliability=said.reliability,
        reliability_before=_before(held),
        calibration=calibrated,
        abstention=abstains,
    )


def _before(held: HeldOut) -> tuple[Bin, ...]:
    """How often the same answers were right for their probability before they were calibrated."""
    if not isinstance(held.trust, ClassTrust):
        return ()
    by = held.trust.calibration.temperature
    return scores.reliability(scores.uncalibrated(held.answers, by), held.truth)


def _on_held_out(held: HeldOut) -> tuple[Calibration | None, Abstention | None]:
    """Calibration and abstention with what the exported file does on held-out examples."""
    if not isinstance(held.trust, ClassTrust):
        return None, None
    error = calibration.calibration_error(held.answers, held.truth)
    return (
        msgspec.structs.replace(held.trust.calibration, held_out_error=error),
        calibration.measured(held.trust.abstention, held.answers, held.truth),
    )
