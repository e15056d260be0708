"""Which objective data have, and how its results are told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from catalog.errors import DataError, UsageError
from finetuning.data.dataset import Dataset
from finetuning.evaluation import HeldOut, Metrics
from finetuning.objectives.classes import ClassTrust, OneClass
from finetuning.objectives.embedding import Embedding, PairTrust
from finetuning.objectives.labels import SeveralLabels
from finetuning.objectives.numbers import Numbers
from finetuning.objectives.objective import Trust
from finetuning.results import classes, embedding, labels, numbers

AnyObjective = OneClass | SeveralLabels | Numbers | Embedding


def objective_of(dataset: Dataset, *, balanced: bool = False, learns: bool = True) -> AnyObjective:
    """What is to be learned of these data; ``balanced``: rare classes count as much as others.

    Where nothing ``learns``, a model is only measured on them.

    Raises:
        UsageError: there are no classes to balance.
        DataError: a number is the same everywhere.
    """
    if dataset.kind == "classification":
        return OneClass(dataset.classes, balanced)
    if balanced:
        raise UsageError(
            f"{dataset.root} is data for {dataset.kind}, where there are no classes to balance",
            hint="leave out --balanced",
        )
    if dataset.kind == "embedding":
        return Embedding(dataset.classes)
    if dataset.kind == "multi-label":
        return SeveralLabels(dataset.classes)
    objective = Numbers(dataset.numbers)
    for name, values in zip(objective.names, objective.truth(dataset.examples).T, strict=True):
        if learns and (values == values[0]).all():
            raise DataError(
                f"{name!r} is {values[0]:g} everywhere in {dataset.root}: nothing can be learned",
                hint="name another column with --label-column",
            )
    return objective


def metrics_of(shared: Mapping[str, Any], held: HeldOut, objective: AnyObjective) -> Metrics:
    """What was measured, with what is ``shared`` by all kinds."""
    if isinstance(objective, OneClass):
        return classes.metrics(shared, held, objective)
    if isinstance(objective, SeveralLabels):
        return labels.metrics(shared, held, objective)
    if isinstance(objective, Embedding):
        return embedding.metrics(shared, held, objective)
    return numbers.metrics(shared, held, objective)


def facts_of(objective: AnyObjective, trust: Trust | None) -> dict[str, str]:
    """What a graph's metadata say of its answers."""
    names = json.dumps(objective.names, ensure_ascii=False)
    facts = {"tlhub.labels": names, "tlhub.numbers": "[]", "tlhub.thresholds": "[]"}
    if isinstance(objective, Numbers):
        return {**facts, "tlhub.labels": "[]", "tlhub.numbers": names}
    if isinstance(objective, SeveralLabels):
        return {**facts, "tlhub.thresholds": json.dumps(labels.thresholds(trust, objective))}
    if isinstance(objective, Embedding):
        threshold = trust.threshold if isinstance(trust, PairTrust) else None
        return {**facts, "tlhub.same_class_from": json.dumps(threshold)}
    temperature = trust.calibration.temperature if isinstance(trust, ClassTrust) else 1.0
    return {**facts, "tlhub.temperature": str(temperature)}
