"""Head-only fine-tuning at several numbers of labelled examples, by strategy.

    python -m benchmarks.finetune [--model pypi/efficientnet-lite0] [--data digits ...] [--only ...]

Every point (data, examples a class, seed, strategy) is one run of the very code of
`tlhub finetune`, kept in `data/finetune.jsonl` when it is done: a run that was stopped goes on
where it was. `last` puts the head on the embedding, `cut` where it serves best; `auto` is what the
command does, and today the same as `cut`. Seconds are of fitting (features, framing, cut, head)
and, after the slash, of the whole run with baselines, learning curve, and report.

Data: scikit-learn's digits; Fashion-MNIST from Debian's package (apt-get download, no root); the
stamps of Tux Paint (`demo/stamps.py`). What is held out is the same at every point.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from converters.folder import ModelFolder
from demo import stamps
from finetuning.finetune import METRICS, finetune
from tlhub import api
from tlhub.settings import Settings

POINTS = Path("data", "finetune.jsonl")
STRATEGIES = {"last": {"cut": False}, "cut": {"cut": True}, "auto": {}}
SIZES = {"digits": (5, 20), "fashion": (5, 20, 100), "stamps": (10,)}
SEEDS = (0, 1, 2)
HELD_OUT = 1000  # images; one standard error is about a point
PACKAGE = "dataset-fashion-mnist"

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Point:
    """One run, by what it is of."""

    model: str
    data: str
    n: int  # to learn from, of each class
    seed: int
    strategy: str


def main() -> None:
    """Run the points that are not there yet, and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pypi/efficientnet-lite0")
    parser.add_argument("--data", nargs="+", choices=sorted(SIZES), default=sorted(SIZES))
    parser.add_argument("--only", nargs="+", choices=sorted(STRATEGIES), default=["last", "cut"])
    parser.add_argument("--n", nargs="+", type=int, help="examples of each class")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    given = parser.parse_args()
    base = api.converted(given.model, Settings.load(), lambda _: None)
    done = {Point(**item["point"]): item for item in known()}
    with tempfile.TemporaryDirectory(prefix="tlhub-") as place:
        for data in given.data:
            for n in given.n or SIZES[data]:
                for seed in SEEDS[: given.seeds]:
                    for strategy in given.only:
                        point = Point(given.model, data, n, seed, strategy)
                        if point not in done:
                            done[point] = measure(point, base, Path(place))
    print_table(list(done.values()))


def known() -> Iterator[dict]:
    """The points that are there already; the line that a kill cut short is none."""
    if POINTS.exists():
        for line in POINTS.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def measure(point: Point, base: ModelFolder, place: Path) -> dict:
    """One run, appended to the file."""
    folder = place / f"{point.data}-{point.n}-{point.seed}"
    if not folder.exists():
        write(folder, point)
    began = time.perf_counter()
    run = finetune(
        base,
        folder,
        place / "run",
        seed=point.seed,
        cache=place / f"features-{point.strategy}",  # each point pays for its own features
        device="cpu",
        replace=True,
        **STRATEGIES[point.strategy],
    )
    metrics = json.loads((run.path / METRICS).read_text(encoding="utf-8"))
    item = {
        "point": asdict(point),
        "accuracy": metrics["accuracy"],
        "baselines": metrics["baselines"],
        "stages": metrics["stages"],
        "head": metrics["head"],
        "size_bytes": run.onnx.stat().st_size,
        "fitting_s": metrics["seconds"]["fitting"],
        "seconds": round(time.perf_counter() - began, 2),
    }
    POINTS.parent.mkdir(exist_ok=True)
    with POINTS.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(item) + "\n")
    print(json.dumps(item), flush=True)
    return item


def write(folder: Path, point: Point) -> None:
    """The images of a point as a folder with its own split."""
    images, labels, names = load(point.data)
    order = np.random.default_rng(99).permutation(len(labels))
    held = order[: min(HELD_OUT, len(order) // 3)]
    rest = np.random.default_rng(point.seed).permutation(order[len(held) :])
    taken = [rest[labels[rest] == label][: point.n] for label in range(len(names))]
    for part, places in (("train", np.concatenate(taken)), ("test", held)):
        for number in places:
            file = folder / part / names[labels[number]] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number]).save(file)


def load(data: str) -> tuple[list[Images], Labels, list[str]]:
    """All images of a data set, their classes, and the names of these."""
    if data == "digits":
        found = load_digits()
        pictures = [np.clip(picture * 16, 0, 255).astype(np.uint8) for picture in found.images]
        return pictures, found.target.astype(np.int64), [str(n) for n in range(10)]
    if data == "fashion":
        folder = fashion(Path("data", "fashion-mnist"))
        pixels = idx(next(folder.rglob("t10k-images*")), 16).reshape(-1, 28, 28)
        more = idx(next(folder.rglob("train-images*")), 16).reshape(-1, 28, 28)[:10_000]
        labels = [idx(next(folder.rglob(f"{part}-labels*")), 8) for part in ("t10k", "train")]
        known_ = np.concatenate([labels[0], labels[1][:10_000]]).astype(np.int64)
        return [*pixels, *more], known_, [f"class {n}" for n in range(10)]
    photos = stamps.provide(Path("data", "stamps"))
    files = sorted(photos.glob("*/*.png"))
    names = sorted({file.parent.name for file in files})
    whole = [np.asarray(Image.open(file).convert("RGBA")) for file in files]
    return whole, np.array([names.index(file.parent.name) for file in files], np.int64), names


def fashion(folder: Path) -> Path:
    """Fashion-MNIST as Debian has it, unpacked."""
    if not folder.exists():
        with tempfile.TemporaryDirectory() as place:
            subprocess.run(["apt-get", "download", "-qq", PACKAGE], cwd=place, check=True)  # noqa: S607
            package = next(Path(place).glob("*.deb"))
            subprocess.run(["dpkg", "-x", package, folder.absolute()], check=True)  # noqa: S607
    return folder


def idx(file: Path, header: int) -> Images:
    """The bytes of an IDX file behind its header."""
    return np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=header)


def print_table(items: list[dict]) -> None:
    """Means over the seeds: accuracy, its standard error of the draws, size, seconds."""
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for item in items:
        point = item["point"]
        groups[point["data"], point["n"], point["strategy"]].append(item)
    print(f"{'data':<9}{'n':>4} {'strategy':<9}{'accuracy':>9}{'+-':>5}{'MB':>7}{'seconds':>14}")
    for (data, n, strategy), found in sorted(groups.items()):
        right = [100 * item["accuracy"] for item in found]
        error = statistics.stdev(right) / len(right) ** 0.5 if len(right) > 1 else 0.0
        size = statistics.mean(item["size_bytes"] for item in found) / 1e6
        fitting = statistics.mean(item["fitting_s"] for item in found)
        whole = statistics.mean(item["seconds"] for item in found)
        print(
            f"{data:<9}{n:>4} {strategy:<9}{statistics.mean(right):>9.1f}{error:>5.1f}{size:>7.1f}"
            f"{fitting:>7.1f} /{whole:>5.1f}"
        )


if __name__ == "__main__":
    main()
