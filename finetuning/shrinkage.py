"""Linear discriminant analysis with a shrunk covariance: the best of heads where images are few.

The covariance within classes, pooled, is drawn towards a multiple of the identity by as much as
its own noise demands (Ledoit and Wolf, "A well-conditioned estimator for large-dimensional
covariance matrices", 2004). Where there are fewer rows than features everything is computed from
rows x rows, by Woodbury's identity.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from finetuning.ridge import Floats

_LEAST = 1e-9  # of the shrinkage: the covariance of few rows alone has no inverse


def discriminant(
    x: NDArray[np.floating], y: NDArray[np.int64], weights: Floats | None = None
) -> tuple[Floats, Floats]:
    """Weight (classes, D) and bias (classes,) of log posteriors; every class from 0 on occurs.

    How frequent classes are is said by ``weights``, 1 on average, where they do not all count 1.
    """
    counts = np.bincount(y)
    x = x.astype(np.float64)
    means = np.stack([x[y == label].mean(axis=0) for label in range(len(counts))])
    within = x - means[y]
    scale = np.sqrt((within**2).mean(axis=0))
    scale[scale <= 1e-6 * scale.max(initial=0.0)] = np.inf  # says nothing, or has no spread at all
    if not np.isfinite(scale).any():  # one row a class: nothing is known of the spread
        scale = x.std(axis=0)
        scale[scale <= 1e-6 * scale.max(initial=0.0)] = np.inf
    center = x.mean(axis=0)
    solved = _solved(within / scale, (means - center) / scale)
    weight = solved / scale
    offset = -0.5 * ((means - center) * weight).sum(axis=1) + np.log(
        np.bincount(y, weights) / len(y)
    )
    return weight, offset - weight @ center


def shrinkage(within: Floats) -> float:
    """How far the covariance of centered rows (N, D) is drawn to the identity, 0 to 1."""
    rows, width = within.shape
    squares = (within**2).sum(axis=1)
    trace = squares.sum() / rows
    gram = within @ within.T if rows <= width else within.T @ within
    norm = (gram**2).sum() / rows**2
    noise = ((squares**2).sum() / rows - norm) / rows
    spread = norm - trace**2 / width
    return float(min(max(noise, 0.0), spread) / spread) if spread > 0 else 1.0


def _solved(within: Floats, means: Floats) -> Floats:
    """The means (K, D) times the inverse of the shrunk covariance of ``within``."""
    rows, width = within.shape
    amount = max(shrinkage(within), _LEAST)
    ridge = amount * ((within**2).sum() / rows / width or 1.0)
    rest = (1 - amount) / rows
    if rest == 0:
        return means / ridge
    if rows > width:
        covariance = rest * (within.T @ within)
        covariance.flat[:: width + 1] += ridge
        found: Floats = scipy.linalg.solve(covariance, means.T, assume_a="pos").T
        return found
    gram = within @ within.T
    gram.flat[:: rows + 1] += ridge / rest
    inner: Floats = scipy.linalg.solve(gram, within @ means.T, assume_a="pos")
    return (means - (within.T @ inner).T) / ridge
