"""Embeddings for classes to come, beside the network's own: `python -m benchmarks.embedding`.

Three kinds of classes: views of single things (each stamp cropped, turned and lit at random,
`--views` of each; a quarter of the things is new), the garments of Fashion-MNIST (100 of each; two
of the ten are new), and letters at 96 pixels (each of `--letters` in eight of the typefaces that
Debian has of DejaVu and Liberation, of a size, color and angle of its own; a quarter is new).
Printed are recall@1 and mAP@R of the new classes by the exported file with the head alone
(`--budget fast`) and as the command comes, those by the network's own embedding (`tlhub
evaluate`), and the seconds of the whole command, its baselines, report and all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import tlhub
from benchmarks.finetune.sets import DATA, debian, on_white, write
from demo import stamps
from finetuning.data.options import Options
from finetuning.finetune import METRICS
from tlhub import api
from tlhub.settings import Settings

_OF_A_CLASS = 100
_SIDE = 128
_LETTER, _TYPEFACES = 96, 8
CLASSES = ["things", "garments", "letters"]


def main() -> None:
    """Print a table, a row for each draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embedding", description=__doc__)
    parser.add_argument("--model", default="pypi/efficientnet-lite0")
    parser.add_argument("--things", type=int, default=300)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--letters", type=int, default=150)
    parser.add_argument("--classes", nargs="+", choices=CLASSES, default=CLASSES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    made: dict[str, Callable[[Path, int], Path]] = {
        "things": lambda to, seed: _views(to, arguments.things, arguments.views, seed),
        "garments": lambda to, seed: write(to, "fashion", _OF_A_CLASS, seed) / "train",
        "letters": lambda to, seed: _letters(to, arguments.letters, seed),
    }
    print(f"{'classes':10} seed {'':12}recall@1  mAP@R      s")
    for seed in arguments.seeds:
        for name in arguments.classes:
            with tempfile.TemporaryDirectory() as folder:
                data = made[name](Path(folder, "data"), seed)
                _measure(name, arguments.model, data, Path(folder, "runs"), seed)


def _measure(name: str, model: str, data: Path, out: Path, seed: int) -> None:
    options, row = Options(kind="embedding"), f"{name:10} {seed:4} "
    side = _LETTER if name == "letters" else None
    base = str(api.converted(model, Settings.load(), lambda _: None, side).path)
    for way, budget in (("head", "fast"), ("as it comes", "auto")):
        began = time.perf_counter()
        run = tlhub.finetune(base, data, out / way, options=options, seed=seed, budget=budget)
        took = time.perf_counter() - began
        metrics = json.loads((run.path / METRICS).read_bytes())
        ours = {key: item["value"] for key, item in metrics["measures"].items()}
        print(f"{row}{way:12}{_rates(ours)} {took:6.0f}   {metrics['head']}", flush=True)
    own = tlhub.evaluate(base, data, options=options, split=str(run.path)).scores.measures
    print(f"{row}{'its own':12}{_rates({key: item.value for key, item in own.items()})}")


def _rates(measures: Mapping[str, float]) -> str:
    return f"{100 * measures['recall@1']:8.1f} {100 * measures['mAP@R']:6.1f}"


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


def _letters(folder: Path, count: int, seed: int) -> Path:
    """A folder for each of so many letters, with one in each of some typefaces."""
    random = np.random.default_rng(seed)
    root = debian("fonts", "fonts-dejavu-core", "fonts-dejavu-extra", "fonts-liberation")
    fonts = [file for file in sorted(root.rglob("*.ttf")) if "Math" not in file.name]
    alphabets = (
        (0x30, 0x3A),
        (0x41, 0x5B),
        (0x61, 0x7B),
        (0xC0, 0x180),
        (0x391, 0x3CA),
        (0x410, 0x450),
    )
    known = [chr(code) for first, end in alphabets for code in range(first, end)]
    known = [letter for letter in known if unicodedata.category(letter)[0] in "LN"]
    for place in random.permutation(len(known))[:count]:
        letter = known[place]
        own = folder / f"u{ord(letter):04x}"
        own.mkdir(parents=True)
        for view, font in enumerate(random.permutation(len(fonts))[:_TYPEFACES]):
            picture = Image.new("RGB", (_LETTER, _LETTER), (255, 255, 255))
            face = ImageFont.truetype(fonts[font], int(random.integers(44, 72)))
            middle = tuple((_LETTER // 2 + random.integers(-8, 9, 2)).tolist())
            ink = tuple(random.integers(0, 120, 3).tolist())
            ImageDraw.Draw(picture).text(middle, letter, font=face, fill=ink, anchor="mm")
            turned = picture.rotate(random.uniform(-15, 15), fillcolor=(255, 255, 255))
            turned.save(own / f"{view}.png")
    return folder


if __name__ == "__main__":
    main()
