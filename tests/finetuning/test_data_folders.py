from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from catalog.errors import DataError, NotFoundError, UsageError
from finetuning.data.dataset import Skipped
from finetuning.data.reading import check_place, read
from finetuning.data.splits import split


def put(root: Path, *names: str) -> Path:
    """Files whose bytes are their own names: nothing here is decoded."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def names(root: Path, indices: tuple[int, ...]) -> list[str]:
    photos = read(root).examples
    return [photos[n].name for n in indices]


def test_classes_are_folders_and_what_is_left_out_is_named(tmp_path: Path) -> None:
    put(tmp_path, "b/1.JPG", "b/deep/er/2.png", "a/1.webp", "a/notes.txt", "a/.hidden.png")
    put(tmp_path, "stray.png", ".git/x.png", "a/__MACOSX/1.png")
    (tmp_path / "a" / "pipe.png").symlink_to("/nowhere")
    data = read(tmp_path)
    assert data.classes == ("a", "b")
    assert [(photo.name, photo.target) for photo in data.examples] == [
        ("a/1.webp", 0),
        ("b/1.JPG", 1),
        ("b/deep/er/2.png", 1),
    ]
    assert {item.name: item.reason for item in data.skipped} == {
        ".git": "hidden",
        "a/__MACOSX": "hidden",
        "stray.png": "not in a class folder",
        "a/.hidden.png": "hidden",
        "a/notes.txt": "not an image by its name",
        "a/pipe.png": "not a regular file",
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no class folders"),
        (["a/1.png", "a/2.png"], "only one class, a"),
        (["a/1.png", "b/1.txt"], "holds no images"),
        (["a/1.png", "b\nc/1.png"], "line break"),
        (["a/1.png", "b\u2028c/1.png"], "line break"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "nothing can be learned of: c"),
    ],
)
def test_unusable_folders_are_refused_with_a_next_step(
    tmp_path: Path, files: list[str], message: str
) -> None:
    put(tmp_path, *files)
    for look in (check_place, read):
        with pytest.raises(DataError, match=message) as caught:
            look(tmp_path)
        assert caught.value.hint


def test_a_missing_folder_and_a_file_are_told_apart(tmp_path: Path) -> None:
    put(tmp_path, "file")
    for look in (check_place, read):
        with pytest.raises(DataError, match="does not exist"):
            look(tmp_path / "none")
        with pytest.raises(DataError, match="is a file"):
            look(tmp_path / "file")


def test_checking_a_folder_reads_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a/1.png", "b/1.png")
    monkeypatch.delattr("pathlib.Path.open")
    check_place(tmp_path)
    with pytest.raises(AttributeError):
        read(tmp_path)


def test_file_names_that_are_no_utf8_can_be_written_down(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/1.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a/\xff.png")).write_text("x")
    data = read(tmp_path)
    assert [photo.name for photo in data.examples] == ["a/1.png", "a/\\udcff.png", "b/1.png"]


def test_the_split_is_stratified_and_every_image_is_on_one_side(tmp_path: Path) -> None:
    put(tmp_path, *(f"a/{n}.png" for n in range(40)), *(f"b/{n}.png" for n in range(3)))
    data = read(tmp_path)
    sides = split(data, seed=0, test_fraction=0.25)
    assert sorted(sides.train + sides.test) == list(range(43))
    held = [data.examples[n].target for n in sides.test]
    assert (held.count(0), held.count(1)) == (10, 1)
    assert sides == split(data, seed=0, test_fraction=0.25)
    assert sides != split(data, seed=1, test_fraction=0.25)


def test_adding_an_image_hardly_moves_the_others(tmp_path: Path) -> None:
    put(tmp_path, *(f"{c}/{n}.png" for n in range(40) for c in "ab"))
    before = set(names(tmp_path, split(read(tmp_path), seed=0, test_fraction=0.25).test))
    put(tmp_path, "a/new.png")
    after = set(names(tmp_path, split(read(tmp_path), seed=0, test_fraction=0.25).test))
    assert len(before ^ after) <= 2


def test_copies_of_an_image_stay_together(tmp_path: Path) -> None:
    put(tmp_path, *(f"a/{n}.png" for n in range(8)), "b/1.png", "b/2.png")
    for n in range(8):
        shutil.copy(tmp_path / f"a/{n}.png", tmp_path / f"a/copy {n}.png")
    data = read(tmp_path)
    for seed in range(5):
        sides = split(data, seed=seed, test_fraction=0.25)
        train, test = (
            {data.examples[n].sha256 for n in side} for side in (sides.train, sides.test)
        )
        assert not train & test


def test_a_class_of_one_image_and_its_copies_is_learned_from_alone(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    shutil.copy(tmp_path / "b/1.png", tmp_path / "b/2.png")
    sides = split(read(tmp_path), seed=0, test_fraction=0.25)
    assert names(tmp_path, sides.test) in (["a/1.png"], ["a/2.png"])
    (tmp_path / "a/2.png").unlink()
    with pytest.raises(DataError, match="can be held out: every class has only one example"):
        split(read(tmp_path), seed=0, test_fraction=0.25)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, float("nan")])
def test_a_test_fraction_lies_between_0_and_1(tmp_path: Path, fraction: float) -> None:
    put(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    with pytest.raises(UsageError):
        split(read(tmp_path), seed=0, test_fraction=fraction)


def test_an_image_in_two_classes_is_left_out_of_both(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    shutil.copy(tmp_path / "a/1.png", tmp_path / "b/other.png")
    data = read(tmp_path)
    assert [photo.name for photo in data.examples] == ["a/2.png", "b/1.png"]
    assert [item.name for item in data.skipped] == ["a/1.png", "b/other.png"]


@pytest.mark.parametrize(
    ("extra", "held"), [(["val"], "val"), (["test"], "test"), (["val", "test"], "test")]
)
def test_train_val_and_test_folders_are_honored(
    tmp_path: Path, extra: list[str], held: str
) -> None:
    put(tmp_path, "train/a/1.png", "train/b/1.png", "README.md")
    put(tmp_path, *(f"{part}/{name}/2.png" for part in extra for name in "ab"))
    sides = split(read(tmp_path), seed=0, test_fraction=0.25)
    assert sides.given
    assert names(tmp_path, sides.test) == [f"{held}/a/2.png", f"{held}/b/2.png"]
    assert len(sides.train) == 2 * len(extra)


def test_train_val_alone_are_classes(tmp_path: Path) -> None:
    assert read(put(tmp_path, "val/1.png", "test/1.png")).classes == ("test", "val")


def test_a_held_out_image_is_not_learned_from(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")
    shutil.copy(tmp_path / "test/a/1.png", tmp_path / "train/a/leak.png")
    data = read(tmp_path)
    assert data.skipped == (Skipped("train/a/leak.png", "same bytes held out: test/a/1.png"),)


def test_a_few_unreadable_images_are_left_out_and_many_are_refused(tmp_path: Path) -> None:
    put(tmp_path, *(f"a/{n}.png" for n in range(8)), "b/1.png", "b/2.png")
    data = read(tmp_path)
    broken = [Skipped(f"a/{n}.png", "is cut short") for n in range(8)]
    assert len(data.without(broken[:1]).examples) == 9
    assert data.without(broken[:1]).skipped == (broken[0],)
    with pytest.raises(DataError, match=r"3 of 10 images .* cannot be read: a/0.png"):
        data.without(broken[:3])
    with pytest.raises(DataError, match="no image of class 'b' can be read"):
        data.without([Skipped("b/1.png", ""), Skipped("b/2.png", "")])


def test_an_image_that_changes_after_it_was_read_is_not_taken_for_what_it_was(
    tmp_path: Path,
) -> None:
    data = read(put(tmp_path, "a/1.png", "b/1.png"))
    assert data.examples[0].data() == b"a/1.png"
    put(tmp_path, "a/1.png").joinpath("a/1.png").write_text("another")
    with pytest.raises(DataError, match=r"a/1\.png has changed since"):
        data.examples[0].image()
    (tmp_path / "a/1.png").unlink()
    with pytest.raises(NotFoundError, match="there is no file"):
        data.examples[0].image()
