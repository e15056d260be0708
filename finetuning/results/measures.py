"""The measures of labels, of numbers and of embeddings: a run's own, and those of `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetuning import retrieval
from finetuning.calibration import Labels
from finetuning.objectives import platt, ranking
from finetuning.objectives.labels import SeveralLabels
from finetuning.objectives.numbers import Numbers, mean_error, root_error
from finetuning.objectives.objective import Scorer, interval
from finetuning.ridge import Floats
from finetuning.scores import Measure


def of_labels(
    answers: Floats, truth: Floats, names: Sequence[str], thresholds: Sequence[float], *, seed: int
) -> dict[str, Measure]:
    """Of probabilities (N, K) of labels that hold (1) or not, and said from ``thresholds`` on."""
    y = truth.astype(np.int64)
    said = answers >= np.array(thresholds)
    f1 = ranking.f1(said, y)
    known = f1[np.isfinite(f1)]
    right, total = int((said & (y == 1)).sum()), int(said.sum() + y.sum())
    precision = SeveralLabels(tuple(names)).scorer(answers, y)
    return {
        "mean_average_precision": _measure(precision, len(y), seed),
        "macro_f1": Measure(value=float(known.mean()) if len(known) else 0.0),
        "micro_f1": Measure(value=2 * right / total if total else 0.0),
        "all_right": Measure(value=float((said == (y == 1)).all(axis=1).mean())),
        "calibration_error": Measure(
            value=platt.calibration_error(answers, y), higher_is_better=False
        ),
    }


def of_numbers(
    answers: Floats, truth: Floats, names: Sequence[str], *, seed: int
) -> dict[str, Measure]:
    """Of numbers (N, K): R2, and how far off each is."""
    found = {"r2": _measure(Numbers(tuple(names)).scorer(answers, truth), len(truth), seed, False)}
    for n, name in enumerate(names):
        apart = np.abs(answers[:, n] - truth[:, n])
        for key, scorer in (("mae", mean_error(apart)), ("rmse", root_error(apart))):
            within = interval([scorer], len(truth), seed=seed)
            found[f"{key} of {name}"] = Measure(
                value=scorer(None), interval=within, is_share=False, higher_is_better=False
            )
    return found


def of_embedding(found: retrieval.Found, y: Labels, *, seed: int) -> dict[str, Measure]:
    """Of what each example found, by its class (N,): intervals are by other classes."""
    rates = {
        "recall@1": found.first,
        **{f"recall@{count}": hit for count, hit in found.within.items()},
        "R-precision": found.precision,
        "mAP@R": found.average,
    }
    return {name: _mean(rate, y, seed) for name, rate in rates.items()}


def _mean(rates: Floats, y: Labels, seed: int) -> Measure:
    known = np.isfinite(rates)
    rates, y = rates[known], y[known]
    if not len(rates):
        return Measure(value=0.0)

    def mean(weights: Floats | None) -> float:
        return float(np.average(rates, weights=weights))

    within = interval([mean], len(rates), seed=seed, clusters=y)
    return Measure(value=mean(None), interval=within)


def _measure(scorer: Scorer, count: int, seed: int, is_share: bool = True) -> Measure:
    within = interval([scorer], count, seed=seed)
    return Measure(value=scorer(None), interval=within, is_share=is_share)
