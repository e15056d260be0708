"""Fine-tuning beside other tools, at several numbers of labelled examples.

    python -m benchmarks.finetune [--data fashion ...] [--how auto fastai ...] [--n 20 ...]
        [--seeds 3] [--peers PYTHON] [--setfit PYTHON]

Every point (data, examples a class, seed, how) is kept in `data/finetune.jsonl` when it is done: a
run that was stopped goes on where it was. Ours run the very code of `tlhub finetune`: `last` puts
a head on the embedding, `cut` where it serves best (`--budget fast`), `auto` is what the command
does, `tuned` trains the whole network in any case, `5m` is `--budget 5m`. The others are in
`peers.py`, each run by a Python that has it: `pip install torch torchvision fastai timm
transformers accelerate scikit-learn`, and `setfit` in another. All get the same weights, pictures
and input size.

Seconds are from the files to learn from to a model that is ready: not in them are our check of all
data, the test part too (a column of its own), our baselines, learning curve, report, and measuring
of the file, and the other tools' imports and evaluation. After the slash are those that the
processor worked, of all threads.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.finetune.sets import DATA, SETS, write
from converters.folder import ModelFolder
from finetuning.finetune import METRICS, finetune
from tlhub import api
from tlhub.settings import Settings

POINTS = DATA / "finetune.jsonl"
OURS: dict[str, dict[str, Any]] = {
    "last": {"cut": False, "seconds": 0.0},
    "cut": {"seconds": 0.0},
    "auto": {"seconds": None},
    "tuned": {"seconds": None, "unfreeze": "all"},
    "5m": {"seconds": 300.0},
}
PEERS = {"image": ("sklearn", "fastai", "fastai-lr-find", "trainer"), "text": ("words", "setfit")}
# What the command says as it begins a step that leads to a model, and one that does not.
_LEARNS = re.compile(r"features of \d+ (images|texts)|training the network|exporting one")
_LEARNED = re.compile(r"features of \d+ held out|baselines|learning curve|measuring|writing")


@dataclass(frozen=True)
class Point:
    """One run, by what it is of."""

    data: str
    n: int  # to learn from, of each class
    seed: int
    how: str


def main() -> None:
    """Run the points that are not there yet, and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=sorted(SETS), default=sorted(SETS))
    parser.add_argument("--how", nargs="+", default=list(OURS))
    parser.add_argument("--n", nargs="+", type=int, help="examples of each class")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--peers", help="the Python that has fastai, transformers, scikit-learn")
    parser.add_argument("--setfit", help="the Python that has setfit and scikit-learn")
    given = parser.parse_args()
    done = {Point(**item["point"]): item for item in known()}
    with tempfile.TemporaryDirectory(prefix="tlhub-") as place:
        for point in points(given):
            if point not in done:
                item = {"point": asdict(point), **measure(point, Path(place), given)}
                done[point] = item
                POINTS.parent.mkdir(exist_ok=True)
                with POINTS.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(item) + "\n")
                print(json.dumps(item), flush=True)
    print_table(list(done.values()))


def points(given: argparse.Namespace) -> Iterator[Point]:
    """What is asked for: seed by seed, the few examples first."""
    for seed in given.seeds:
        for data in given.data:
            peers = PEERS["text" if data == "reviews" else "image"]
            for n in given.n or SETS[data].sizes:
                for how in given.how:
                    if how in OURS or how in peers:
                        yield Point(data, n, seed, how)


def known() -> Iterator[dict[str, Any]]:
    """The points that are there already; the line that a kill cut short is none."""
    if POINTS.exists():
        for line in POINTS.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def measure(point: Point, place: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One run of ours or of another tool."""
    of = SETS[point.data]
    folder = write(place / f"{point.data}-{point.n}-{point.seed}", point.data, point.n, point.seed)
    base = api.converted(of.model, Settings.load(), lambda _: None, of.side)
    if point.how in OURS:
        return ours(point, base, folder, place)
    record = base.manifest.record
    python = given.setfit if point.how in PEERS["text"] else given.peers
    command = [python, str(Path(__file__).with_name("peers.py")), point.how, str(folder)]
    command += ["--base", str(base.path), "--seed", str(point.seed)]
    if record.input_size and record.preprocess and len(record.input_size) == 3:
        command += ["--arch", str(record.architecture), "--side", str(record.input_size[-1])]
        command += ["--mean", str(record.preprocess.mean[0])]
        command += ["--std", str(record.preprocess.std[0])]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def ours(point: Point, base: ModelFolder, folder: Path, place: Path) -> dict[str, Any]:
    """A run of the command's own code; each pays for its own features."""
    clock = _Clock()
    with tempfile.TemporaryDirectory(dir=place) as fresh:
        run = finetune(
            base,
            folder,
            Path(fresh, "run"),
            seed=point.seed,
            cache=Path(fresh, "features"),
            device="cpu",
            progress=clock,
            **OURS[point.how],
        )
        metrics = json.loads((run.path / METRICS).read_text(encoding="utf-8"))
        size = run.onnx.stat().st_size
    return {
        "accuracy": metrics["accuracy"],
        "seconds": clock.learning[0],
        "cpu_s": clock.learning[1],
        "reading_s": metrics["seconds"]["reading"],
        "whole_s": clock.whole(),
        "baselines": metrics["baselines"],
        "stages": metrics["stages"],
        "head": metrics["head"],
        "tuning": metrics["tuning"],
        "size_bytes": size,
    }


class _Clock:
    """Adds up what the steps take that lead to a model, as the command names them."""

    def __init__(self) -> None:
        self.learning = (0.0, 0.0)
        self._began = self._last = (time.perf_counter(), time.process_time())
        self._learns = False  # but reads and checks

    def __call__(self, said: str) -> None:
        now = (time.perf_counter(), time.process_time())
        if self._learns:
            apart = (after - before for after, before in zip(now, self._last, strict=True))
            wall, work = (sum(pair) for pair in zip(self.learning, apart, strict=True))
            self.learning = (wall, work)
        self._last = now
        if _LEARNED.match(said):
            self._learns = False
        elif _LEARNS.match(said):
            self._learns = True

    def whole(self) -> float:
        """Seconds from the first to the last step."""
        return time.perf_counter() - self._began[0]


def print_table(items: list[dict[str, Any]]) -> None:
    """Means over the seeds; differences from `auto` are paired by seed."""
    found = {Point(**item["point"]): item for item in items}
    groups: dict[tuple[str, int], dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for point in found:
        groups[point.data, point.n][point.how].append(point)
    print(
        f"{'data':<9}{'n':>4} {'how':<15}{'accuracy':>9}{'auto is better by':>19}"
        f"{'seconds':>18}{'check':>7}"
    )
    for (data, n), ways in sorted(groups.items()):
        for how, of in ways.items():
            right = statistics.mean(100 * found[point]["accuracy"] for point in of)
            auto = [found.get(Point(data, n, point.seed, "auto")) for point in of]
            apart = [
                100 * (one["accuracy"] - found[point]["accuracy"])
                for one, point in zip(auto, of, strict=True)
                if one is not None
            ]
            better = ""
            if apart and how != "auto":
                better = f"{statistics.mean(apart):+.1f}"
                if len(apart) > 1:
                    better += f" +- {statistics.stdev(apart) / len(apart) ** 0.5:.1f}"
            wall = statistics.mean(found[point]["seconds"] for point in of)
            work = statistics.mean(found[point]["cpu_s"] for point in of)
            check = statistics.mean(found[point].get("reading_s", 0.0) for point in of)
            print(
                f"{data:<9}{n:>4} {how:<15}{right:>9.1f}{better:>19}{wall:>9.1f} /{work:>7.1f}"
                f"{check:>7.1f}   {len(of)} seeds"
            )


if __name__ == "__main__":
    sys.exit(main())
