"""`tlhub features` as a process: folders, lists, layers, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage

from terminal import Run

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
