"""Heads on features, and the choice among them by what they say of left-out examples.

Four methods are tried of classes: shrinkage LDA and ridge regression, which are closed forms and
do best where examples are few, multinomial logistic regression at several strengths, and from a
hundred examples on a hidden layer (`finetuning.perceptron`). Labels have the latter three, numbers
ridge regression and the hidden layer, and an embedding those of `finetuning.projections`.
k-nearest neighbors are measured beside, and never exported: the file would have to carry the
features of every training example.

For logistic regression features are standardized, which is then folded into the weights. Where
there are fewer examples than features it is fitted in the subspace that the examples span: by the
representer theorem the L2-regularized optimum lies in it (Schölkopf, Herbrich and Smola, 2001), so
that nothing is lost and a fit takes milliseconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from finetuning import perceptron, projections
from finetuning.calibration import Labels
from finetuning.data.dataset import Kind
from finetuning.features import Rows
from finetuning.folds import Folds
from finetuning.objectives.classes import CLASSES
from finetuning.objectives.objective import SOFTMAX, Link, Objective, Truth, drawn
from finetuning.ridge import Floats, Ridge, Scale, unit
from finetuning.shrinkage import discriminant

LDA, RIDGE, LOGISTIC = "shrinkage LDA", "ridge regression", "logistic regression"
PERCEPTRON = "multilayer perceptron"
NEIGHBORS = "nearest neighbors"
# The first is taken where there are too few examples to choose by.
METHODS: dict[Kind, tuple[str, ...]] = {
    "classification": (LDA, RIDGE, LOGISTIC, PERCEPTRON),
    "multi-label": (LOGISTIC, RIDGE, PERCEPTRON),
    "regression": (RIDGE, PERCEPTRON),
    "embedding": projections.METHODS,
}
CLOSED = (LDA, RIDGE)  # that take no iterations

# Inverse regularization for features scaled so that an average row has length 1.
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_DEFAULT = 10.0  # where there are too few examples to choose by
_TOLERANCE, _ROUGH = 1e-6, 1e-4  # of a head that is kept, and of one that is judged
_COUNTS = (1, 5)  # of neighbors
_AT_ONCE = 512  # whose neighbors are looked for
_TIED, _ROUNDING = 0.01, 1e-6  # losses no more apart: the most is drawn towards the identity
# The cut was chosen by ridge regression on the same examples, which flatters what is linear: of so
# many examples of classes a loss so much greater than the least is none.
_MANY, _FLATTERED = 400, 0.1


@dataclass(frozen=True)
class FittedHead:
    """Scores are ``x @ weight.T + bias``, and answers are what ``link`` makes of them.

    With a hidden layer ``x`` is ``relu(features @ hidden.T + shifts)``.
    """

    weight: Floats  # (classes, features), or (classes, hidden)
    bias: Floats  # (classes,)
    method: str = LOGISTIC
    strength: float | None = None
    link: Link = SOFTMAX
    prototypes: Floats | None = None  # (known classes, classes), of an embedding, of length 1
    hidden: tuple[Floats, Floats] | None = None  # (hidden, features), (hidden,)

    @property
    def features(self) -> int:
        """How many it takes."""
        return int((self.weight if self.hidden is None else self.hidden[0]).shape[1])

    @property
    def tensors(self) -> dict[str, Floats]:
        """All that it is made of, by name."""
        found = {"weight": self.weight, "bias": self.bias}
        if self.hidden is not None:
            found["hidden"], found["shifts"] = self.hidden
        if self.prototypes is not None:
            found["prototypes"] = self.prototypes
        return found

    def logits(self, x: Rows) -> Floats:
        """Scores (N, classes) of features (N, D); of numbers the numbers themselves."""
        rows: Floats = x.astype(np.float64)
        if self.hidden is not None:
            rows = np.maximum(rows @ self.hidden[0].T + self.hidden[1], 0)
        scores: Floats = rows @ self.weight.T + self.bias
        return scores

    def predict(self, x: Rows) -> Labels:
        """The likeliest class of each row, as an index."""
        labels: Labels = self.logits(x).argmax(axis=1)
        return labels

    def knowing(self, x: Rows, y: Labels, count: int) -> FittedHead:
        """The same with the direction of the mean of each of so many classes, of rows (N, D)."""
        vectors = self.link(self.logits(x))
        sums = np.zeros((count, vectors.shape[1]))
        np.add.at(sums, y, vectors)
        return replace(self, prototypes=unit(sums))

    def adjusted(self, factors: Floats, shifts: Floats) -> FittedHead:
        """The same with scores multiplied by factors, and shifted."""
        weight, bias = self.weight * factors[:, None], self.bias * factors + shifts
        return replace(self, weight=weight, bias=bias)


class HeadTried(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of head at its best strength, judged on training examples left out in turn."""

    method: str
    strength: float | None  # of neighbors, how many
    loss: float | None  # as the objective has it, at its best calibration; None of neighbors
    score: float  # as the objective measures it


@dataclass(frozen=True)
class Evidence:
    """What each kind of head says of examples that it was not fitted on."""

    tried: tuple[HeadTried, ...]  # empty where there are too few examples
    best: HeadTried | None
    logits: Floats  # of the best, (N, classes that occur)
    y: Truth  # the truth, numbered among these classes


def fit(
    x: Rows,
    y: Truth,
    *,
    method: str = LOGISTIC,
    strength: float | None = None,
    objective: Objective = CLASSES,
) -> FittedHead:
    """A head for features (N, D) and their truth, in which every class from 0 on occurs.

    On one machine the same data give the same bytes, on however many cores: it is computed on one.
    """
    with threadpool_limits(1):
        if objective.kind == "embedding":
            return _projection(x, y, method, strength, objective)
        if method == LDA:
            return FittedHead(*discriminant(x, y, objective.weights(y)), LDA)
        if method == RIDGE:
            scale, strength = Scale.of(x), strength or objective.strengths[0]
            ridge = Ridge.of(scale(x), objective.columns(y), objective.weights(y))
            linear = scale.folded(*ridge.linear(strength))
            return FittedHead(*linear, RIDGE, strength, objective.link)
        if method == PERCEPTRON:
            return _perceptron(x, y, objective)
        strength = strength or _DEFAULT
        scale, rows, basis = _prepared(x)
        regression = objective.regression(_TOLERANCE)
        if regression is None:
            raise ValueError(f"there is no {method} of {objective.kind}")
        weight, bias = regression(rows, y, strength)
        weight = weight if basis is None else weight @ basis
        return FittedHead(*scale.folded(weight, bias), LOGISTIC, strength, objective.link)


def evidence(
    x: Rows,
    y: Truth,
    groups: Sequence[str],
    *,
    seed: int,
    methods: Sequence[str] = (LDA, RIDGE, LOGISTIC, PERCEPTRON),
    objective: Objective = CLASSES,
) -> Evidence:
    """What heads on features (N, D) can do; examples of one group are left out together.

    Of ``methods`` those that the objective has are tried.
    """
    if objective.kind == "embedding":
        with threadpool_limits(1):
            return _projected(x, y, objective, seed=seed)
    folds = objective.folds(y, groups, seed=seed)
    if not len(folds.rows):
        return Evidence((), None, np.zeros((0, 0)), folds.y)
    x = x[folds.rows]
    kinds: list[tuple[float, HeadTried, Floats]] = []
    with threadpool_limits(1):
        for method in methods:
            if method == PERCEPTRON and len(x) < perceptron.FEWEST:
                continue
            if method in METHODS[objective.kind]:
                judged = [
                    _judged(method, strength, logits, folds.y, objective)
                    for strength, logits in _left_out(method, x, folds, objective)
                ]
                kinds.append(min(judged, key=lambda item: item[0]))
        near = _neighbors(x, folds, objective)
    least, best, logits = min(kinds, key=lambda item: item[0])
    loss, last, scores = kinds[-1]
    if last.method == PERCEPTRON and objective.kind == "classification" and len(x) >= _MANY:
        best, logits = (last, scores) if loss <= least * (1 + _FLATTERED) else (best, logits)
    return Evidence((*(item for _, item, _ in kinds), near), best, logits, folds.y)


def _projection(
    x: Rows, y: Truth, method: str, strength: float | None, objective: Objective
) -> FittedHead:
    numbered = np.unique(objective.strata(y), return_inverse=True)[1]
    strength = strength or projections.DEFAULT
    linear = projections.Spread.of(x, numbered).projected(method, strength)
    return FittedHead(*linear, method, strength, objective.link)


def _projected(x: Rows, y: Truth, objective: Objective, *, seed: int) -> Evidence:
    """Each projection at its best shrinkage, by classes that were left out whole."""
    places = drawn(objective, y, projections.ROWS, seed=seed)
    x, y = x[places], y[places]
    found: dict[tuple[str, float], list[tuple[float, float]]] = defaultdict(list)
    first: list[tuple[Truth, dict[tuple[str, float], Floats]]] = []
    for rows, vectors in projections.tried(x, y, seed=seed):
        first = first or [(y[rows], vectors)]
        for key, given in vectors.items():
            score = objective.scorer(objective.said(given), y[rows])(None)
            found[key].append((float(objective.losses(given, y[rows]).mean()), score))
    if not first:
        return Evidence((), None, np.zeros((0, 0)), y)
    means = {key: np.mean(pairs, axis=0).tolist() for key, pairs in found.items()}
    kinds: list[tuple[float, HeadTried, Floats]] = []
    [(truth, vectors)] = first
    for method in projections.METHODS:
        least = min(loss for key, (loss, _) in means.items() if key[0] == method)
        near = least * (1 + _TIED) + _ROUNDING
        own = [key[1] for key, (loss, _) in means.items() if key[0] == method and loss <= near]
        strength = max(own)
        loss, score = means[method, strength]
        tried = HeadTried(method=method, strength=strength, loss=loss, score=score)
        kinds.append((loss, tried, vectors[method, strength]))
    _, best, scores = min(kinds, key=lambda item: item[0])
    return Evidence(tuple(item for _, item, _ in kinds), best, scores, truth)


def _judged(
    method: str, strength: float | None, logits: Floats, y: Truth, objective: Objective
) -> tuple[float, HeadTried, Floats]:
    loss = float(objective.losses(logits, y).mean())
    score = objective.scorer(objective.said(logits), y)(None)
    return loss, HeadTried(method=method, strength=strength, loss=loss, score=score), logits


def _left_out(
    method: str, x: Rows, folds: Folds, objective: Objective
) -> list[tuple[float | None, Floats]]:
    """By strength, what heads of one kind say of examples that they were not fitted on."""
    y = folds.y
    if method == LDA:
        return [(None, _across(x, folds, objective))]
    if method == PERCEPTRON:
        scores = np.zeros(objective.columns(y).shape)
        for fitted, judged in folds:
            scores[judged] = _perceptron(x[fitted], y[fitted], objective).logits(x[judged])
        return [(None, scores)]
    if method == LOGISTIC:
        return _regressions(x, folds, objective)
    return list(ridges(x, folds, objective).items())


def ridges(x: NDArray[np.floating], folds: Folds, objective: Objective) -> dict[float, Floats]:
    """By strength, what ridge regression says of each fold when it is fitted on the others.

    Not by leave-one-out, though that is a closed form: features would be standardized with what is
    left out, and a feature that hardly ever varies seem harmless. See decision 0026.
    """
    found = {
        strength: np.zeros(objective.columns(folds.y).shape) for strength in objective.strengths
    }
    for fitted, judged in folds:
        y, scale = folds.y[fitted], Scale.of(x[fitted])
        ridge = Ridge.of(scale(x[fitted]), objective.columns(y), objective.weights(y))
        said = ridge.said(scale(x[judged]), objective.strengths)
        for strength, scores in zip(objective.strengths, said, strict=True):
            found[strength][judged] = scores
    return found


def _perceptron(x: Rows, y: Truth, objective: Objective) -> FittedHead:
    columns = objective.columns(y).shape[1]
    found = perceptron.fit(x, y, objective.lesson(y), columns)
    hidden = found.hidden, found.shifts
    return FittedHead(found.weight, found.bias, PERCEPTRON, link=objective.link, hidden=hidden)


def _across(x: Rows, folds: Folds, objective: Objective) -> Floats:
    """What LDA says of each fold when it is fitted on the others."""
    logits = np.zeros((len(x), int(folds.y.max()) + 1))
    for fitted, judged in folds:
        y = folds.y[fitted]
        weight, bias = discriminant(x[fitted], y, objective.weights(y))
        logits[judged] = x[judged] @ weight.T + bias
    return logits


def _regressions(x: Rows, folds: Folds, objective: Objective) -> list[tuple[float | None, Floats]]:
    _, rows, _ = _prepared(x)
    width = objective.columns(folds.y).shape[1]
    found = {strength: np.zeros((len(x), width)) for strength in STRENGTHS}
    for fitted, judged in folds:
        regression = objective.regression(_ROUGH)  # from one strength on to the next
        if regression is None:
            raise ValueError(f"there is no {LOGISTIC} of {objective.kind}")
        for strength in STRENGTHS:
            weight, bias = regression(rows[fitted], folds.y[fitted], strength)
            found[strength][judged] = rows[judged] @ weight.T + bias
    return list(found.items())


def neighbors(x: Rows, columns: Floats, asked: Rows, count: int) -> Floats:
    """The mean of the ``columns`` (N, K) of the ``count`` rows that are nearest by cosine."""
    known, count = unit(x).T, min(count, len(x))
    found = np.zeros((len(asked), columns.shape[1]))
    for start in range(0, len(asked), _AT_ONCE):
        apart = -(unit(asked[start : start + _AT_ONCE]) @ known)
        near = np.argpartition(apart, count - 1, axis=1)[:, :count]
        found[start : start + _AT_ONCE] = columns[np.sort(near, axis=1)].mean(axis=1)
    return found


def _neighbors(x: Rows, folds: Folds, objective: Objective) -> HeadTried:
    columns = objective.columns(folds.y)
    scores: dict[int, float] = {}
    for count in _COUNTS:
        found = np.zeros(columns.shape)
        for fitted, judged in folds:
            found[judged] = neighbors(x[fitted], columns[fitted], x[judged], count)
        scores[count] = objective.scorer(objective.said(found), folds.y)(None)
    count = max(scores, key=lambda item: scores[item])
    return HeadTried(method=NEIGHBORS, strength=count, loss=None, score=scores[count])


def _prepared(x: Rows) -> tuple[Scale, Floats, Floats | None]:
    """Rows as they are fitted, and the basis that they are in where that is not the features'."""
    scale = Scale.of(x)
    rows = scale(x)
    if rows.shape[0] >= rows.shape[1]:
        return scale, rows, None
    left, singular, basis = np.linalg.svd(rows, full_matrices=False)
    return scale, left * singular, basis
