"""How well an embedding tells classes apart: by nearest neighbors, prototypes, and pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from finetuning import retrieval
from finetuning.calibration import Labels
from finetuning.evaluation import HeldOut, Metrics
from finetuning.nearest import Near
from finetuning.objectives.embedding import Embedding, PairTrust, judged_pairs
from finetuning.results.measures import of_embedding
from finetuning.ridge import Floats, unit
from finetuning.scores import Measure, Score

SHOTS = (1, 5)
_DRAWS = 50
_TOLD, _ASKED = 200, 20  # classes to choose among, and examples of each, at most
_MISTAKES = 100
_PAIRED = 2000  # examples, whose pairs are enough to judge a threshold by


class EmbeddedClass(msgspec.Struct, frozen=True, kw_only=True):
    """How one class fared among those held out; a rate is absent where it has nothing to find."""

    label: str
    n_train: int
    n_test: int
    recall: float | None  # of its examples, whose nearest is of it
    average_precision: float | None  # at R


class Confused(msgspec.Struct, frozen=True, kw_only=True):
    """A held-out example, and the nearest to it, which is of another class."""

    file: str
    label: str
    predicted: str  # the class of the nearest
    score: float  # its cosine


class Shots(msgspec.Struct, frozen=True, kw_only=True):
    """How often a held-out class is told by the mean of so few of its examples."""

    shots: int
    accuracy: float  # the mean over draws of those examples
    interval: tuple[float, float]  # that 95 % of the draws are within
    classes: int  # to choose among


class EmbeddingMetrics(Metrics, frozen=True, kw_only=True, tag="embedding"):
    """`metrics.json` of an embedding."""

    measures: Mapping[str, Measure]
    untouched: float | None  # the score of the network's own embedding
    new_classes: int  # of which nothing was learned
    shots: tuple[Shots, ...]
    pairs: PairTrust | None  # measured on pairs of held-out examples
    classes: tuple[EmbeddedClass, ...]  # that are held out, the worst first
    mistakes: tuple[Confused, ...]  # the nearest first

    @property
    def worst(self) -> tuple[str, ...]:
        """The examples of the mistakes."""
        return tuple(item.file for item in self.mistakes)

    def figures(self) -> dict[str, float]:
        """All measures."""
        return {name: item.value for name, item in self.measures.items()}

    def summary(self) -> dict[str, Any]:
        """The measures, and what they are beside."""
        return {
            **self.figures(),
            "untouched": self.untouched,
            "new_classes": self.new_classes,
            "shots": [msgspec.to_builtins(item) for item in self.shots],
            "pairs": msgspec.to_builtins(self.pairs),
        }


def metrics(shared: Mapping[str, Any], held: HeldOut, objective: Embedding) -> EmbeddingMetrics:
    """What was measured, with what is ``shared`` by all kinds."""
    y, member = held.truth.T
    found = retrieval.search(held.answers, y, member)
    measures = of_embedding(found, y, seed=held.seed)
    top = measures[objective.measure]
    before = None
    if held.untouched is not None:
        before = objective.scorer(held.untouched, held.truth)(None)
    mistakes, near = _mistakes(held, objective, found.first)
    return EmbeddingMetrics(
        **shared,
        score=Score(
            measure=objective.measure, value=top.value, interval=top.interval or (0.0, 1.0)
        ),
        measures=measures,
        untouched=before,
        new_classes=len(np.setdiff1d(y, held.learned[:, 0])),
        shots=few_shot(held.answers, y, member, seed=held.seed),
        pairs=_pairs(held),
        classes=_classes(held, objective, found),
        mistakes=mistakes,
        nearest=near,
    )


def few_shot(vectors: Floats, y: Labels, member: Labels, *, seed: int) -> tuple[Shots, ...]:
    """Each example by the nearest mean of others (N, D), of so few from each class (N,)."""
    rows, found = unit(vectors), []
    units = np.unique(np.stack([y, member], axis=1), axis=0)[:, 0]
    for shots in SHOTS:
        able = np.flatnonzero(np.bincount(units) > shots)
        accuracies = [
            _told(rows, y, member, able, shots, np.random.default_rng([seed, shots, draw]))
            for draw in range(_DRAWS if len(able) > 1 else 0)
        ]
        if accuracies:
            low, high = np.quantile(accuracies, [0.025, 0.975])
            mean, count = float(np.mean(accuracies)), min(len(able), _TOLD)
            within = (float(low), float(high))
            found.append(Shots(shots=shots, accuracy=mean, interval=within, classes=count))
    return tuple(found)


def _told(
    rows: Floats,
    y: Labels,
    member: Labels,
    able: Labels,
    shots: int,
    random: np.random.Generator,
) -> float:
    """One draw: how often others are told, as the mean over the classes."""
    classes = np.sort(random.permutation(able)[:_TOLD])
    order = random.permutation(np.flatnonzero(np.isin(y, classes)))
    order = order[np.argsort(y[order], kind="stable")]
    means, asked = [], []
    for places in np.split(order, np.flatnonzero(np.diff(y[order])) + 1):
        _, first, unit_of = np.unique(member[places], return_index=True, return_inverse=True)
        shown = np.argsort(first, kind="stable")[:shots]
        means.append(rows[places[first[shown]]].mean(axis=0))
        asked.append(places[~np.isin(unit_of, shown)][:_ASKED])
    of = np.repeat(np.arange(len(classes)), [len(places) for places in asked])
    said = (rows[np.concatenate(asked)] @ unit(np.stack(means)).T).argmax(axis=1)
    return float((np.bincount(of, said == of) / np.bincount(of)).mean())


def _pairs(held: HeldOut) -> PairTrust | None:
    if not isinstance(held.trust, PairTrust):
        return None
    some = np.random.default_rng(held.seed).permutation(len(held.truth))[:_PAIRED]
    alike, other = retrieval.pairs(held.answers[some], *held.truth[some].T)
    return judged_pairs(held.trust.threshold, alike, other)


def _classes(
    held: HeldOut, objective: Embedding, found: retrieval.Found
) -> tuple[EmbeddedClass, ...]:
    y = held.truth[:, 0]

    def rate(values: Floats, n: int) -> float | None:
        known = values[(y == n) & np.isfinite(values)]
        return float(known.mean()) if len(known) else None

    rows = [
        EmbeddedClass(
            label=objective.names[n],
            n_train=int((held.learned[:, 0] == n).sum()),
            n_test=int((y == n).sum()),
            recall=rate(found.first, n),
            average_precision=rate(found.average, n),
        )
        for n in np.unique(y).tolist()
    ]
    return tuple(sorted(rows, key=lambda item: 2.0 if item.recall is None else item.recall))


def _mistakes(
    held: HeldOut, objective: Embedding, first: Floats
) -> tuple[tuple[Confused, ...], dict[str, tuple[Near, ...]]]:
    """Those that are most like another class, and what they are like."""
    y = held.truth[:, 0]
    nearest = retrieval.nearest(held.answers, *held.truth.T)
    wrong = [n for n in np.flatnonzero(first < 1).tolist() if y[nearest[n][0]] != y[n]]
    wrong = sorted(wrong, key=lambda n: -nearest[n][1])[:_MISTAKES]
    mistakes: list[Confused] = []
    near: dict[str, tuple[Near, ...]] = {}
    for n in wrong:
        place, cosine = nearest[n]
        name = held.examples[n].name
        mistakes.append(
            Confused(
                file=name,
                label=objective.names[y[n]],
                predicted=objective.names[y[place]],
                score=round(cosine, 4),
            )
        )
        near[name] = (Near(file=held.examples[place].name, similarity=round(cosine, 4)),)
    return tuple(mistakes), near
