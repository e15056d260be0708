"""Low-rank adapters: what they are, what learns, and what is left of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import tiny_texts
import torch
from safetensors.torch import load_file

from catalog.errors import UsageError
from converters.backbone import ImageClassifier
from converters.convert import convert
from converters.folder import ModelFolder
from converters.registry import load_backbone
from finetuning.budget import rank_of
from finetuning.finetune import finetune
from finetuning.tuning import adapters, training
from finetuning.tuning.division import Division, Traced
from finetuning.tuning.learner import Head, Learner
from finetuning.tuning.texts import Texts
from finetuning.tuning.training import Recipe, train
from finetuning.tuning.views import Live
from hub_client.store import Store
from tests.finetuning.test_finetune import metrics_of
from tlhub import proving

Make = Callable[..., Path]
RECIPE = Recipe(steps=6, batch=6, rate=1e-2, weight_decay=0.0)
SENTENCES = ["rain and wind", "cold soup", "snow", "the restaurant was cold", "wind", "soup " * 9]


class Case:
    """A tiny text encoder with adapters on all of it."""

    def __init__(self, name: str, folder: Path) -> None:
        model = tiny_texts.network(name)
        files = tiny_texts.save(model, folder)
        backbone = load_backbone(files, tiny_texts.record_of(model))
        self.module, front = backbone.module, backbone.front
        self.traced = Traced(self.module, front.example(), front.dynamic)
        self.texts = Texts.of(SENTENCES, front)
        self.views = Live(self.texts, torch.device("cpu"))
        self.targets = torch.tensor([0, 1, 0, 1, 0, 1])
        self.before = copy.deepcopy(self.module.state_dict())

    def embedding(self) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = self.module(*self.texts.tensors)[0]
        return found

    def learner(self, rank: int = 4, seed: int = 0) -> tuple[Division, Learner]:
        self.module.load_state_dict(self.before)
        division = self.traced.divide("", ["embedding"])
        adapters.add(division.upper, rank, seed)
        width = self.embedding().shape[1]
        weight = torch.randn(2, width, generator=torch.Generator().manual_seed(1))
        head = Head(lambda v, *_: v, weight, torch.zeros(2), torch.zeros(width), torch.ones(width))
        return division, Learner(division.upper, head)

    def seen(self, division: Division) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = division.upper(*self.texts.tensors)[0]
        return found


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case("bert", tmp_path)


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "albert", "deberta-v2"])
def test_adapters_change_nothing_at_first_and_merged_they_are_the_network(
    name: str, tmp_path: Path
) -> None:
    case = Case(name, tmp_path)
    plain = case.embedding()
    division, learner = case.learner()
    torch.testing.assert_close(case.seen(division), plain, rtol=1e-5, atol=1e-6)
    names = set(learner.learned())
    assert names > {"head.weight", "head.bias", "upper.lora.0.down", "upper.lora.0.up"}
    assert all(n.startswith(("head.", "upper.lora.")) for n in names)
    train(learner, case.views, case.targets, RECIPE)
    after = case.module.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in case.before.items()), "frozen"
    adapted = case.seen(division)
    assert (adapted - plain).abs().max() > 1e-2 * plain.abs().max()
    adapters.merge(division.upper)
    torch.testing.assert_close(case.embedding(), adapted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(case.seen(division), adapted, rtol=1e-4, atol=1e-5)
    after = case.module.state_dict()
    changed = {key for key, value in case.before.items() if not torch.equal(value, after[key])}
    assert changed
    for key in changed:
        apart = (after[key] - case.before[key]).double()
        assert int((torch.linalg.svdvals(apart) > 1e-5 * torch.linalg.norm(apart)).sum()) <= 4, key


def test_all_linear_layers_of_attention_and_after_it_have_one(case: Case) -> None:
    division, _ = case.learner()
    found = {module.name for module in division.upper.modules()
             if isinstance(module, adapters.Adapter)}  # fmt: skip
    linear = {f"model.{name}.weight" for name, module in case.module.model.named_modules()
              if isinstance(module, torch.nn.Linear)}  # fmt: skip
    assert found == linear
    assert any("query" in name for name in found)
    assert any("intermediate" in name for name in found)


def test_a_killed_training_of_adapters_goes_on_to_the_same_bits(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    division, whole = case.learner()
    expected = train(whole, case.views, case.targets, RECIPE, seed=3)
    adapters.merge(division.upper)
    weights = copy.deepcopy(case.module.state_dict())
    monkeypatch.setattr(training, "_CHECKPOINT_S", 0.0)

    def killed(step: int, _of: int, _loss: float) -> None:
        if step == 4:
            raise KeyboardInterrupt

    file = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train(case.learner()[1], case.views, case.targets, RECIPE, seed=3, checkpoint=file,
              progress=killed)  # fmt: skip
    kept = torch.load(file, weights_only=True)["now"]["learner"]
    assert all(name.startswith(("head.", "upper.lora.")) for name in kept), "what learns is kept"
    division, again = case.learner(seed=9)
    steps: list[int] = []
    losses = train(again, case.views, case.targets, RECIPE, seed=3, checkpoint=file,
                   progress=lambda step, *_: steps.append(step))  # fmt: skip
    assert steps[0] == 4
    assert losses == expected
    adapters.merge(division.upper)
    assert all(torch.equal(v, weights[key]) for key, v in case.module.state_dict().items())


@pytest.mark.parametrize("name", ["test_vit", "swin_micro", "test_efficientnet", "test_resnet"])
def test_networks_with_attention_have_adapters_and_others_are_refused(name: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"img_size": 32} if name == "test_vit" else {}
    size = 32
    if name == "swin_micro":
        options = {"img_size": 64, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2),
                   "window_size": 4}  # fmt: skip
        size = 64
    architecture = "swin_tiny_patch4_window7_224" if name == "swin_micro" else name
    model = timm.create_model(architecture, pretrained=False, num_classes=5, **options).eval()
    head = model.default_cfg["classifier"]
    network = ImageClassifier(model, head if isinstance(head, str) else head[0])
    upper = Traced(network, (torch.zeros(2, 3, size, size),)).divide("", ["embedding"]).upper
    if "vit" in name or "swin" in name:
        adapters.add(upper, 4, 0)
        found = [m.name for m in upper.modules() if isinstance(m, adapters.Adapter)]
        assert any("qkv" in n for n in found)
        assert any("fc1" in n for n in found)
        assert not any("head" in n for n in found), "the old classifier is no part of it"
    else:
        with pytest.raises(UsageError, match="this network is none") as caught:
            adapters.add(upper, 4, 0)
        assert "--unfreeze 2" in str(caught.value.hint)


def test_a_run_by_adapters_is_a_run_like_any_other(tmp_path: Path) -> None:
    model = tiny_texts.network("bert")
    source = tiny_texts.save(model, tmp_path / "source")
    base = convert(tiny_texts.record_of(model), source, tmp_path / "model")
    data = tiny_texts.weather_and_food(tmp_path / "texts.csv", 48)

    def run(name: str, start: ModelFolder, unfreeze: str) -> ModelFolder:
        return finetune(start, data, tmp_path / name, cache=tmp_path / "cache", device="cpu",
                        unfreeze=unfreeze, seconds=600.0, cut=False)  # fmt: skip

    folder = run("run", base, "lora:2")
    metrics = metrics_of(folder)
    [attempt] = metrics["tuning"]["attempts"]
    assert attempt["rank"] == 2
    assert attempt["params"] < 3000
    assert "rank 2 (LoRA)" in metrics["tuning"]["said"]
    losses = metrics["tuning"]["losses"]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert metrics["onnx_agreement"] == 1
    proof = proving.measure(folder.path, Store(tmp_path / "store"))
    assert proof.max_rel_diff <= proof.tolerance < 1e-4
    before, after = (load_file(f.path / "model.safetensors") for f in (base, folder))
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed
    assert all(before[name].ndim == 2 and "embeddings" not in name for name in changed)
    again = run("again", folder, "lora")
    assert metrics_of(again)["tuning"]["attempts"][0]["rank"] == 8


def test_a_network_without_attention_is_refused_before_any_work(
    tiny: ModelFolder, make_data: Make, tmp_path: Path
) -> None:
    said: list[str] = []
    with pytest.raises(UsageError, match="this network is none"):
        finetune(
            tiny, make_data({"a": 6, "b": 6}), tmp_path / "run", cache=tmp_path / "cache",
            device="cpu", unfreeze="lora", seconds=20.0, progress=said.append,
        )  # fmt: skip
    assert not any("features" in text for text in said)
    assert not (tmp_path / "run").exists()


def test_a_rank_is_what_people_write() -> None:
    assert [rank_of(said) for said in ("lora", "LoRA:16", "all", "blocks.1", "2")] == [
        8,
        16,
        0,
        0,
        0,
    ]
    for wrong in ("lora:", "lora:0", "lora:many", "lora:-4", "lora:9999"):
        with pytest.raises(UsageError, match="make no sense"):
            rank_of(wrong)
