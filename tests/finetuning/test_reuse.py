"""What was trained on one set of data is trained further on another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.numpy import load_file
from tiny_texts import network, record_of, save, weather_and_food
from transformers import AutoModel

from catalog.errors import ConversionError
from converters.convert import convert
from converters.folder import MANIFEST, ModelFolder
from finetuning import cut, lineage
from finetuning.finetune import finetune
from finetuning.tuning import planning
from finetuning.tuning.training import Recipe
from hub_client.store import Store
from tests.finetuning.test_finetune import metrics_of
from tlhub import proving

Make = Callable[..., Path]
WEIGHTS = "model.safetensors"


def through(base: ModelFolder, data: Path, out: Path, **changes: Any) -> ModelFolder:
    asked = {"unfreeze": "all", "seconds": 60.0, **changes}
    return finetune(base, data, out, cache=out.parent / "cache", device="cpu", **asked)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have a training learn nothing: what it ends with is what it started from."""

    def nothing(*, steps: int, batch: int, rate: float, **rates: float) -> Recipe:
        assert rate > 0
        assert rates.keys() == {"lowest", "head_rate"}
        return Recipe(steps=steps, batch=batch, rate=0.0, head_rate=0.0, weight_decay=0.0)

    return lambda: monkeypatch.setattr(planning, "Recipe", nothing)


def check(run: ModelFolder, base: ModelFolder) -> None:
    """Graph and weights are of each other, and the manifest says what they are from."""
    assert metrics_of(run)["onnx_agreement"] == 1
    parity = proving.measure(run.path, Store(run.path / "nowhere"))
    assert parity.max_rel_diff <= parity.tolerance <= 1e-4
    said = run.manifest.run["base"]
    assert said["uid"] == base.manifest.uid == run.manifest.record.base_model
    assert said["files"] == {
        name: base.manifest.files[name].sha256
        for name in base.manifest.files
        if name == "model.onnx" or name.endswith(".safetensors")
    }


def test_a_run_is_trained_further_from_its_own_weights(
    tiny: ModelFolder, make_data: Make, tmp_path: Path, still: Callable[[], None]
) -> None:
    one = make_data({"across": 10, "down": 10})
    two = make_data({"straight": 8, "other": 8, "third": 8}, tmp_path / "two", seed=1)
    first = through(tiny, one, tmp_path / "first", cut=False)
    second = through(first, two, tmp_path / "second", cut=False)
    check(second, first)
    assert second.manifest.run["base"]["base"] == first.manifest.run["base"]
    assert "trained as a whole" in second.manifest.run["metrics"]["tuning"]
    still()
    third = through(second, one, tmp_path / "third", cut=False)
    check(third, second)
    states = [load_file(folder.path / WEIGHTS) for folder in (tiny, first, second, third)]
    for before, after in pairwise(states[:3]):
        changed = [name for name in before if not np.array_equal(before[name], after[name])]
        assert len(changed) > 20
    assert all(np.array_equal(value, states[3][name]) for name, value in states[2].items())
    # Under the names that timm has, with timm's own classifier.
    model = timm.create_model("test_efficientnet", num_classes=10).eval()
    loaded = {name: torch.from_numpy(value) for name, value in states[2].items()}
    model.load_state_dict(loaded, strict=True)
    batch = torch.randn(2, 3, 64, 64)
    beneath = lineage.load(second).module
    torch.testing.assert_close(model(batch), beneath(batch)[0])


def test_below_the_cut_of_a_new_head_there_is_a_network_to_train(
    tiny: ModelFolder, make_data: Make, tmp_path: Path, still: Callable[[], None]
) -> None:
    data = make_data({"across": 10, "down": 10, "disc": 10})
    first = finetune(tiny, data, tmp_path / "first", cache=tmp_path / "cache", device="cpu")
    check(first, tiny)
    stages = lineage.network_of(first).stages
    assert [stage.name for stage in stages] == list(metrics_of(first)["stages"])
    assert load_file(first.path / WEIGHTS).keys() == load_file(tiny.path / WEIGHTS).keys()
    still()
    second = through(first, data, tmp_path / "second", cut=False)
    check(second, first)
    assert lineage.network_of(second).stages == stages[-1:]
    assert (second.path / WEIGHTS).read_bytes() == (tiny.path / WEIGHTS).read_bytes()


def test_several_stages_side_by_side_are_trained_through_the_last(
    tiny: ModelFolder,
    make_data: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    still: Callable[[], None],
) -> None:
    chosen = cut.choose

    def two(stages: Any, *given: Any, **options: Any) -> cut.Cut:
        return replace(chosen(stages, *given, **options), stages=tuple(stages[-3:-1]))

    data = make_data({"across": 10, "down": 10, "disc": 10})
    with monkeypatch.context() as patch:
        patch.setattr(cut, "choose", two)
        first = finetune(tiny, data, tmp_path / "first", cache=tmp_path / "cache", device="cpu")
    stages = lineage.network_of(first).stages
    assert len(stages) == 2
    check(first, tiny)
    still()
    second = through(first, data, tmp_path / "second", cut=False)
    check(second, first)
    assert lineage.network_of(second).stages == stages[1:]
    judged = metrics_of(second)["tuning"]
    assert judged["attempts"][0]["loss"] == pytest.approx(judged["head_loss"], rel=0.2)


def test_a_text_encoder_is_trained_on_one_set_and_then_on_another(
    tmp_path: Path, still: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_ATTENDING", 2e-3)  # it is so small that it learns too little
    model = network("bert")
    base = convert(record_of(model), save(model, tmp_path / "source"), tmp_path / "model")
    data = weather_and_food(tmp_path / "texts.csv", 40)
    first = through(base, data, tmp_path / "first", seconds=60.0)
    second = through(first, data, tmp_path / "second", seconds=60.0)
    check(first, base)
    check(second, first)
    still()
    third = through(second, data, tmp_path / "third")
    states = [load_file(folder.path / WEIGHTS) for folder in (base, first, second, third)]
    assert any(not np.array_equal(v, states[1][name]) for name, v in states[0].items())
    assert any(not np.array_equal(v, states[2][name]) for name, v in states[1].items())
    assert all(np.array_equal(v, states[3][name]) for name, v in states[2].items())
    theirs = AutoModel.from_pretrained(second.path, add_pooling_layer=False).eval()
    given = {"input_ids": torch.tensor([[2, 5, 7, 3]]), "attention_mask": torch.ones(1, 4).long()}
    mine = lineage.load(second).module.model
    torch.testing.assert_close(
        theirs(**given).last_hidden_state, mine(**given).last_hidden_state, rtol=1e-5, atol=1e-6
    )


def test_a_run_that_does_not_say_what_its_network_is_gets_a_new_head_alone(
    run: ModelFolder, data: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(run.path, old)
    manifest = json.loads((old / MANIFEST).read_text())
    del manifest["run"]["network"]
    (old / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ConversionError, match="does not say how the network") as caught:
        through(ModelFolder.open(old), data, tmp_path / "new")
    assert "test/tiny" in str(caught.value.hint)
    folder = through(ModelFolder.open(old), data, tmp_path / "new", unfreeze="none")
    assert "network" not in folder.manifest.run
