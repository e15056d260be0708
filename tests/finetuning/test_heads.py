from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as Reference
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from finetuning import cut, heads, perceptron
from finetuning.calibration import log_losses, temperature
from finetuning.folds import Folds
from finetuning.objectives.classes import CLASSES, OneClass
from finetuning.objectives.labels import SeveralLabels
from finetuning.objectives.numbers import Numbers
from finetuning.ridge import Scale
from finetuning.shrinkage import discriminant, shrinkage
from finetuning.stages import LAST, Stage


def blobs(classes: int, rows: int, width: int, seed: int = 0) -> tuple[heads.Rows, heads.Labels]:
    random = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    x = random.normal(0, 1, (classes, width))[y] + random.normal(0, 2, (rows, width))
    return (x * 3 + 5).astype(np.float32), y


def alone(rows: int) -> list[str]:
    return [str(n) for n in range(rows)]


def softmax(scores: heads.Floats) -> heads.Floats:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(("rows", "width"), [(40, 200), (400, 30)])
def test_a_head_is_scikit_learns_regression_on_standardized_features(
    classes: int, rows: int, width: int
) -> None:
    x, y = blobs(classes, rows, width)
    head = heads.fit(x, y, strength=10.0)
    reference = make_pipeline(
        StandardScaler(), LogisticRegression(C=10.0 / width, max_iter=5000, tol=1e-8)
    ).fit(x.astype(np.float64), y)
    seen = softmax(head.logits(x))
    np.testing.assert_allclose(seen, reference.predict_proba(x), atol=2e-3)


@pytest.mark.parametrize(("rows", "width"), [(24, 60), (60, 9)])
def test_what_is_left_out_has_no_say_in_how_it_is_standardized(rows: int, width: int) -> None:
    x, y = blobs(3, rows, width)
    x[0, 0] += 1000  # alone: by its own measure it would be one of many
    folds = CLASSES.folds(y, alone(rows), seed=0)
    found = heads.ridges(x[folds.rows], folds, CLASSES)[1.0]
    for fitted, judged in folds:
        scale = StandardScaler().fit(x[fitted].astype(float))
        scaled = [scale.transform(x[part].astype(float)) / width**0.5 for part in (fitted, judged)]
        reference = Reference(alpha=1.0).fit(scaled[0], np.eye(3)[folds.y[fitted]])
        np.testing.assert_allclose(found[judged], reference.predict(scaled[1]), atol=1e-6)


@pytest.mark.parametrize(("rows", "width"), [(24, 60), (60, 9)])
def test_ridge_is_scikit_learns(rows: int, width: int) -> None:
    x, y = blobs(3, rows, width)
    head = heads.fit(x, y, method=heads.RIDGE, strength=0.5)
    rows_ = Scale.of(x)(x)
    reference = Reference(alpha=0.5).fit(rows_, np.eye(3)[y])
    np.testing.assert_allclose(head.logits(x), reference.predict(rows_), atol=1e-6)


@pytest.mark.parametrize(("rows", "width"), [(24, 60), (90, 9)])
def test_lda_has_the_pooled_covariance_that_ledoit_and_wolf_shrink(rows: int, width: int) -> None:
    x, y = blobs(3, rows, width)
    weight, bias = discriminant(x, y)
    means = np.stack([x[y == k].astype(float).mean(axis=0) for k in range(3)])
    within = x - means[y]
    scale = within.std(axis=0)
    covariance, amount = ledoit_wolf(within / scale, assume_centered=True)
    assert shrinkage(within / scale) == pytest.approx(amount)
    inverse = np.linalg.inv(covariance * np.outer(scale, scale))
    gaps = x[:, None] - means
    expected = -0.5 * np.einsum("nki,ij,nkj->nk", gaps, inverse, gaps) + np.log(1 / 3)
    seen = x @ weight.T + bias
    np.testing.assert_allclose(seen - seen[:, :1], expected - expected[:, :1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", [heads.LDA, heads.RIDGE, heads.LOGISTIC])
def test_the_same_data_give_the_same_bytes(method: str) -> None:
    x, y = blobs(3, 60, 100)
    first, second = heads.fit(x, y, method=method), heads.fit(x, y, method=method)
    assert first.weight.tobytes() == second.weight.tobytes()
    assert first.bias.tobytes() == second.bias.tobytes()


@pytest.mark.parametrize("method", [heads.LDA, heads.RIDGE, heads.LOGISTIC])
def test_constant_features_and_lone_images_do_no_harm(method: str) -> None:
    x, y = blobs(3, 30, 10)
    x[:, 4] = 7.0
    y[y == 2] = 1
    y[0], y[5] = 2, 0  # one image of class 2
    assert np.isfinite(heads.evidence(x, y, alone(30), seed=0).logits).all()
    head = heads.fit(x, y, method=method)
    assert np.isfinite(head.weight).all()
    assert not head.weight[:, 4].any()
    assert head.weight.shape == (3, 10)
    few = heads.fit(x[:3], np.arange(3), method=method)
    assert few.predict(x[:3]).tolist() == [0, 1, 2]
    assert heads.evidence(x[:3], np.arange(3), alone(3), seed=0).best is None


def test_the_head_with_the_least_loss_on_what_was_not_fitted_is_best() -> None:
    x, y = blobs(4, 200, 20)
    linear = (heads.LDA, heads.RIDGE, heads.LOGISTIC)
    found = heads.evidence(x, y, alone(200), seed=0, methods=linear)
    assert [item.method for item in found.tried] == [*linear, heads.NEIGHBORS]
    assert found.best is not None
    assert found.best.loss == min(item.loss for item in found.tried if item.loss is not None)
    assert found.best.loss == pytest.approx(
        log_losses(found.logits / temperature(found.logits, found.y), found.y).mean()
    )
    assert found.best.score > 0.5
    noise = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    nothing = heads.evidence(noise, y, alone(200), seed=0)
    assert nothing.best is not None
    assert nothing.best.loss > 0.95 * np.log(4)  # it does not fool itself


def test_a_group_is_whole_in_one_fold_and_a_class_on_both_sides() -> None:
    y = np.array([0] * 9 + [1] * 4 + [2] * 2 + [3])
    groups = ["a", "a", "a", *(str(n) for n in range(6)), "b", "b", "c", "c", "d", "d", "e"]
    folds = Folds.of(y, groups, seed=1)
    assert set(y[folds.rows]) == {0, 1}  # 2 is one group, 3 one example
    for fitted, judged in folds:
        on_both = {groups[folds.rows[n]] for n in fitted} & {groups[folds.rows[n]] for n in judged}
        assert not on_both
        assert set(folds.y[fitted]) == {0, 1}


def test_copies_of_an_example_do_not_vouch_for_one_another() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 50)).astype(np.float32), np.arange(20) % 2
    twice, labels, groups = np.vstack([x, x]), np.concatenate([y, y]), alone(20) * 2
    honest = heads.evidence(twice, labels, groups, seed=0)
    fooled = heads.evidence(twice, labels, alone(40), seed=0)
    assert honest.best is not None
    assert fooled.best is not None
    assert honest.best.score < 0.8 < fooled.best.score


def test_the_cut_is_where_the_classes_are_told_apart() -> None:
    x, y = blobs(3, 300, 12)
    noise = np.random.default_rng(2).normal(size=(300, 12)).astype(np.float32)
    stages = [Stage(name, name, "maps") for name in ("early", "good")] + [LAST]
    vectors = {"stage/early": noise, "stage/good": x, "embedding": noise[::-1].copy()}
    found = cut.choose(stages, vectors, y, alone(300), seed=0)
    assert [stage.name for stage in found.stages] == ["good"]
    assert {len(item.stages) for item in found.tried} == {1, 2, 3}
    half = {"stage/early": noise, "stage/good": x[:, :6].copy(), "embedding": x[:, 6:].copy()}
    both = cut.choose(stages, half, y, alone(300), seed=0)
    assert [stage.name for stage in both.stages] == ["good", "embedding"]


def test_of_cuts_that_are_as_good_a_much_cheaper_one_is_taken() -> None:
    x, y = blobs(3, 90, 12)
    stages = [Stage("early", "early", "maps", 0, 0.2), Stage("late", "late", "maps", 0, 0.6), LAST]
    vectors = {stage.output: x for stage in stages}
    found = cut.choose(stages, vectors, y, alone(90), seed=0)
    assert [stage.name for stage in found.stages] == ["early"]


def test_stages_side_by_side_are_taken_where_they_do_no_harm() -> None:
    x, y = blobs(3, 240, 12)
    random = np.random.default_rng(5)
    blurred = (x + random.normal(size=x.shape) * 1.5).astype(np.float32)
    noise = random.normal(size=x.shape).astype(np.float32)
    stages = [Stage("early", "early", "maps", 0, 0.3), Stage("late", "late", "maps", 0, 0.6), LAST]
    vectors = {"stage/early": blurred, "stage/late": x, "embedding": noise}
    found = cut.choose(stages, vectors, y, alone(240), seed=0)
    losses = {item.stages: item.loss for item in found.tried}
    assert min(losses, key=lambda names: losses[names]) == ("late",)
    assert [stage.name for stage in found.stages] == ["early", "late"]
    assert found.loss == losses["early", "late"]


def test_of_one_example_a_class_the_last_stage_is_taken() -> None:
    x, y = blobs(3, 3, 12)
    stages = [Stage("early", "early", "maps", 0, 0.3), LAST]
    found = cut.choose(stages, dict.fromkeys(("stage/early", "embedding"), x), y, alone(3), seed=0)
    assert found.stages == (LAST,)
    assert found.tried == ()


def crossed(rows: int, seed: int = 0) -> tuple[heads.Rows, heads.Labels]:
    """Two classes that no line parts: the sign of a product."""
    x = np.random.default_rng(seed).normal(size=(rows, 6))
    return (x * 3 + 5).astype(np.float32), (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def test_a_hidden_layer_is_taken_where_no_line_parts_the_classes() -> None:
    x, y = crossed(600)
    found = heads.evidence(x, y, alone(len(y)), seed=0)
    assert found.best is not None
    assert found.best.method == heads.PERCEPTRON
    head = heads.fit(x, y, method=heads.PERCEPTRON)
    asked, truth = crossed(400, seed=1)
    assert (head.predict(asked) == truth).mean() > 0.85
    assert (heads.fit(x, y, method=heads.LDA).predict(asked) == truth).mean() < 0.65
    same = heads.fit(x, y, method=heads.PERCEPTRON)
    for one, other in zip(head.tensors.values(), same.tensors.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.logits.shape == (600, 2)


def test_a_tie_goes_to_the_hidden_layer_where_examples_are_many() -> None:
    x, y = blobs(4, 800, 20)
    for count, taken in ((300, False), (800, True)):
        found = heads.evidence(x[:count], y[:count], alone(count), seed=0)
        losses = {item.method: item.loss for item in found.tried if item.loss is not None}
        over = losses[heads.PERCEPTRON] / min(losses.values())
        assert 1 < over < 1.1
        assert found.best is not None
        assert (found.best.method == heads.PERCEPTRON) is taken


def test_of_few_examples_no_hidden_layer_is_tried() -> None:
    x, y = crossed(perceptron.FEWEST - 1)
    found = heads.evidence(x, y, alone(len(y)), seed=0)
    assert heads.PERCEPTRON not in {item.method for item in found.tried}


def test_a_hidden_layer_tells_labels_and_numbers_too() -> None:
    x, y = crossed(600)
    asked, truth = crossed(400, seed=1)
    both = np.stack([y, 1 - y], 1)
    labels = SeveralLabels(("same", "other"))
    head = heads.fit(x, both, method=heads.PERCEPTRON, objective=labels)
    answers = head.link(head.logits(asked))
    assert ((answers[:, 0] > 0.5) == truth).mean() > 0.8
    assert np.abs(answers.sum(axis=1) - 1).mean() < 0.1
    number = 1000 + 20.0 * (x - 5)[:, :1] * (x - 5)[:, 1:2]
    objective = Numbers(("product",))
    head = heads.fit(x, number, method=heads.PERCEPTRON, objective=objective)
    wanted = 1000 + 20.0 * (asked - 5)[:, :1] * (asked - 5)[:, 1:2]
    assert objective.scorer(head.logits(asked), wanted)(None) > 0.7
    found = heads.evidence(x, number, alone(600), seed=0, objective=objective)
    assert found.best is not None
    assert found.best.method == heads.PERCEPTRON


def test_a_hidden_layer_counts_rare_classes_as_much_where_asked() -> None:
    x, y = blobs(2, 400, 2)
    kept = np.flatnonzero((y == 0) | (np.arange(400) % 20 == 1))
    x, y = x[kept], y[kept]
    shares = [
        (heads.fit(x, y, method=heads.PERCEPTRON, objective=objective).predict(x) == 1).mean()
        for objective in (OneClass(("a", "b")), OneClass(("a", "b"), balanced=True))
    ]
    assert shares[1] > shares[0] + 0.1


def test_neighbors_are_those_of_scikit_learn_however_many_ask() -> None:
    random = np.random.default_rng(0)
    x, asked = random.normal(size=(300, 8)), random.normal(size=(1100, 8))
    y = random.integers(0, 3, 300)
    columns = np.eye(3)[y]
    for count in (1, 5, 300):
        known = KNeighborsClassifier(count, metric="cosine").fit(x, y)
        found = heads.neighbors(x, columns, asked, count)
        np.testing.assert_allclose(found, known.predict_proba(asked), atol=1e-12)
    assert heads.neighbors(x[:3], columns[:3], asked, 5).shape == (1100, 3)
