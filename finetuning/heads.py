"""A linear head on features: multinomial logistic regression, its strength chosen by evidence.

Features are standardized, and the standardization is then folded into the weights, so that a head
is one matrix and one vector. Where there are fewer images than features the fit is made in the
subspace that the images span: by the representer theorem the L2-regularized optimum lies in it
(Schölkopf, Herbrich and Smola, 2001), so that nothing is lost and a fit takes milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

# Inverse regularization for features scaled so that an average row has length 1.
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_DEFAULT = 10.0  # where there are too few images to choose by
_FOLDS = 5
_EVIDENCE_ROWS = 2000  # so many are enough to choose a strength by
_ITERATIONS = 1000
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class LinearHead:
    """Probabilities are ``softmax(x @ weight.T + bias)``."""

    weight: Floats  # (classes, features)
    bias: Floats  # (classes,)
    strength: float
    evidence: dict[float, float]  # strength -> cross-validated log loss; empty with too few images

    @property
    def loss(self) -> float | None:
        """The cross-validated log loss of the strength that was taken."""
        return self.evidence.get(self.strength)

    def logits(self, x: NDArray[np.float32]) -> Floats:
        """Scores (N, classes) of features (N, D)."""
        return _scores(x.astype(np.float64), self.weight, self.bias)

    def predict(self, x: NDArray[np.float32]) -> Labels:
        """The likeliest class of each row, as an index."""
        labels: Labels = self.logits(x).argmax(axis=1)
        return labels


def fit(
    x: NDArray[np.float32],
    y: Labels,
    *,
    seed: int,
    strength: float | None = None,
) -> LinearHead:
    """A head for features (N, D) and labels (N,), in which every class from 0 on occurs.

    Without a ``strength`` the one with the least cross-validated log loss is taken. On one machine
    the same data and seed give the same bytes, on however many cores: it is computed on one.
    """
    with threadpool_limits(1):
        return _fit(x, y, seed, strength)


def _fit(x: NDArray[np.float32], y: Labels, seed: int, strength: float | None) -> LinearHead:
    mean = x.mean(axis=0, dtype=np.float64)
    scale = x.std(axis=0, dtype=np.float64)
    scale[scale <= 1e-6 * scale.max()] = np.inf  # what is constant says nothing
    scale *= np.sqrt(max(1, np.isfinite(scale).sum()))
    rows = (x - mean) / scale
    basis = None
    if rows.shape[0] < rows.shape[1]:
        left, singular, basis = np.linalg.svd(rows, full_matrices=False)
        rows = left * singular
    evidence = _evidence(rows, y, seed) if strength is None else {}
    if strength is None:
        strength = min(evidence, key=lambda item: evidence[item]) if evidence else _DEFAULT
    weight, bias = _linear(_regression(C=strength).fit(rows, y))
    if basis is not None:
        weight = weight @ basis
    weight = weight / scale
    return LinearHead(weight, bias - weight @ mean, strength, evidence)


def _evidence(rows: Floats, y: Labels, seed: int) -> dict[float, float]:
    """The log loss of each strength on rows it was not fitted on."""
    from sklearn.model_selection import StratifiedKFold

    order = np.random.default_rng(seed).permutation(len(y))[:_EVIDENCE_ROWS]
    order = order[np.bincount(y[order])[y[order]] > 1]  # one image cannot be on both sides
    classes, y = np.unique(y[order], return_inverse=True)
    if len(classes) < 2:
        return {}
    rows, folds = rows[order], min(_FOLDS, int(np.bincount(y).min()))
    losses = dict.fromkeys(STRENGTHS, 0.0)
    for train, test in StratifiedKFold(folds).split(rows, y):
        model = _regression(warm_start=True)  # from one strength on to the next
        for strength in STRENGTHS:
            model.set_params(C=strength).fit(rows[train], y[train])
            scores = _scores(rows[test], *_linear(model))
            right = scores[np.arange(len(test)), y[test]]
            losses[strength] += float((np.logaddexp.reduce(scores, axis=1) - right).sum())
    return {strength: loss / len(y) for strength, loss in losses.items()}


def _regression(**options: Any) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(tol=_TOLERANCE, max_iter=_ITERATIONS, **options)


def _linear(model: LogisticRegression) -> tuple[Floats, Floats]:
    """Weight (classes, features) and bias (classes,) of a fitted model."""
    if len(model.coef_) > 1:
        return model.coef_, model.intercept_
    # For two classes scikit-learn has one row, the difference of the two.
    halves = np.array([[-0.5], [0.5]])
    return halves @ model.coef_, (halves @ model.intercept_[:, None]).ravel()


def _scores(rows: Floats, weight: Floats, bias: Floats) -> Floats:
    scores: Floats = rows @ weight.T + bias
    return scores
