"""`tlhub features` as a process: folders, lists, layers, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage
from machine import Machine
from numpy.typing import NDArray
from PIL import Image

from converters import extraction
from converters.images import read_image
from terminal import Run
from tlhub import extracting
from tlhub.extracting import features

MODEL = "pypi/efficientnet-lite0"
PHOTOS = Path(skimage.__file__).parent / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("photos")
    (place / "inner").mkdir()
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        inner = place / "inner" if name.startswith("c") else place
        (inner / name).symlink_to(PHOTOS / name)
    (place / "broken.jpg").write_bytes(b"no photo")
    (place / "notes.txt").write_text("inner/coffee.png\nrocket.jpg\n")
    return place


@pytest.mark.index
def test_a_folder_becomes_a_table(tlhub: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.npy"
    done = tlhub("features", MODEL, folder, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["shape"] == [3, 1280]
    assert [item["input"] for item in answer["skipped"]] == ["broken.jpg"]
    names = out.with_suffix(".txt").read_text().split()
    assert names == ["inner/chelsea.png", "inner/coffee.png", "rocket.jpg"]

    listed = tmp_path / "listed.npy"
    done = tlhub("features", MODEL, folder / "notes.txt", "-o", listed, "-q")
    assert done.stdout.split() == [str(listed)], done.stderr
    np.testing.assert_allclose(np.load(listed), np.load(out)[1:], rtol=1e-4, atol=1e-4)

    done = tlhub("features", MODEL, folder, "-o", out)
    assert done.returncode == 2
    assert "exists already" in done.stderr


@pytest.mark.index
def test_a_layer_becomes_a_table(tlhub: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "layer.csv"
    done = tlhub("features", MODEL, folder, "-o", out, "--layer", "blocks.3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["3x80 float32", str(out)]
    assert "left out: broken.jpg" in done.stderr
    done = tlhub("features", MODEL, folder, "-o", tmp_path / "x.npy", "--layer", "blocks.33")
    assert done.returncode == 2
    assert "no layer 'blocks.33'" in done.stderr


@pytest.mark.parametrize(
    ("data", "out", "code", "message"),
    [
        ("nowhere", "x.npy", 3, "there is nothing at"),
        (".", "x.xlsx", 2, "ends in none of"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_is_fetched(
    tlhub: Run, tmp_path: Path, data: str, out: str, code: int, message: str
) -> None:
    done = tlhub("features", MODEL, tmp_path / data, "-o", tmp_path / out)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr


def test_a_stopped_run_is_taken_up_by_the_same_images_alone(
    stocked: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [model] = (stocked.home / "models").glob("*/model.onnx")
    photo = Image.open(PHOTOS / "coffee.png")
    for n in range(6):
        for folder, turned in (("one", 0), ("other", 90)):
            (tmp_path / folder).mkdir(exist_ok=True)
            photo.rotate(turned).crop((n, n, 90, 90)).save(tmp_path / folder / f"{n}.png")
    monkeypatch.setattr(extraction, "PART", 4)

    def stop() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(extracting, "read_image", _until(5))
            with pytest.raises(KeyboardInterrupt):
                features(model, tmp_path / "one", tmp_path / "table.npy", device="cpu", force=True)

    def rows(folder: str, out: str) -> tuple[int, NDArray[np.float32]]:
        place = tmp_path / out
        found = features(model, tmp_path / folder, place, device="cpu", force=True)
        return found.kept, np.load(place)

    stop()
    assert rows("one", "table.npy")[0] == 4
    stop()
    kept, seen = rows("other", "table.npy")
    assert kept == 0
    np.testing.assert_array_equal(seen, rows("other", "fresh.npy")[1])
    stop()
    photo.rotate(180).save(tmp_path / "one" / "2.png")
    kept, seen = rows("one", "table.npy")
    assert kept == 0
    np.testing.assert_array_equal(seen, rows("one", "fresh.npy")[1])


def _until(most: int) -> Callable[[Path], NDArray[np.uint8]]:
    """Reads so many photos, then is interrupted."""
    count = iter(range(most))

    def read(path: Path) -> NDArray[np.uint8]:
        if next(count, None) is None:
            raise KeyboardInterrupt
        return read_image(path)

    return read
