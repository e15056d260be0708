from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from catalog.errors import DataError, StorageError
from converters.folder import ModelFolder
from finetuning.data.reading import read
from finetuning.estimate import duration
from finetuning.features import Content, Extractor, Features, extract
from finetuning.framing import framings

Make = Callable[..., Path]


class Counting:
    """An extractor that knows how often it was asked."""

    def __init__(self) -> None:
        self.opened = 0
        self.images = 0

    def open(self) -> Counting:
        self.opened += 1
        return self

    def __call__(
        self, images: Sequence[Content], vectors: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        self.images += len(images)
        assert list(vectors) == ["mean"]
        return {"mean": np.stack([np.asarray(i).mean((0, 1), np.float32) for i in images])}


def run(counting: Counting, data: Path, cache: Path) -> Features:
    extractor = Extractor({"mean": "key"}, counting.open)
    return extract(read(data).examples, {"mean": extractor}, cache, lambda _: None)


def test_a_second_run_extracts_nothing_and_a_changed_image_alone(
    make_data: Make, tmp_path: Path
) -> None:
    data, cache = make_data({"a": 5, "b": 5}), tmp_path / "cache"
    first, second, third = Counting(), Counting(), Counting()
    photos = read(data).examples
    before = run(first, data, cache).of("mean", "mean", photos)
    assert first.images == 10
    np.testing.assert_array_equal(run(second, data, cache).of("mean", "mean", photos), before)
    assert (second.opened, second.images) == (0, 0)
    (data / "a/0.png").rename(data / "a/renamed.png")
    Image.new("RGB", (9, 9)).save(data / "a/new.png")
    assert run(third, data, cache).extracted == {"mean": 1}


def test_what_a_killed_run_had_written_is_not_computed_again(
    make_data: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, cache = make_data({"a": 5, "b": 5}), tmp_path / "cache"
    monkeypatch.setattr("finetuning.features._SHARD", 3)

    class Killed(Counting):
        def __call__(
            self, images: Sequence[Content], vectors: Sequence[str]
        ) -> dict[str, NDArray[np.float32]]:
            if self.images == 7:
                raise KeyboardInterrupt
            return super().__call__(images, vectors)

    with pytest.raises(KeyboardInterrupt):
        run(Killed(), data, cache)
    after = Counting()
    run(after, data, cache)
    assert after.images == 4  # two shards of three were there


def test_a_shard_is_closed_before_it_gets_its_name(
    make_data: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows renames no open file."""
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        opened = list(Path("/proc/self/fd").iterdir())
        assert self not in [fd.readlink() for fd in opened if fd.is_symlink()]
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    run(Counting(), make_data({"a": 2, "b": 2}), tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache/key").iterdir()] == [".npz"]


def test_what_a_key_names_are_weights_library_and_device(
    tiny: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys() -> list[str]:
        return [key for way in framings(tiny, "auto") for key in way.extractor.keys.values()]

    cpu = keys()
    assert cpu == keys()
    stages = len(set(cpu)) // 2
    assert len(set(cpu)) == 2 * stages > 2
    monkeypatch.setattr("onnxruntime.__version__", "0.0")
    other_version = keys()
    monkeypatch.undo()
    monkeypatch.setattr("finetuning.framing.usable", lambda *_: "cuda")
    assert len({*cpu, *other_version, *keys()}) == 6 * stages


def test_a_damaged_cache_is_said_and_computed_again(
    make_data: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, cache = make_data({"a": 2, "b": 2}), tmp_path / "cache"
    run(Counting(), data, cache)
    [shard] = (cache / "key").glob("*.npz")
    shard.write_bytes(shard.read_bytes()[:-40])
    again = Counting()
    with caplog.at_level(logging.WARNING):
        run(again, data, cache)
    assert again.images == 4
    assert "computing again" in caplog.text


def test_unreadable_images_are_listed_with_their_reason(make_data: Make, tmp_path: Path) -> None:
    data = make_data({"a": 3, "b": 3})
    whole = (data / "a/0.png").read_bytes()
    (data / "a/0.png").write_bytes(whole[: len(whole) // 2])
    (data / "b/0.png").write_text("not a picture")
    (data / "b/1.png").write_bytes(b"")
    found = run(Counting(), data, tmp_path / "cache")
    assert [item.name for item in found.unreadable] == ["a/0.png", "b/0.png", "b/1.png"]
    assert all(item.reason and str(data) not in item.reason for item in found.unreadable)
    assert found.extracted == {"mean": 3}


def test_time_and_disk_are_told_before_most_of_the_work(
    make_data: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = read(make_data({"a": 30, "b": 30})).examples
    extractor = Extractor({"mean": "key"}, Counting().open)
    said: list[str] = []
    extract(photos, {"mean": extractor}, tmp_path / "cache", said.append)
    [line] = [text for text in said if "GB are free" in text]
    assert line.startswith("features of 43 more: ")
    assert said.index(line) == 0
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    again = Extractor({"mean": "other"}, Counting().open)
    with pytest.raises(StorageError, match="MB free, 0"):
        extract(photos, {"mean": again}, tmp_path / "cache", said.append)


def test_a_duration_is_a_range_that_people_can_read() -> None:
    assert [duration(seconds) for seconds in (0.1, 20, 600, 36000)] == [
        "1 s to 1 s", "16 s to 32 s", "8.0 min to 16 min", "8.0 h to 16 h",
    ]  # fmt: skip


def test_a_full_disk_is_said_and_what_was_kept_is_used(make_data: Make, tmp_path: Path) -> None:
    """RLIMIT_FSIZE: writing past it fails as on a full disk; a script of its own has the limit."""
    data, cache = make_data({"a": 4, "b": 4}), tmp_path / "cache"
    script = (
        "import resource, signal, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from finetuning.data.reading import read\n"
        "from finetuning.features import Extractor, extract\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "wide = lambda given, _: {'wide': np.ones((len(given), 4000), np.float32)}\n"
        "extract(read(Path(sys.argv[1])).examples, {'it': Extractor({'wide': 'wide'}, "
        "lambda: wide)}, Path(sys.argv[2]), lambda _: None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(data), str(cache)], capture_output=True, text=True
    )
    assert "StorageError: no space left to write" in done.stderr
    assert not list(cache.rglob("*.npz"))
    assert run(Counting(), data, cache).extracted == {"mean": 8}


def test_photos_that_vanish_while_features_are_computed_are_named(
    make_data: Make, tmp_path: Path
) -> None:
    photos = read(make_data({"a": 3, "b": 3})).examples
    (tmp_path / "data/b/1.png").unlink()
    extractor = Extractor({"mean": "key"}, Counting().open)
    found = extract(photos, {"mean": extractor}, tmp_path / "cache", lambda _: None)
    assert [item.name for item in found.unreadable] == ["b/1.png"]
    with pytest.raises(DataError, match=r"b/1.png could be read at first and then no longer"):
        found.of("mean", "mean", photos)
