"""What `tlhub data check` finds in real files, and what it leaves alone."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from catalog.errors import DataError
from finetuning.data import near
from finetuning.data.check import check
from finetuning.data.check_labels import alike
from finetuning.data.findings import Finding, Findings
from finetuning.data.preparing import prepare
from finetuning.data.reading import read
from finetuning.data.splits import split
from terminal import Run

PHOTOS = Path(skimage.__file__).parent / "data"
NAMES = ("chelsea", "coffee", "motorcycle_left", "rocket")


def pieces(count: int) -> list[Image.Image]:
    """Cuts of real photos, each its own."""
    found = []
    for name in NAMES:
        path = next(PHOTOS.glob(f"{name}.*"))
        photo = Image.open(path).convert("RGB").resize((480, 360))
        found += [
            photo.crop((x, y, x + 120, y + 120)) for y in (0, 120, 240) for x in (0, 120, 240, 360)
        ]
    assert count <= len(found)
    return found[:count]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes of 12 photos, nothing odd about them."""
    root = tmp_path / "data"
    for n, piece in enumerate(pieces(24)):
        folder = root / ("cup" if n % 2 else "road")
        folder.mkdir(parents=True, exist_ok=True)
        piece.save(folder / f"{n}.png")
    return root


def look(root: Path) -> dict[str, Finding]:
    return {item.code: item for item in check(read(root)).items}


def test_nothing_odd_is_found_where_nothing_is(data: Path) -> None:
    assert look(data) == {}


def test_each_odd_file_is_found_and_named(data: Path) -> None:
    road = data / "road"
    photo = [piece.transpose(Image.Transpose.ROTATE_90) for piece in pieces(40)[24:]]
    whole = (road / "0.png").read_bytes()
    (road / "cut.png").write_bytes(whole[: len(whole) // 2])
    (road / "nothing.jpg").write_bytes(b"")
    (road / "words.png").write_text("no picture")
    photo[0].save(road / "real.png", "JPEG", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo[1].save(road / "turned.jpg", exif=exif, quality=95)
    photo[2].convert("L").save(road / "gray.png")
    photo[3].convert("CMYK").save(road / "cmyk.jpg", quality=95)
    photo[4].putalpha(Image.linear_gradient("L").resize(photo[4].size))
    photo[4].save(road / "alpha.png")
    Image.new("RGB", (1, 1), "red").save(road / "one.png")
    photo[5].resize((200, 50)).save(road / "long.png")
    photo[6].save(road / "pair.jpg", "MPO", save_all=True, append_images=[photo[7]], quality=95)
    (road / "photo.heic").write_bytes(b"")
    (road / "notes.md").write_text("")
    found = look(data)
    assert {code: item.names for code, item in found.items() if code != "unreadable"} == {
        "left out": ("road/photo.heic",),
        "beside": ("road/notes.md",),
        "blank": ("road/one.png",),
        "tiny": ("road/one.png",),
        "ending": ("road/real.png",),
        "rotated": ("road/turned.jpg",),
        "gray": ("road/gray.png",),
        "cmyk": ("road/cmyk.jpg",),
        "alpha": ("road/alpha.png",),
        "long": ("road/long.png",),
    }
    assert [name.split(" ")[0] for name in found["unreadable"].names] == [
        *("road/cut.png", "road/nothing.jpg", "road/words.png")
    ]
    assert {code for code, item in found.items() if item.serious} == {
        *("left out", "unreadable", "blank", "tiny")
    }


def test_recompressed_resized_and_brighter_photos_are_near_copies(data: Path) -> None:
    for n in (0, 2, 4, 6):
        photo = Image.open(data / f"road/{n}.png")
        small = photo.resize((70, 70), Image.Resampling.LANCZOS)
        changed = {0: photo, 2: small, 4: photo.point(lambda v: min(255, round(v * 1.02)))}
        changed.get(n, photo).save(data / f"road/again {n}.jpg", quality=60)
    shutil.copy(data / "road/8.png", data / "road/exact.png")
    found = look(data)
    assert set(found) == {"copies", "near copies"}
    assert found["copies"].names == ("road/exact.png",)
    assert found["near copies"].count == 4


def test_leaks_between_the_parts_are_found_and_left_out_of_training(
    data: Path, tmp_path: Path
) -> None:
    root = tmp_path / "parts"
    for path in sorted(data.rglob("*.png")):
        part = "test" if int(path.stem) % 3 == 0 else "train"
        (root / part / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / part / path.parent.name)
    shutil.copy(root / "test/road/0.png", root / "train/road/exact.png")
    Image.open(root / "test/road/6.png").save(root / "train/road/near.jpg", quality=70)
    Image.open(root / "train/road/2.png").save(root / "train/cup/wrong.jpg", quality=70)
    found = check(read(root))
    codes = {item.code: item.names for item in found.items}
    assert codes["leak"] == ("train/road/exact.png",)
    assert codes["near leak"] == ("train/road/near.jpg",)
    assert codes["near labels"] == ("train/cup/wrong.jpg (cup) and train/road/2.png (road)",)
    names = {example.name for example in found.cleaned().examples}
    assert "train/road/near.jpg" not in names
    assert {"test/road/6.png", "train/cup/wrong.jpg"} <= names
    reasons = {item.name: item.reason for item in found.cleaned().skipped}
    assert reasons["train/road/near.jpg"] == "nearly the same held out: test/road/6.png"


def test_given_parts_of_which_cleaning_leaves_too_little_are_refused(
    data: Path, tmp_path: Path
) -> None:
    """All that a class has to learn from is a recompressed copy of what is held out."""
    parts = tmp_path / "parts"
    shutil.copytree(data, parts / "train")
    shutil.copytree(data / "road", parts / "test/road")
    shutil.rmtree(parts / "train/road")
    (parts / "train/road").mkdir()
    for file in (parts / "test/road").iterdir():
        Image.open(file).save(parts / "train/road" / f"{file.stem}.jpg", quality=92)
    shutil.copytree(data / "cup", parts / "test/cup")
    for file in sorted((parts / "test/cup").iterdir())[:6]:
        file.unlink()
        (parts / "train/cup" / file.name).touch()
    cleaned, _ = prepare(parts)
    with pytest.raises(DataError, match="learn from was left out: road"):
        split(cleaned, seed=0, test_fraction=0.25)


def test_a_tenth_of_the_images_corrupt_is_left_out_and_a_third_is_refused(data: Path) -> None:
    names = sorted(data.rglob("*.png"))
    for path in names[:2]:
        path.write_bytes(path.read_bytes()[:-100])
    cleaned, findings = prepare(data)
    assert len(cleaned.examples) == 22
    assert findings.serious
    for path in names[2:8]:
        path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 3])
    assert look(data)["unreadable"].count == 8  # found all the same
    with pytest.raises(DataError, match="8 of 24 images"):
        prepare(data)


def test_images_that_change_meanwhile_are_not_taken_for_what_they_were(data: Path) -> None:
    found = read(data)
    (data / "road/0.png").unlink()
    shutil.copy(data / "cup/1.png", data / "road/2.png")
    findings = check(found)
    assert [item.name for item in findings.unreadable] == ["road/0.png", "road/2.png"]
    assert "has changed since" in findings.unreadable[1].reason


def test_fifty_megapixels_are_looked_at(data: Path) -> None:
    Image.new("RGB", (8000, 6250), "white").save(data / "road/large.jpg", quality=30)
    Image.new("L", (9000, 9001)).save(data / "road/too large.png")
    found = look(data)
    assert found["blank"].names == ("road/large.jpg",)
    assert "road/too large.png (has 9000 x 9001 pixels" in found["unreadable"].names[0]


def test_a_hundred_thousand_images_are_compared_in_seconds() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, 100_000, np.uint64)
    pictures = random.integers(0, 256, (100_000, 768), np.uint8)
    hashes[77_777] = hashes[5] ^ np.uint64(0b1000_0000_0001_0000_0000_0010_0000_0000_0001)
    pictures[77_777] = np.clip(pictures[5].astype(int) + 2, 0, 255)
    hashes[99_999] = hashes[6]  # alike in outline, another picture
    start = time.process_time()
    assert near.clusters(hashes, pictures) == [[5, 77_777]]
    assert time.process_time() - start < 20


def test_many_images_of_like_outline_do_not_take_forever() -> None:
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (20_000, 768), np.uint8)
    start = time.process_time()
    assert near.clusters(np.zeros(20_000, np.uint64), pictures) == []
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("counts", "pairs"),
    [
        ({"cat": 9, "Cat": 9, "cats": 9, "dog": 9}, 3),
        ({"hot dog": 9, "hot-dog": 9, "hotdog": 9}, 3),
        ({"elephant": 50, "elefant": 2, "elehpant": 2}, 1),
        ({"horse": 50, "house": 50}, 0),
        ({"class 1": 50, "class 2": 1, "10": 5, "100": 5}, 0),
        ({"glass": 50, "glas": 50, "C++": 9, "C#": 9}, 0),
        ({f"name {n}": n for n in range(3000)}, 0),
    ],
)
def test_class_names_that_may_mean_the_same(counts: dict[str, int], pairs: int) -> None:
    assert len(alike(counts)) == pairs


def of_texts(root: Path, rows: list[tuple[str, object]]) -> Findings:
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    root.mkdir(exist_ok=True)
    (root / "t.jsonl").write_text("\n".join(lines))
    return check(read(root / "t.jsonl"))


def test_what_is_odd_about_texts(tmp_path: Path) -> None:
    rows: list[tuple[str, object]] = [(f"sentence number {n}", "ab"[n % 2]) for n in range(30)]
    rows += [("Sentence, number 3!", "a"), ("word " * 400, "a"), ("caf\u00c3\u00a9", "b")]
    rows += [("a<br />b", "a"), ("", "a"), ("same", "a"), ("same", "b"), ("rare", "c")]
    found = {item.code: item for item in of_texts(tmp_path / "d", rows).items}
    assert {code: item.names for code, item in found.items() if code != "guessed"} == {
        "empty": ("t.jsonl:35",),
        "two labels": ("t.jsonl:36", "t.jsonl:37"),
        "encoding": ("t.jsonl:33",),
        "near labels": ("t.jsonl:4 (b) and t.jsonl:31 (a)",),
        "single": ("c",),
        "imbalance": ("a (18)", "c (1)"),
        "long": ("t.jsonl:32",),
        "markup": ("t.jsonl:34",),
        "near copies": ("t.jsonl:31",),
    }


def test_what_is_odd_about_numbers(tmp_path: Path) -> None:
    rows: list[tuple[str, object]] = [(f"sentence {n}", n + 0.5) for n in range(30)]
    found = of_texts(tmp_path / "d", [*rows, ("far away", 1e9)])
    assert [i.names for i in found.items if i.code == "outliers"] == [
        ("t.jsonl:31 (1000000000.0)",)
    ]
    found = of_texts(tmp_path / "d", [(f"sentence {n}", 0.5) for n in range(30)])
    assert "constant" in {item.code for item in found.items}


def test_the_command_says_what_it_found(data: Path, tlhub: Run) -> None:
    done = tlhub("data", "check", data)
    assert (done.returncode, done.stderr) == (0, "")
    assert "24 images, 2 classes of 12 to 12" in done.stdout
    assert "nothing odd was found" in done.stdout
    assert tlhub("data", "check", data, "--strict").returncode == 0
    (data / "cup/\x1b[31m[bold].png").write_bytes(b"x")
    done = tlhub("data", "check", data, "--strict", "--model", "pypi/efficientnet-lite0")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "[bold].png" in done.stdout
    assert "smaller than the 224 pixels" in done.stdout
    answer = json.loads(tlhub("data", "check", data, "--json").stdout)
    assert answer["classes"] == {"cup": 13, "road": 12}
    assert [(i["code"], i["count"]) for i in answer["findings"]] == [("unreadable", 1)]
    wrong = tlhub("data", "check", data / "nothing")
    assert wrong.returncode == 1
    assert "does not exist" in wrong.stderr


def test_noise_on_a_plain_background_makes_no_other_image(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for n, piece in enumerate(pieces(48)[::6]):
        canvas = Image.new("RGB", (300, 240), (240, 240, 240))
        canvas.paste(piece.resize((70, 70)), (110, 80))
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            waves = random.normal(0, 1.5, (12, 15, 3)).repeat(20, axis=0).repeat(20, axis=1)
            noisy = np.clip(np.asarray(canvas) + waves, 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tmp_path / folder / f"{folder} {n}.jpg", quality=80)
    assert look(tmp_path)["near labels"].count >= 7  # of 8, each a pair of its own
