"""Who judges what was trained, and in which order ways are tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from converters.folder import ModelFolder
from finetuning.finetune import finetune
from finetuning.objectives import lessons
from finetuning.objectives.lesson import Judged
from finetuning.ranks import ALONE
from finetuning.stages import LAST, Stage
from finetuning.tuning import judging, planning, tune
from finetuning.tuning.texts import Texts
from tests.finetuning.test_finetune import metrics_of

Make = Callable[..., Path]


def task(classes: list[int], groups: list[str] | None = None) -> Any:
    return SimpleNamespace(
        truth=np.array(classes),
        groups=tuple(groups or map(str, range(len(classes)))),
        strata=[[label] for label in classes],
        ranks=ALONE,
    )


def test_parts_are_of_all_classes_and_no_example_is_in_two() -> None:
    classes = [0] * 32 + [1] * 16
    found = list(judging.parts(task(classes), seed=3))[:4]
    places = np.concatenate(found)
    assert len(np.unique(places)) == len(places) >= 46, "all but those that stay to learn from"
    for held in found[:3]:
        assert np.bincount(np.array(classes)[held]).tolist() == [8, 4]
    again = next(judging.parts(task(classes), seed=3))
    assert again.tolist() == found[0].tolist()
    assert next(judging.parts(task(classes), seed=4)).tolist() != found[0].tolist()


def test_a_group_is_in_one_part_and_where_there_is_one_only_none_judges() -> None:
    groups = [f"patient {n // 3}" for n in range(36)]
    found = list(judging.parts(task([0] * 36, groups), seed=0))
    assert len(found) > 1
    for held in found:
        of = [groups[n] for n in held]
        assert all(of.count(name) == 3 for name in of)
    assert list(judging.parts(task([0, 1, 0, 1], ["same"] * 4), seed=0)) == []
    sizes = [len(held) for held in judging.parts(task([0] * 8 + [1] * 8), seed=0)]
    assert min(sizes) * 2 >= sizes[0], "a training is not spent on a part of two"


def test_few_examples_judge_in_turn_where_there_is_time(
    tiny: ModelFolder, make_data: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data({"across": 14, "down": 14, "disc": 14})

    def run(name: str, seconds: float) -> tuple[list[str], dict[str, Any]]:
        said: list[str] = []
        folder = finetune(
            tiny, data, tmp_path / name, cache=tmp_path / "cache", device="cpu", cut=False,
            unfreeze="1", seconds=seconds, progress=said.append,
        )  # fmt: skip
        return [line for line in said if "steps" in line], metrics_of(folder)

    [said], metrics = run("long", 3000.0)
    assert ", 4 times, " in said
    [attempt] = metrics["tuning"]["attempts"]
    assert attempt["kept"]
    monkeypatch.setattr(planning, "_forward_seconds", lambda *_: 10.0)
    [said], _ = run("short", 5.0)
    assert "times" not in said


def test_time_is_told_by_texts_that_take_as_long_as_others_whatever_comes_first() -> None:
    class Timed(torch.nn.Module):
        def forward(self, ids: torch.Tensor, _mask: torch.Tensor) -> tuple[torch.Tensor]:
            seen.append(tuple(ids.shape))
            return (ids,)

    seen: list[tuple[int, ...]] = []
    lengths = np.arange(1, 101)
    for order in (
        np.argsort(lengths),
        np.argsort(-lengths),
        np.random.default_rng(0).permutation(100),
    ):
        mask = torch.from_numpy((np.arange(100) < lengths[order][:, None]).astype(np.int64))
        planning.step_seconds(Timed(), Texts((mask, mask)), torch.device("cpu"))  # type: ignore[arg-type]
    assert {*seen} == {(8, 79)}
    planning.step_seconds(Timed(), Texts((mask[:3], mask[:3])), torch.device("cpu"))  # type: ignore[arg-type]
    assert seen[-1][0] == 3


def test_where_neither_beats_the_other_the_head_of_images_stays(
    tiny: ModelFolder, make_data: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "FEWEST", 1)
    monkeypatch.setattr(Judged, "beats", lambda *_: False)
    folder = finetune(
        tiny, make_data({"across": 14, "down": 14, "disc": 14}), tmp_path / "run",
        cache=tmp_path / "cache", device="cpu", cut=False, seconds=60.0,
    )  # fmt: skip
    metrics = metrics_of(folder)
    assert metrics["tuning"]["attempts"]
    assert not any(attempt["kept"] for attempt in metrics["tuning"]["attempts"])
    assert metrics["head"] != "trained with the network"


def test_what_attends_is_trained_as_a_whole_first(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"a": 0.5, "b": 0.8}
    monkeypatch.setattr(planning, "_shares", lambda _: (shares, 1.0))
    traced: Any = SimpleNamespace(boundaries=lambda _: ("a", "b"))

    def order(*, attends: bool) -> list[str]:
        given: Any = SimpleNamespace(layers=("c",), rank=0, attends=attends)
        return list(planning.ways(traced, given, "auto"))

    assert order(attends=False) == ["b", "a", ""]
    assert order(attends=True) == ["", "a", "b"]


@pytest.mark.parametrize("alike", [True, False])
def test_what_is_another_class_in_a_mirror_is_not_mirrored(*, alike: bool) -> None:
    """Two classes are one another's mirror images, or two are the same in a mirror."""
    shapes = [[1, 0, 0, 1], [0, 1, 1, 0]] if alike else [[1, 1, 0, 0], [0, 0, 1, 1]]
    random = np.random.default_rng(0)
    rows = np.repeat(shapes, 8, axis=0) + random.normal(0, 0.05, (16, 4))
    rows = rows.astype(np.float32)
    y = np.stack([np.repeat([0, 1], 8), np.arange(16)], axis=1)
    pictures = torch.from_numpy(rows).reshape(16, 1, 1, 4)
    given: Any = SimpleNamespace(
        stages=(LAST,),
        layers=(LAST.layer,),
        device=torch.device("cpu"),
        ranks=ALONE,
        features=rows,
        truth=y,
        lesson=lessons.EmbeddingLesson.of(y),
    )
    upper = torch.nn.Sequential(torch.nn.Flatten(), _Alone())
    traced: Any = SimpleNamespace(divide=lambda *_: SimpleNamespace(upper=upper))
    photos: Any = SimpleNamespace(batch=lambda places, _: (pictures[places],))
    head = SimpleNamespace(logits=lambda x: np.asarray(x, np.float64) - 0.5)
    judge: Any = SimpleNamespace(held=np.arange(16), head=head)
    assert tune._may_mirror(given, photos, traced, judge) is alike


class _Alone(torch.nn.Module):
    """Tensors as a part of a network gives them."""

    def forward(self, tensor: torch.Tensor) -> tuple[torch.Tensor]:
        return (tensor,)


def test_stages_of_a_run_out_of_their_order_are_seen() -> None:
    layers = [SimpleNamespace(name=name) for name in ("a", "b")]
    backbone: Any = SimpleNamespace(layers=lambda: layers)
    a, b, tokens = Stage("a", "a", "maps"), Stage("b", "b", "patches"), Stage("t", "b", "patches")

    def ascends(*stages: Stage) -> bool:
        given: Any = SimpleNamespace(stages=stages, backbone=backbone)
        return bool(planning.Task.ascends.fget(given))  # type: ignore[attr-defined]

    assert ascends(a, b, LAST)
    assert ascends(b, tokens)
    assert not ascends(b, a)
    assert not ascends(b, b)
