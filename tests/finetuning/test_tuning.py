from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import timm
import tiny_texts
import torch
from torch.nn import functional

from catalog.errors import TlhubError
from catalog.record import Preprocess
from converters.backbone import ImageClassifier
from converters.convert import convert
from converters.registry import load_backbone
from finetuning import lineage
from finetuning.objectives.classes import OneClass
from finetuning.objectives.labels import SeveralLabels
from finetuning.objectives.lessons import ClassLesson
from finetuning.objectives.numbers import Numbers
from finetuning.tuning import adapters, training
from finetuning.tuning.division import Traced
from finetuning.tuning.learner import Head, Learner, Likeness
from finetuning.tuning.texts import Texts
from finetuning.tuning.training import NotANumberError, Recipe, scores, train
from finetuning.tuning.views import Kept, Live, Photos

SIZE = (32, 32)
RECIPE = Recipe(steps=8, batch=6)
FAST = Recipe(steps=60, batch=6, rate=5e-3, head_rate=0.05, smoothing=0, mixing=0)


def network(name: str) -> ImageClassifier:
    torch.manual_seed(0)
    options = {"img_size": SIZE[0]} if "vit" in name else {}
    model = timm.create_model(name, pretrained=False, num_classes=5, **options).eval()
    for module in model.modules():  # statistics of their own, so that using others shows
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    head = model.default_cfg["classifier"]
    return ImageClassifier(model, head if isinstance(head, str) else head[0])


@pytest.fixture(params=["test_resnet", "test_efficientnet", "test_vit"])
def traced(request) -> tuple[ImageClassifier, Traced]:
    net = network(request.param)
    return net, Traced(net, (torch.zeros(2, 3, *SIZE),))


def test_the_two_parts_compute_what_the_network_does(traced):
    net, operators = traced
    batch = torch.randn(3, 3, *SIZE)
    expected = net(batch)[1]
    assert operators.attends == isinstance(net.model, timm.models.VisionTransformer)
    boundaries = operators.boundaries("embedding")
    assert len(boundaries) >= 3
    for boundary in ("", *boundaries):
        division = operators.divide(boundary, ["embedding"])
        (seen,) = division.upper(*division.lower(batch))
        torch.testing.assert_close(seen, expected)
        assert set(division.learned()) <= dict(net.model.named_parameters()).keys()


def test_a_network_of_which_a_part_is_elsewhere_is_divided_again(traced, monkeypatch):
    """As when a part was on a GPU, for which double precision stands here."""
    net, operators = traced
    moved = operators.divide("", ["embedding"]).upper.double()
    assert next(net.parameters()).dtype == torch.float64
    assert moved is not None
    monkeypatch.setattr(ImageClassifier, "cpu", ImageClassifier.float)
    batch = torch.randn(3, 3, *SIZE)
    (seen,) = operators.divide("", ["embedding"]).upper(batch)
    torch.testing.assert_close(seen, net(batch)[1])


META = torch.device("meta")  # stands for a GPU: it refuses tensors that lie elsewhere


def steps_on_meta(operators: Traced, example: tuple[torch.Tensor, ...], *, rank: int) -> None:
    """A step of training, which has no values there."""
    division = operators.divide("", ["embedding"], META)
    if rank:
        adapters.add(division.upper, rank, 0)
    given = tuple(tensor.to(META) for tensor in example)
    width = division.upper(*given)[0].shape[1]
    weight, zeros = torch.randn(3, width), torch.zeros(width)
    head = Head(lambda vectors, *_: vectors, weight, torch.zeros(3), zeros, zeros + 1)
    learner = Learner(division.upper, head).to(META)
    optimizer = torch.optim.AdamW(learner.learned().values())
    wanted = torch.zeros(len(example[0]), dtype=torch.long, device=META)
    ClassLesson((1, 1, 1)).losses(learner.taught(*given), wanted, smoothing=0.1).mean().backward()
    optimizer.step()
    assert {tensor.device for tensor in learner.state_dict().values()} == {META}


def test_networks_learn_on_another_device_than_they_were_traced_on(traced):
    _, operators = traced
    example = torch.zeros(2, 3, *SIZE)
    steps_on_meta(operators, (example,), rank=0)
    for boundary in operators.boundaries("embedding"):
        division = operators.divide(boundary, ["embedding"], META)
        assert division.upper(*division.lower(example.to(META)))[0].device == META


@pytest.mark.parametrize("name", ["bert", "mpnet", "deberta-v2", "modernbert"])
def test_networks_of_texts_learn_on_another_device_too(name, tmp_path):
    """What they make of nothing, positions above all, is made there."""
    model = tiny_texts.network(name)
    source = tiny_texts.save(model, tmp_path / "source")
    backbone = lineage.load(convert(tiny_texts.record_of(model), source, tmp_path / "model"))
    front = backbone.front
    operators = Traced(backbone.module, front.example(), front.dynamic)
    for rank in (0, 4):
        steps_on_meta(operators, front.example(), rank=rank)


def photos(count: int = 12) -> Photos:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (40, 50, 3), np.uint8) for _ in range(count)]
    recipe = Preprocess(
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        interpolation="bilinear",
        crop_pct=1.0,
        resize_mode="squash",
    )
    return Photos([lambda image=image: image for image in images], recipe, SIZE, 0)


@pytest.fixture
def prepared():
    """A network divided in the middle, what its lower part says, labels, and a way to learners."""
    net = network("test_efficientnet")
    operators = Traced(net, (torch.zeros(2, 3, *SIZE),))
    division = operators.divide(operators.boundaries("embedding")[2], ["embedding"])
    views = Kept(photos(), division.lower, 3, seed=0, device=torch.device("cpu"))
    width = net(torch.zeros(1, 3, *SIZE))[1].shape[1]
    before = copy.deepcopy(net.state_dict())

    def learner() -> Learner:
        net.load_state_dict(before)
        torch.manual_seed(1)
        head = Head(lambda v: v, 0.1 * torch.randn(3, width), torch.zeros(3), torch.zeros(width),
                    torch.ones(width))  # fmt: skip
        return Learner(division.upper, head)

    return net, division, views, torch.arange(12) % 3, learner


def test_what_lies_below_is_frozen_statistics_included(prepared):
    net, division, views, labels, learner = prepared
    before = copy.deepcopy(net.state_dict())
    losses = train(learner(), views, labels, FAST, seed=0)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    learned = {f"model.{name}" for name in division.learned()}
    changed = {n for n, v in net.state_dict().items() if not torch.equal(v, before[n])}
    assert changed <= learned
    assert len(changed) > 0.9 * len(learned & dict(net.named_parameters()).keys()) > 5


def test_what_is_not_kept_is_computed_again(prepared):
    """Of more than memory holds, the lower part is asked in every step."""
    _, division, views, labels, learner = prepared
    live = Live(photos(), torch.device("cpu"), division.lower)
    asked = np.arange(12)
    found = learner()
    torch.testing.assert_close(scores(found, live, asked), scores(found, views, asked), atol=1e-3,
                               rtol=1e-3)  # fmt: skip
    below, above = (copy.deepcopy(one.state_dict()) for one in (division.lower, division.upper))
    train(found, live, labels, RECIPE, seed=0)
    for before, part, same in ((below, division.lower, True), (above, division.upper, False)):
        after = part.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before) == same


@pytest.mark.parametrize("kind", ["balanced", "labels", "numbers"])
def test_the_loss_that_is_made_small_is_that_of_the_lesson(prepared, kind):
    _, division, _, classes, learner = prepared
    random = np.random.default_rng(0)
    held, numbers = random.integers(0, 2, (12, 3)), random.normal(1e3, 50, (12, 3))
    objective, y = {
        "balanced": (OneClass(("a", "b", "c"), balanced=True), np.minimum(classes.numpy() * 2, 2)),
        "labels": (SeveralLabels(("a", "b", "c")), held),
        "numbers": (Numbers(("a", "b", "c")), numbers),
    }[kind]
    lesson = objective.lesson(y)
    views = Kept(photos(), division.lower, 1, seed=0, device=torch.device("cpu"))
    found = learner()
    said = scores(found, views, np.arange(12)).double().numpy()
    if kind == "labels":
        expected = np.log(1 + np.exp(np.where(held == 1, -said, said))).mean()
    elif kind == "numbers":
        standard = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
        expected = ((said - standard) ** 2).mean()
    else:
        of_each = np.log(np.exp(said).sum(axis=1)) - said[np.arange(12), y]
        expected = np.mean([of_each[y == label].mean() for label in np.unique(y)])
    targets = torch.from_numpy(lesson.targets(y))
    recipe = replace(FAST, batch=12)
    losses = train(found, views, targets, recipe, lesson=lesson, seed=0)
    assert losses[0] == pytest.approx(expected, rel=1e-3)
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_a_killed_training_goes_on_to_the_same_bits(prepared, tmp_path, monkeypatch):
    _, _, views, labels, learner = prepared
    whole = learner()
    expected = train(whole, views, labels, RECIPE, seed=3)
    weights = copy.deepcopy(whole.state_dict())
    monkeypatch.setattr(training, "_CHECKPOINT_S", 0.0)

    def killed(step: int, _of: int, _loss: float) -> None:
        if step == 5:
            raise KeyboardInterrupt

    file = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train(learner(), views, labels, RECIPE, seed=3, checkpoint=file, progress=killed)
    assert file.exists()
    again, steps = learner(), []
    losses = train(
        again, views, labels, RECIPE, seed=3, checkpoint=file,
        progress=lambda step, *_: steps.append(step),
    )  # fmt: skip
    assert steps[0] == 5, "it went on from its last checkpoint"
    assert losses == expected
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())
    assert file.exists(), "until the run that it is of is whole"


def test_a_damaged_checkpoint_is_said_and_training_starts_again(prepared, tmp_path, caplog):
    _, _, views, labels, learner = prepared
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(b"no checkpoint")
    losses = train(learner(), views, labels, RECIPE, seed=3, checkpoint=file)
    assert "cannot be read" in caplog.text
    assert losses == train(learner(), views, labels, RECIPE, seed=3)


class Broken:
    """Views whose numbers are none in some steps, as many times as asked."""

    def __init__(self, views: Kept, times: int) -> None:
        self.count, self._views, self.times = views.count, views, times
        self.lengths = views.lengths

    def batch(self, pictures, step):
        (said,) = self._views.batch(pictures, step)
        if step == 4 and self.times:
            self.times -= 1
            return (said * float("nan"),)
        return (said,)


def test_a_loss_that_is_no_number_is_rolled_back_at_half_the_rate(prepared, caplog):
    _, _, views, labels, learner = prepared
    found = learner()
    losses = train(found, Broken(views, 1), labels, RECIPE, seed=0)
    assert len(losses) == RECIPE.steps
    assert "half the rate" in caplog.text
    assert all(torch.isfinite(value).all() for value in found.state_dict().values())
    with pytest.raises(NotANumberError):
        train(learner(), Broken(views, 100), labels, RECIPE, seed=0)


@pytest.mark.parametrize("lesson", [ClassLesson(), ClassLesson((9, 2, 1), balanced=True)])
def test_a_batch_that_does_not_fit_goes_through_in_parts(prepared, caplog, lesson):
    _, _, views, labels, learner = prepared
    expected = train(learner(), views, labels, RECIPE, lesson=lesson, seed=0)
    small = learner()
    taught = small.taught

    def limited(*given: torch.Tensor) -> torch.Tensor:
        if len(given[0]) > 2:
            raise RuntimeError("out of memory")
        return taught(*given)

    small.taught = limited
    losses = train(small, views, labels, RECIPE, lesson=lesson, seed=0)
    assert "2 parts" in caplog.text
    assert "4 parts" in caplog.text
    # Neighbors are mixed, and never parted: the same sums, in another order.
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_memory_that_holds_not_one_pair_is_an_error(prepared):
    _, _, views, labels, learner = prepared
    small = learner()

    def never(*given: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")

    small.taught = never
    with pytest.raises(TlhubError, match="memory does not hold"):
        train(small, views, labels, RECIPE, seed=0)


def test_a_head_on_standardized_vectors_says_what_the_fitted_one_did():
    torch.manual_seed(0)
    vectors, weight, bias = torch.randn(4, 7) * 50 + 9, torch.randn(3, 7), torch.randn(3)
    head = Head(lambda v: v, weight, bias, vectors.mean(0), vectors.std(0))
    torch.testing.assert_close(head(vectors), vectors @ weight.T + bias, rtol=1e-4, atol=1e-3)
    folded = head.folded()
    torch.testing.assert_close(folded[0], weight)
    torch.testing.assert_close(folded[1], bias, rtol=1e-4, atol=1e-3)
    said = head(vectors)
    head.soften(0.25)
    mean = said.mean(0)
    torch.testing.assert_close(head(vectors), mean + 0.25 * (said - mean), rtol=1e-4, atol=1e-3)


def test_vectors_come_near_those_of_their_class_by_cosine():
    torch.manual_seed(0)
    vectors, weight, bias = torch.randn(6, 7), torch.randn(3, 7), torch.randn(3)
    prototypes = torch.randn(4, 3)
    head = Likeness(prototypes, lambda v: v, weight, bias, vectors.mean(0), vectors.std(0))
    said = vectors @ weight.T + bias
    torch.testing.assert_close(head(vectors), said, rtol=1e-4, atol=1e-4)
    cosines = functional.cosine_similarity(said[:, None], prototypes[None], dim=2)
    taught = head.taught(vectors)
    torch.testing.assert_close(taught, cosines / 0.15, rtol=1e-4, atol=1e-3)
    head.soften(0.2)
    torch.testing.assert_close(head.taught(vectors), taught)
    assert head.prototypes.requires_grad


def test_scores_are_of_the_pictures_as_they_are(prepared):
    net, _, views, _, learner = prepared
    found = learner()
    expected = found.head(net(*photos().batch(range(12), 0))[1])
    seen = scores(found, views, np.arange(12))
    torch.testing.assert_close(seen, expected.detach(), rtol=1e-2, atol=1e-2)  # kept as float16


def test_pieces_are_the_same_each_time_and_differ_from_view_to_view():
    pictures = photos(2)
    assert torch.equal(pictures.tensor(0, 3), pictures.tensor(0, 3))
    assert not torch.equal(pictures.tensor(0, 3), pictures.tensor(0, 4))
    assert pictures.tensor(1, 0).shape == (3, *SIZE)


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta"])
def test_a_network_of_texts_is_divided_whatever_their_number_and_length(name, tmp_path):
    model = tiny_texts.network(name)
    files = tiny_texts.save(model, tmp_path)
    backbone = load_backbone(files, tiny_texts.record_of(model))
    front = backbone.front
    operators = Traced(backbone.module, front.example(), front.dynamic)
    boundaries = operators.boundaries("embedding")
    assert boundaries
    assert operators.attends
    texts = ["rain", "the soup was cold and nobody seemed to care", "snow and wind"]
    expected = backbone.module(*front.tensors(front.given(texts)))[0]
    for boundary in ("", *boundaries):
        division = operators.divide(boundary, ["embedding"])
        given = Texts.of(texts, front)
        kept = Kept(given, division.lower, 1, seed=0, device=torch.device("cpu"))
        views = kept if boundary else Live(given, torch.device("cpu"))
        for some in ([0, 1, 2], [0], [2, 0]):
            (seen,) = division.upper(*views.batch(np.array(some), -1))
            torch.testing.assert_close(seen, expected[some], rtol=1e-2, atol=1e-2)
