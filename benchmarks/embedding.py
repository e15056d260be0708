"""Embeddings for classes to come, beside the network's own: `python -m benchmarks.embedding`.

Two kinds of classes, made of what `benchmarks.finetune` has: views of single things (each stamp
cropped, turned and lit at random, `--views` of each; a quarter of the things is new), and the
garments of Fashion-MNIST (100 of each; two of the ten are new). Printed are recall@1 and mAP@R
of the new classes by the exported file, those of the network's own embedding on the same pictures
by `tlhub evaluate`, and the seconds of the whole command, its baselines, report and all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import tlhub
from benchmarks.finetune.sets import DATA, on_white, write
from demo import stamps
from finetuning.data.options import Options
from finetuning.finetune import METRICS

_OF_A_CLASS = 100
_SIDE = 128


def main() -> None:
    """Print a table, a row for each draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embedding", description=__doc__)
    parser.add_argument("--model", default="pypi/efficientnet-lite0")
    parser.add_argument("--things", type=int, default=300)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    print(f"{'classes':10} seed  recall@1: own   ours   mAP@R: own   ours      s")
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            views = _views(Path(folder, "views"), arguments.things, arguments.views, seed)
            garments = write(Path(folder, "garments"), "fashion", _OF_A_CLASS, seed) / "train"
            for name, data in (("things", views), ("garments", garments)):
                _measure(name, arguments.model, data, Path(folder, f"run-{name}"), seed)


def _measure(name: str, model: str, data: Path, out: Path, seed: int) -> None:
    options = Options(kind="embedding")
    began = time.perf_counter()
    run = tlhub.finetune(model, data, out, options=options, seed=seed)
    took = time.perf_counter() - began
    ours = json.loads((run.path / METRICS).read_bytes())["measures"]
    own = tlhub.evaluate(model, data, options=options, split=str(out)).scores.measures
    recall, precision = (
        (100 * own[key].value, 100 * ours[key]["value"]) for key in ("recall@1", "mAP@R")
    )
    print(
        f"{name:10} {seed:4}  {recall[0]:13.1f} {recall[1]:6.1f}   {precision[0]:10.1f} "
        f"{precision[1]:6.1f} {took:6.0f}",
        flush=True,
    )


def _views(folder: Path, things: int, views: int, seed: int) -> Path:
    """A folder for each thing, with so many pictures of it."""
    random = np.random.default_rng(seed)
    files = sorted(stamps.provide(DATA / "stamps").glob("*/*.png"))[:things]
    for number, file in enumerate(files):
        place = folder / f"{number} {file.stem}"
        place.mkdir(parents=True)
        thing = on_white(file)
        for view in range(views):
            height, width = (random.uniform(0.5, 0.9, 2) * thing.shape[:2]).astype(int)
            top = random.integers(0, thing.shape[0] - height + 1)
            left = random.integers(0, thing.shape[1] - width + 1)
            picture = Image.fromarray(thing[top : top + height, left : left + width])
            turned = picture.rotate(random.uniform(-30, 30), fillcolor=(255, 255, 255))
            pixels = np.asarray(turned.resize((_SIDE, _SIDE)), np.float64)
            lit = np.clip(pixels * random.uniform(0.6, 1.2), 0, 255).astype(np.uint8)
            Image.fromarray(lit).save(place / f"{view}.png")
    return folder


if __name__ == "__main__":
    main()
