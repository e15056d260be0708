"""Features of many inputs become one table, whole or not at all, and never twice the same work."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog.errors import DataError, UsageError
from converters import extraction, tables
from converters.images import read_image
from converters.runtime import OnnxModel


@pytest.fixture(scope="module")
def model(tiny_model):
    return OnnxModel.open(tiny_model.path, device="cpu", threads=1, layers=["blocks.2"])


@pytest.fixture
def folder(tmp_path, photos, monkeypatch) -> Path:
    monkeypatch.setattr(extraction, "PART", 4)
    place = tmp_path / "photos"
    place.mkdir()
    whole = photos["coffee.png"]
    for n in range(10):
        Image.fromarray(whole[n : n + 60, n : 90 + 3 * n]).save(place / f"{n}.png")
    (place / "7.png").write_bytes(b"no photo")
    return place


def run(model, folder, out, **options):
    names = sorted(path.name for path in folder.iterdir())
    return extraction.extract(
        model, names, lambda name: read_image(folder / name), out, key="a model", **options
    )


def expected(model, folder, layer=None):
    whole = [path for path in sorted(folder.iterdir()) if path.name != "7.png"]
    rows = [model.features(path, layer) for path in whole]
    return np.stack([row.mean((1, 2)) if row.ndim == 3 else row for row in rows])


@pytest.mark.parametrize("layer", [None, "blocks.2"])
def test_every_format_has_the_same_rows(model, folder, tmp_path, layer):
    wanted = expected(model, folder, layer)
    for ending in tables.FORMATS:
        found = run(model, folder, tmp_path / f"table{ending}", layer=layer)
        assert (found.rows, found.shape) == (9, wanted.shape[1:])
        assert [name for name, _ in found.skipped] == ["7.png"]
    seen = np.load(tmp_path / "table.npy")
    np.testing.assert_allclose(seen, wanted, rtol=1e-4, atol=1e-5)
    names = [f"{n}.png" for n in range(10) if n != 7]
    assert (tmp_path / "table.txt").read_text().split() == names
    with (tmp_path / "table.csv").open() as stream:
        header, *rows = csv.reader(stream)
    assert header[:3] == ["name", "f0", "f1"]
    assert [row[0] for row in rows] == names
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], np.float32), seen)
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "table.parquet")
    assert table["name"].to_pylist() == names
    np.testing.assert_array_equal(np.array(table["features"].to_pylist(), np.float32), seen)
    assert not list(tmp_path.glob(".*"))


def test_maps_can_be_kept(model, folder, tmp_path):
    found = run(model, folder, tmp_path / "maps.npy", layer="blocks.2", pool=False)
    maps = np.load(tmp_path / "maps.npy")
    assert maps.shape == (9, *found.shape)
    assert maps.ndim == 4
    np.testing.assert_array_equal(maps[0], model.features(folder / "0.png", "blocks.2"))


def test_a_run_that_was_stopped_is_taken_up(model, folder, tmp_path, monkeypatch):
    computed: list[str] = []

    def read(name: str):
        computed.append(name)
        if len(computed) > 6:
            raise KeyboardInterrupt
        return read_image(folder / name)

    names = [f"{n}.png" for n in range(10) if n != 7]
    out = tmp_path / "table.npy"
    with pytest.raises(KeyboardInterrupt):
        extraction.extract(model, names, read, out, key="a model")
    assert not out.exists()
    [parts] = tmp_path.glob(".table.npy.parts-*")
    assert [part.name for part in parts.iterdir()] == ["000000000000.npz"]
    shutil.copytree(parts, tmp_path / "spare")

    found = extraction.extract(model, names, lambda n: read_image(folder / n), out, key="a model")
    assert (found.rows, found.kept) == (9, 4)
    whole = np.load(out)
    np.testing.assert_allclose(whole, expected(model, folder), rtol=1e-4, atol=1e-5)

    # A part that was damaged is computed again; another model's parts are not used.
    shutil.move(tmp_path / "spare", parts)
    (parts / "000000000000.npz").write_bytes(b"torn")
    again = extraction.extract(model, names, lambda n: read_image(folder / n), out, key="a model")
    assert again.kept == 0
    np.testing.assert_array_equal(np.load(out), whole)
    assert not list(tmp_path.glob(".*"))


def test_what_is_no_data_is_said(model, tmp_path):
    (tmp_path / "photos").mkdir()
    for n in range(4):
        (tmp_path / "photos" / f"{n}.png").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"4 of 4 inputs cannot be read, the first 0\.png"):
        run(model, tmp_path / "photos", tmp_path / "table.npy")
    assert not (tmp_path / "table.npy").exists()
    with pytest.raises(UsageError, match="none of"):
        tables.check_format(tmp_path / "table.xlsx")
    with pytest.raises(UsageError, match="no output `nowhere`"):
        model.features(np.zeros((9, 9, 3), np.uint8), "nowhere")
