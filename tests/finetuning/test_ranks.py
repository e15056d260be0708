from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from catalog.errors import UsageError
from converters.folder import ModelFolder
from finetuning import ranks
from finetuning.ranks import ALONE, Ranks
from finetuning.tuning.training import _partners, _portions
from terminal import TLHUB

Make = Callable[..., Path]
Told = Callable[[str], tuple[Path, dict[str, Any]]]
CLASSES = {"across": 12, "down": 12, "disc": 12}


@pytest.fixture
def run(tiny: ModelFolder, make_data: Make, tmp_path: Path) -> Any:
    """The real command on the tiny network; each run has a cache of its own."""
    photos = make_data(CLASSES, tmp_path / "photos")

    def call(name: str, *options: str, data: Path = photos) -> subprocess.CompletedProcess[str]:
        home = tmp_path / f"home-{name}"
        return subprocess.run(
            [TLHUB, "finetune", str(tiny.path), "--data", str(data), "--out",
             str(tmp_path / name), "--device", "cpu", "--json", *options],
            env={**os.environ, "TLHUB_HOME": str(home), "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return call


def test_two_processes_give_the_weights_of_one(run: Any, tiny: ModelFolder, tmp_path: Path) -> None:
    options = ("--unfreeze", "all", "--budget", "60s")
    done = [run("one", *options), run("two", *options, "--devices", "2")]
    for process in done:
        assert process.returncode == 0, process.stderr
        assert json.loads(process.stdout)["onnx"], "one process alone says what came of it"
    runs = [ModelFolder.open(tmp_path / name) for name in ("one", "two")]
    metrics = [json.loads((run.path / "metrics.json").read_text()) for run in runs]
    assert (
        metrics[0]["tuning"]["attempts"][0]["steps"] == metrics[1]["tuning"]["attempts"][0]["steps"]
    )
    for one in metrics:  # every picture once, by whichever process
        assert one["features_extracted"]["pixels"] == 36
    shards = list((tmp_path / "home-two/features").glob("*/*.npz"))
    folders = {shard.parent for shard in shards}
    assert len(shards) >= 2 * len(folders) - 1, "each process wrote shards of its own"
    assert not list((tmp_path / "home-two/features").rglob(".*"))
    before, one, two = (load_file(f.path / "model.safetensors") for f in (tiny, *runs))
    assert any(np.abs(one[name] - before[name]).max() > 1e-3 for name in one), "it learned"
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=2e-4, err_msg=name)
        if "running" in name:
            assert np.array_equal(two[name], before[name])
    heads = [load_file(run.path / "head.safetensors") for run in runs]
    for name in heads[0]:
        np.testing.assert_allclose(heads[0][name], heads[1][name], rtol=1e-3, atol=1e-3)
    losses = [one["tuning"]["losses"] for one in metrics]
    np.testing.assert_allclose(*losses, rtol=1e-2)


@pytest.mark.parametrize("what", ["embedding", "labels", "numbers"])
def test_two_processes_give_the_weights_of_one_whatever_is_learned(
    what: str, run: Any, told: Told, tmp_path: Path
) -> None:
    data, given = told(what)
    options = ["--unfreeze", "all", "--budget", "40s"]
    options += ["--kind", given["kind"]] if "kind" in given else []
    options += [word for name in given.get("labels", ()) for word in ("--label-column", name)]
    for process in (
        run("one", *options, data=data),
        run("two", *options, "--devices", "2", data=data),
    ):
        assert process.returncode == 0, process.stderr
    runs = [tmp_path / name for name in ("one", "two")]
    one, two = (json.loads((path / "metrics.json").read_text())["tuning"] for path in runs)
    assert one["attempts"][0]["steps"] == two["attempts"][0]["steps"] > 10
    np.testing.assert_allclose(one["losses"], two["losses"], rtol=1e-3)
    for file in ("model.safetensors", "head.safetensors"):
        alone, together = (load_file(path / file) for path in runs)
        for name, tensor in alone.items():
            near = 1e-5 * max(1.0, float(np.abs(tensor).max()))
            np.testing.assert_allclose(together[name], tensor, atol=near, err_msg=name)


def test_an_error_of_all_processes_is_said_once_with_its_exit_code(run: Any) -> None:
    failed = run("bad", "--devices", "2", "--unfreeze", "nowhere", "--budget", "30s")
    assert failed.returncode == 2
    [line] = failed.stderr.strip().splitlines()
    assert "nowhere" in json.loads(line)["error"]["message"]


def test_devices_that_are_not_there_are_refused(run: Any) -> None:
    failed = run("many", "--devices", "4096")
    assert failed.returncode == 2
    assert "4096 devices were asked for" in failed.stderr
    failed = run("cuda", "--devices", "2", "--device", "cuda")
    if not torch.cuda.is_available():
        assert failed.returncode == 2
        assert "0 CUDA devices" in failed.stderr
    with pytest.raises(UsageError, match="do not know of one another") as caught:
        ranks.check(1, 2, None, cuda=False)
    assert "--rendezvous" in str(caught.value.hint)


def test_more_processes_than_were_started_are_an_error() -> None:
    """Silently running one where two were asked for is accelerate#2741."""
    with (
        pytest.raises(UsageError, match="2 processes were asked for"),
        ranks.joined(2, 1, cuda=False),
    ):
        pass
    code = "from finetuning import ranks\nwith ranks.joined(3, 1, cuda=False): pass"
    started = subprocess.run(
        [sys.executable, "-c", _LAUNCH, code], capture_output=True, text=True, timeout=120
    )
    assert "3 processes were asked for, and 2 were started" in started.stderr


def test_two_nodes_find_each_other(tmp_path: Path) -> None:
    code = (
        "from finetuning import ranks\n"
        "with ranks.joined(1, 2, cuda=False) as these:\n"
        "    print(these.world, these.collected(these.rank), these.agreed(these.rank))\n"
    )
    port = _free_port()
    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", _LAUNCH_NODE, code, f"127.0.0.1:{port}"],
            stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [node.communicate(timeout=120)[0] for node in nodes]
    assert said == ["2 [0, 1] 0\n"] * 2


_LESSONS = """
import sys
import numpy as np, torch
from finetuning import ranks
from finetuning.objectives.classes import OneClass
from finetuning.objectives.labels import SeveralLabels
from finetuning.objectives.numbers import Numbers
from finetuning.tuning.learner import Head, Learner
from finetuning.tuning.training import Recipe, train

class Vectors:
    count, lengths = 13, None
    rows = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (13, 6))).float()
    def batch(self, places, step):
        return (self.rows[torch.from_numpy(places)],)

class Upper(torch.nn.Linear):
    def forward(self, rows):
        return (super().forward(rows).tanh(),)

random, names = np.random.default_rng(1), ("a", "b", "c")
kinds = [
    (OneClass(names, balanced=True), np.array([0] * 9 + [1, 1, 1, 2])),
    (SeveralLabels(names), random.integers(0, 2, (13, 3))),
    (Numbers(names), random.normal(1e3, 50, (13, 3))),
]
found = {}
with ranks.joined(None, 1, cuda=False) as these:
    for objective, y in kinds:
        torch.manual_seed(0)
        head = Head(lambda v: v, torch.randn(3, 5), torch.zeros(3), torch.zeros(5), torch.ones(5))
        learner, lesson = Learner(Upper(6, 5), head), objective.lesson(y)
        targets = torch.from_numpy(lesson.targets(y))
        losses = train(learner, Vectors(), targets, Recipe(steps=25, batch=9), lesson=lesson,
                       ranks=these)
        parameters = {n: p.detach().numpy() for n, p in learner.named_parameters()}
        found |= {f"{objective.kind} {n}": p for n, p in parameters.items()}
        found[f"{objective.kind} losses"] = np.array(losses)
    if these.first:
        np.savez(sys.argv[1], **found)
if ranks.is_one():
    ranks.end(0)
"""


def test_two_processes_learn_labels_numbers_and_balanced_classes_as_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    launch = (
        "import sys; from finetuning import ranks; "
        "sys.exit(ranks.launch(['-c', *sys.argv[1:]], 2, 1, None))"
    )
    for command in ([_LESSONS, str(one)], [launch, _LESSONS, str(two)]):
        subprocess.run([sys.executable, "-c", *command], check=True, timeout=120)
    alone, together = np.load(one), np.load(two)
    assert len(alone.files) == 3 * 5
    for name in alone.files:
        np.testing.assert_allclose(alone[name], together[name], rtol=1e-4, atol=1e-5, err_msg=name)


_LAUNCH = "import sys; from finetuning import ranks; ranks.launch(['-c', sys.argv[1]], 2, 1, None)"
_LAUNCH_NODE = (
    "import sys; from finetuning import ranks; "
    "sys.exit(ranks.launch(['-c', sys.argv[1]], 1, 2, sys.argv[2]))"
)


def _free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.mark.parametrize("count", [1, 2, 7, 16])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_batch_is_shared_without_parting_neighbors(count: int, parts: int) -> None:
    found: list[int] = []
    for rank in range(3):
        for portion in _portions(count, parts, Ranks(rank, 3)):
            partners = portion[_partners(len(portion)).numpy()]
            assert all(abs(a - b) <= 1 for a, b in zip(portion, partners, strict=True))
            found += portion.tolist()
    assert sorted(found) == list(range(count))


def test_summed_gradients_lie_in_memory_as_their_parameters_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Ranks, "sum_up", lambda _, tensor: tensor.mul_(2))
    kernels = torch.randn(8, 5, 3, 3).contiguous(memory_format=torch.channels_last)
    parameter = torch.nn.Parameter(kernels)
    parameter.grad = torch.randn(8, 5, 3, 3)
    twice = 2 * parameter.grad
    Ranks(0, 2).sum_gradients([parameter])
    assert parameter.grad.stride() == parameter.stride(), "fused AdamW would mix them up"
    assert torch.equal(parameter.grad, twice)


def test_alone_everything_is_as_it_is() -> None:
    rows = torch.arange(6).reshape(3, 2)
    assert torch.equal(ALONE.gathered(rows, 3), rows)
    assert (ALONE.agreed(4), ALONE.collected(4), list(ALONE.own(3))) == (4, [4], [0, 1, 2])
