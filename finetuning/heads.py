"""Linear heads on features, and the choice among them by what they say of left-out examples.

Three methods are tried: shrinkage LDA and ridge regression, which are closed forms and do best
where examples are few, and multinomial logistic regression at several strengths. A head is one
matrix and one vector whatever made it. k-nearest neighbors are measured beside, and never
exported: the file would have to carry the features of every training example.

For logistic regression features are standardized, which is then folded into the weights. Where
there are fewer examples than features it is fitted in the subspace that the examples span: by the
representer theorem the L2-regularized optimum lies in it (Schölkopf, Herbrich and Smola, 2001), so
that nothing is lost and a fit takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from finetuning.calibration import Labels, log_loss, temperature
from finetuning.features import Rows
from finetuning.folds import Folds
from finetuning.ridge import STRENGTHS as RIDGE_STRENGTHS
from finetuning.ridge import Floats, Ridge, Scale
from finetuning.shrinkage import discriminant

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

LDA, RIDGE, LOGISTIC = "shrinkage LDA", "ridge regression", "logistic regression"
NEIGHBORS = "nearest neighbors"

# Inverse regularization for features scaled so that an average row has length 1.
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_DEFAULT = 10.0  # where there are too few examples to choose by
_ITERATIONS = 1000
_TOLERANCE, _ROUGH = 1e-6, 1e-4  # of a head that is kept, and of one that is judged
_COUNTS = (1, 5)  # of neighbors


@dataclass(frozen=True)
class LinearHead:
    """Probabilities are ``softmax(x @ weight.T + bias)``."""

    weight: Floats  # (classes, features)
    bias: Floats  # (classes,)
    method: str = LOGISTIC
    strength: float | None = None

    def logits(self, x: Rows) -> Floats:
        """Scores (N, classes) of features (N, D)."""
        scores: Floats = x.astype(np.float64) @ self.weight.T + self.bias
        return scores

    def predict(self, x: Rows) -> Labels:
        """The likeliest class of each row, as an index."""
        labels: Labels = self.logits(x).argmax(axis=1)
        return labels

    def cooled(self, by: float) -> LinearHead:
        """The same with logits divided by a temperature."""
        return replace(self, weight=self.weight / by, bias=self.bias / by)


class HeadTried(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of head at its best strength, judged on training examples left out in turn."""

    method: str
    strength: float | None  # of neighbors, how many
    loss: float | None  # log loss, at its best temperature; None of neighbors
    accuracy: float


@dataclass(frozen=True)
class Evidence:
    """What each kind of head says of examples that it was not fitted on."""

    tried: tuple[HeadTried, ...]  # empty where there are too few examples
    best: HeadTried | None
    logits: Floats  # of the best, (N, classes that occur)
    y: Labels  # the truth, numbered among these classes


def fit(x: Rows, y: Labels, *, method: str = LOGISTIC, strength: float | None = None) -> LinearHead:
    """A head for features (N, D) and labels (N,), in which every class from 0 on occurs.

    On one machine the same data give the same bytes, on however many cores: it is computed on one.
    """
    with threadpool_limits(1):
        if method == LDA:
            return LinearHead(*discriminant(x, y), LDA)
        if method == RIDGE:
            scale, strength = Scale.of(x), strength or RIDGE_STRENGTHS[0]
            ridge = Ridge.of(scale(x), np.eye(int(y.max()) + 1)[y])
            return LinearHead(*scale.folded(*ridge.linear(strength)), RIDGE, strength)
        strength = strength or _DEFAULT
        scale, rows, basis = _prepared(x)
        weight, bias = _linear(_regression(C=strength).fit(rows, y))
        weight = weight if basis is None else weight @ basis
        return LinearHead(*scale.folded(weight, bias), LOGISTIC, strength)


def evidence(
    x: Rows,
    y: Labels,
    groups: Sequence[str],
    *,
    seed: int,
    methods: Sequence[str] = (LDA, RIDGE, LOGISTIC),
) -> Evidence:
    """What heads on features (N, D) can do; examples of one group are left out together."""
    folds = Folds.of(y, groups, seed=seed)
    if not len(folds.rows):
        return Evidence((), None, np.zeros((0, 0)), folds.y)
    x = x[folds.rows]
    kinds: list[tuple[float, HeadTried, Floats]] = []
    with threadpool_limits(1):
        for method in methods:
            judged = [
                _judged(method, strength, logits, folds.y)
                for strength, logits in _left_out(method, x, folds, np.asarray(groups))
            ]
            kinds.append(min(judged, key=lambda item: item[0]))
        near = _neighbors(x, folds)
    _, best, logits = min(kinds, key=lambda item: item[0])
    return Evidence((*(item for _, item, _ in kinds), near), best, logits, folds.y)


def _judged(
    method: str, strength: float | None, logits: Floats, y: Labels
) -> tuple[float, HeadTried, Floats]:
    loss = log_loss(logits / temperature(logits, y), y)
    right = float((logits.argmax(axis=1) == y).mean())
    return loss, HeadTried(method=method, strength=strength, loss=loss, accuracy=right), logits


def _left_out(
    method: str, x: Rows, folds: Folds, groups: NDArray[np.str_]
) -> list[tuple[float | None, Floats]]:
    """By strength, what heads of one kind say of examples that they were not fitted on."""
    if method == LDA:
        return [(None, _across(x, folds))]
    if method == LOGISTIC:
        return _regressions(x, folds)
    # Ridge regression leaves out one example, or group, at a time: that costs nothing.
    ridge = Ridge.of(Scale.of(x)(x), np.eye(len(folds.classes))[folds.y])
    member = np.unique(groups[folds.rows], return_inverse=True)[1]
    return [(strength, ridge.left_out(strength, member)) for strength in RIDGE_STRENGTHS]


def _across(x: Rows, folds: Folds) -> Floats:
    """What LDA says of each fold when it is fitted on the others."""
    logits = np.zeros((len(x), len(folds.classes)))
    for fitted, judged in folds:
        weight, bias = discriminant(x[fitted], folds.y[fitted])
        logits[judged] = x[judged] @ weight.T + bias
    return logits


def _regressions(x: Rows, folds: Folds) -> list[tuple[float | None, Floats]]:
    _, rows, _ = _prepared(x)
    found = {strength: np.zeros((len(x), len(folds.classes))) for strength in STRENGTHS}
    for fitted, judged in folds:
        model = _regression(warm_start=True)  # from one strength on to the next
        model.set_params(tol=_ROUGH)
        for strength in STRENGTHS:
            weight, bias = _linear(model.set_params(C=strength).fit(rows[fitted], folds.y[fitted]))
            found[strength][judged] = rows[judged] @ weight.T + bias
    return list(found.items())


def neighbors(x: Rows, y: Labels, asked: Rows, count: int) -> Labels:
    """The most frequent class among the ``count`` rows that are nearest by cosine; ties low."""
    near = np.argsort(-(_unit(asked) @ _unit(x).T), axis=1, kind="stable")[:, :count]
    votes: Labels = np.eye(int(y.max()) + 1)[y[near]].sum(axis=1).argmax(axis=1)
    return votes


def _neighbors(x: Rows, folds: Folds) -> HeadTried:
    right = dict.fromkeys(_COUNTS, 0)
    for count in _COUNTS:
        for fitted, judged in folds:
            said = neighbors(x[fitted], folds.y[fitted], x[judged], count)
            right[count] += int((said == folds.y[judged]).sum())
    count = max(right, key=lambda item: right[item])
    return HeadTried(method=NEIGHBORS, strength=count, loss=None, accuracy=right[count] / len(x))


def _unit(x: Rows) -> Rows:
    rows: Rows = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return rows


def _prepared(x: Rows) -> tuple[Scale, Floats, Floats | None]:
    """Rows as they are fitted, and the basis that they are in where that is not the features'."""
    scale = Scale.of(x)
    rows = scale(x)
    if rows.shape[0] >= rows.shape[1]:
        return scale, rows, None
    left, singular, basis = np.linalg.svd(rows, full_matrices=False)
    return scale, left * singular, basis


def _regression(**options: Any) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**{"tol": _TOLERANCE, "max_iter": _ITERATIONS, **options})


def _linear(model: LogisticRegression) -> tuple[Floats, Floats]:
    """Weight (classes, features) and bias (classes,) of a fitted model."""
    if len(model.coef_) > 1:
        return model.coef_, model.intercept_
    # For two classes scikit-learn has one row, the difference of the two.
    halves = np.array([[-0.5], [0.5]])
    return halves @ model.coef_, (halves @ model.intercept_[:, None]).ravel()
