from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import UsageError
from converters import folder as converters_folder
from converters.folder import ModelFolder
from finetuning.finetune import finetune
from finetuning.tuning import training

Make = Callable[..., Path]
Told = Callable[[str], tuple[Path, dict[str, Any]]]
CLASSES = {"across": 14, "down": 14, "disc": 14}

# A training whose length no clock decides; says when its state was written down.
SCRIPT = """
import json, sys
from pathlib import Path
from converters.folder import ModelFolder
from finetuning.data.options import Options
from finetuning.finetune import finetune
from finetuning.tuning import training

save = training.save
def said(state, good, file):
    if state.step % 5 == 0 or state.ended:
        save(state, good, file)
        print("saved", file.name, state.step, flush=True)
training.save, training._CHECKPOINT_S = said, 0.0
model, data, out, cache = map(Path, sys.argv[1:5])
finetune(ModelFolder.open(model), data, out, options=Options(**json.loads(sys.argv[6])),
         cache=cache, device="cpu", unfreeze="all",
         seconds=5000.0, resume=sys.argv[5] == "resume", command=["tlhub", "finetune"],
         progress=lambda text: print(text, flush=True))
"""


class Runs:
    """The same training again and again, each in a process of its own."""

    def __init__(self, model: Path, data: Path, folder: Path, **options: Any) -> None:
        self._model, self._data, self.folder = model, data, folder
        self._options = json.dumps(options)

    def start(self, name: str, *, resume: bool) -> subprocess.Popen[str]:
        places = [self._model, self._data, self.folder / name, self.folder / f"cache-{name}"]
        arguments = [*map(str, places), "resume" if resume else "anew"]
        arguments.append(self._options)
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def until(self, name: str, said: str, *, resume: bool) -> list[str]:
        """What it said up to there, where it is killed."""
        lines: list[str] = []
        with self.start(name, resume=resume) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.strip())
                if line.startswith(said):
                    os.kill(process.pid, signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL, lines
        return lines

    def whole(self, name: str, *, resume: bool) -> list[str]:
        """What it said to its end."""
        with self.start(name, resume=resume) as process:
            said, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        return said.splitlines()

    def weights(self, name: str) -> dict[str, bytes]:
        """The bytes of what was learned."""
        files = ("head.safetensors", "model.safetensors", "model.onnx")
        return {file: (self.folder / name / file).read_bytes() for file in files}


@pytest.fixture
def runs(tiny: ModelFolder, make_data: Make, tmp_path: Path) -> Runs:
    return Runs(tiny.path, make_data(CLASSES), tmp_path / "runs")


def same(runs: Runs) -> None:
    whole, killed = runs.weights("whole"), runs.weights("killed")
    for name in ("head.safetensors", "model.safetensors"):
        assert whole[name] == killed[name], name
    losses = [
        json.loads((runs.folder / name / "metrics.json").read_text())["tuning"]["losses"]
        for name in ("whole", "killed")
    ]
    assert losses[0] == losses[1]
    assert not [path.name for path in runs.folder.iterdir() if path.name.startswith(".")]


def test_killed_at_every_stage_it_ends_bit_for_bit_where_the_undisturbed_run_does(
    runs: Runs,
) -> None:
    runs.whole("whole", resume=False)
    runs.until("killed", "training from", resume=False)
    runs.until("killed", "saved way-0-0.pt 10", resume=True)
    said = runs.until("killed", "saved way-0-1.pt 10", resume=True)
    steps = [line for line in said if line.startswith("saved way-0")]
    assert steps[0] == "saved way-0-0.pt 15", "it went on from where it was"
    said = runs.until("killed", "training as a whole", resume=True)
    steps = [line for line in said if line.startswith("saved way-0")]
    assert steps[0] == "saved way-0-1.pt 15", "what is known, is known"
    assert {line.split()[1] for line in steps} == {f"way-0-{n}.pt" for n in (1, 2, 3)}
    said = runs.until("killed", "saved final.pt 20", resume=True)
    assert not any(line.startswith("saved way-0") for line in said)
    assert runs.until("killed", "writing the report", resume=True)
    said = runs.whole("killed", resume=True)
    assert [line for line in said if line.startswith("saved")] == [
        line for line in said if line.startswith("saved final.pt")
    ]
    same(runs)
    assert runs.whole("killed", resume=True)[-1].endswith("is finished already")


@pytest.mark.parametrize("what", ["embedding", "labels", "numbers"])
def test_killed_in_its_training_it_ends_the_same_whatever_is_learned(
    what: str, tiny: ModelFolder, told: Told, tmp_path: Path
) -> None:
    data, options = told(what)
    runs = Runs(tiny.path, data, tmp_path / "runs", **options)
    runs.whole("whole", resume=False)
    runs.until("killed", "saved way-0", resume=False)
    runs.until("killed", "saved final.pt 5", resume=True)
    runs.whole("killed", resume=True)
    same(runs)


@pytest.mark.slow
def test_killed_at_twenty_moments_it_ends_bit_for_bit_the_same(runs: Runs) -> None:
    began = time.monotonic()
    runs.whole("whole", resume=False)
    took = time.monotonic() - began
    draw = random.Random(int(os.environ.get("SEED", "1")))
    killed, wholes, begun = 0, 0, False
    while killed < 20 or begun:
        process = runs.start("killed", resume=begun)
        try:
            process.communicate(timeout=draw.uniform(0.1, 0.5) * took if killed < 20 else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
        begun = process.returncode == -signal.SIGKILL
        if not begun:
            assert process.returncode == 0
            same(runs)
            wholes += 1
            for name in ("killed", "cache-killed"):
                shutil.rmtree(runs.folder / name)
    assert killed == 20
    assert wholes > 0


@pytest.fixture
def interrupted(
    tiny: ModelFolder, make_data: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ModelFolder]:
    """A run that was interrupted in its training; and a way to ask for it again."""
    data, out = make_data(CLASSES), tmp_path / "runs" / "run"

    def call(**changes: Any) -> ModelFolder:
        request: dict[str, Any] = {
            "cache": tmp_path / "cache", "device": "cpu", "unfreeze": "all", "seconds": 5000.0,
            "command": ("tlhub", "finetune", "mine"), **changes,
        }  # fmt: skip
        return finetune(tiny, data, out, **request)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_CHECKPOINT_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(training, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            call()
    return call


def test_an_interrupted_run_is_neither_lost_nor_mixed_with_another(
    interrupted: Callable[..., ModelFolder], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="was interrupted: tlhub finetune mine") as caught:
        interrupted()
    assert "--resume" in str(caught.value.hint)
    with pytest.raises(UsageError, match="not those of the run that was interrupted"):
        interrupted(resume=True, seed=1)
    run = interrupted(replace=True, seconds=0.0)  # anew, and a head alone
    assert run.path.is_dir()
    assert [path.name for path in run.path.parent.iterdir()] == ["run"]
    with pytest.raises(UsageError, match="exists already"):
        interrupted(seconds=0.0)
    with pytest.raises(UsageError, match="finished run of something else"):
        interrupted(resume=True, seconds=0.0, seed=3)
    before = run.onnx.stat().st_mtime_ns
    assert interrupted(resume=True, seconds=0.0).onnx.stat().st_mtime_ns == before


def test_what_is_refused_is_not_left_behind_as_interrupted(
    tiny: ModelFolder, make_data: Make, tmp_path: Path
) -> None:
    data, out = make_data({"across": 4, "down": 4}), tmp_path / "runs" / "run"
    for unfreeze in ("nowhere", "elsewhere"):
        with pytest.raises(UsageError, match=unfreeze):
            finetune(tiny, data, out, cache=tmp_path / "c", unfreeze=unfreeze, seconds=60.0)
        assert not list(out.parent.iterdir())


def test_a_run_that_is_being_made_is_not_robbed_of_what_it_knows(
    interrupted: Callable[..., ModelFolder], tmp_path: Path
) -> None:
    """Its journal is forgotten only by who has the lock."""
    kept = tmp_path / "runs" / ".run.tlhub-unfinished" / "request.json"
    assert kept.is_file()
    with converters_folder._alone(tmp_path / "runs" / "run"):
        with pytest.raises(UsageError, match="being made"):
            interrupted(replace=True)
        assert kept.is_file()
    interrupted(resume=True, seconds=5000.0)


@pytest.mark.parametrize("out", [".", "nothing/.."])
def test_the_working_folder_is_no_place_for_a_run(
    out: str, tiny: ModelFolder, make_data: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data({"across": 4, "down": 4})
    (tmp_path / "here" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageError):
        finetune(tiny, data, Path(out), cache=tmp_path / "c", replace=True)
    assert (tmp_path / "here" / "mine").is_dir()
