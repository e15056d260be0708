from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from finetuning import heads


def blobs(classes: int, rows: int, width: int, seed: int = 0) -> tuple[heads.Floats, heads.Labels]:
    random = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    x = random.normal(0, 1, (classes, width))[y] + random.normal(0, 2, (rows, width))
    return x.astype(np.float32) * 3 + 5, y


def softmax(scores: heads.Floats) -> heads.Floats:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(("rows", "width"), [(40, 200), (400, 30)])
def test_a_head_is_scikit_learns_regression_on_standardized_features(
    classes: int, rows: int, width: int
) -> None:
    x, y = blobs(classes, rows, width)
    head = heads.fit(x, y, seed=0, strength=10.0)
    reference = make_pipeline(
        StandardScaler(), LogisticRegression(C=10.0 / width, max_iter=5000, tol=1e-8)
    ).fit(x.astype(np.float64), y)
    seen = softmax(head.logits(x))
    np.testing.assert_allclose(seen, reference.predict_proba(x), atol=2e-3)


def test_the_strength_is_the_one_with_the_least_loss_on_what_was_not_fitted() -> None:
    x, y = blobs(4, 200, 20)
    head = heads.fit(x, y, seed=0)
    assert set(head.evidence) == set(heads.STRENGTHS)
    assert head.evidence[head.strength] == min(head.evidence.values())
    noise = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    assert heads.fit(noise, y, seed=0).strength == heads.STRENGTHS[0]


def test_the_same_seed_gives_the_same_bytes() -> None:
    x, y = blobs(3, 60, 100)
    first, second = heads.fit(x, y, seed=3), heads.fit(x, y, seed=3)
    assert first.weight.tobytes() == second.weight.tobytes()
    assert first.bias.tobytes() == second.bias.tobytes()


def test_constant_features_and_lone_images_do_no_harm() -> None:
    x, y = blobs(3, 30, 10)
    x[:, 4] = 7.0
    y[y == 2] = 1
    y[0], y[5] = 2, 0  # one image of class 2
    head = heads.fit(x, y, seed=0)
    assert np.isfinite(head.weight).all()
    assert not head.weight[:, 4].any()
    assert head.weight.shape == (3, 10)
    few = heads.fit(x[:3], np.arange(3), seed=0)
    assert few.evidence == {}
    assert few.predict(x[:3]).tolist() == [0, 1, 2]
