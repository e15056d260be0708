"""Every form of labelled data gives the same examples."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from catalog.errors import DataError, TlhubError, UsageError
from finetuning.data.check import check
from finetuning.data.dataset import Dataset
from finetuning.data.options import Options
from finetuning.data.reading import check_place, read


def png(seed: int, size: int = 12) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


NAMES = [f"{label}/{n}.png" for label in ("cat", "dög \U0001f415") for n in range(3)]
IMAGES = {name: png(seed) for seed, name in enumerate(NAMES)}


def put(root: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def table(rows: list[list[Any]], **dialect: Any) -> str:
    stream = io.StringIO()
    csv.writer(stream, **dialect).writerows(rows)
    return stream.getvalue()


def tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def rows() -> list[list[str]]:
    return [["file", "label"], *([name, name.split("/")[0]] for name in NAMES)]


def folder(root: Path) -> Path:
    return put(root / "photos", IMAGES)


def archive(form: str) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        put(root / "all/photos", IMAGES)
        return Path(shutil.make_archive(str(root / "photos"), form, root / "all", "photos"))

    return make


def csv_beside(root: Path) -> Path:
    put(root, IMAGES)
    return put(root, {"list.csv": table(rows())}) / "list.csv"


def semicolons_in_utf16(root: Path) -> Path:
    put(root, IMAGES)
    text = table([[cell.replace("/", "\\") for cell in row] for row in rows()], delimiter=";")
    return put(root, {"list.csv": text.encode("utf-16")}) / "list.csv"


def without_a_header(root: Path) -> Path:
    put(root, IMAGES)
    return put(root, {"list.tsv": table(rows()[1:], delimiter="\t")}) / "list.tsv"


def json_lines(root: Path) -> Path:
    put(root, IMAGES)
    lines = [json.dumps({"image": name, "category": name.split("/")[0]}) for name in NAMES]
    return put(root, {"list.jsonl": "\n".join(lines)}) / "list.jsonl"


def by_stem(root: Path) -> Path:
    """As Kaggle has it: ids in a table, the images somewhere below."""
    put(root / "images", {f"id{n}.png": data for n, data in enumerate(IMAGES.values())})
    lines = [["image", "label"], *([f"id{n}", row[1]] for n, row in enumerate(rows()[1:]))]
    return put(root, {"list.csv": table(lines)}) / "list.csv"


def a_folder_with_a_table(root: Path) -> Path:
    put(root / "d/files", {str(n) + ".png": data for n, data in enumerate(IMAGES.values())})
    lines = [["file_name", "label"], *([f"files/{n}.png", r[1]] for n, r in enumerate(rows()[1:]))]
    return put(root / "d", {"metadata.csv": table(lines)})


def a_zip_with_a_table(root: Path) -> Path:
    a_folder_with_a_table(root)
    return Path(shutil.make_archive(str(root / "d"), "zip", root, "d"))


def parquet_bytes(root: Path) -> Path:
    images = [{"bytes": data, "path": name} for name, data in IMAGES.items()]
    columns = {"image": images, "label": [name.split("/")[0] for name in NAMES]}
    parquet.write_table(pa.table(columns), root / "t.parquet", row_group_size=2)
    return root / "t.parquet"


def parquet_of_a_hub(root: Path) -> Path:
    """As `datasets` pushes them: a part a file, the names of the classes in the schema."""
    features = {"label": {"names": ["cat", "dög \U0001f415", "none"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    columns = {"image": list(IMAGES.values()), "label": [0, 0, 0, 1, 1, 1]}
    (root / "d/data").mkdir(parents=True)
    whole = pa.table(columns).replace_schema_metadata(metadata)
    for n in range(2):
        part = whole.slice(3 * n, 3)
        parquet.write_table(part, root / f"d/data/train-0000{n}-of-00002.parquet")
    return root / "d"


def stream(path: Path, part: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, part.schema) as writer:
        writer.write_table(part)


def saved(root: Path) -> Path:
    """What `datasets` 5.2 writes with `save_to_disk`."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dög \U0001f415"], "_type": "ClassLabel"},
    }
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = pa.array([{"bytes": data, "path": None} for data in IMAGES.values()], kind)
    whole = pa.table({"image": images, "label": [0, 0, 0, 1, 1, 1]})
    files = [f"data-0000{n}-of-00002.arrow" for n in range(2)]
    state = {"_data_files": [{"filename": name} for name in files]}
    put(root / "d", {"state.json": json.dumps(state)})
    put(root / "d", {"dataset_info.json": json.dumps({"features": features})})
    for n, name in enumerate(files):
        stream(root / "d" / name, whole.slice(4 * n, 4))
    return root / "d"


def shards(root: Path) -> Path:
    for n in range(2):
        part = {}
        for i in range(3):
            name = NAMES[3 * n + i]
            part[f"{n}/{i}.png"] = IMAGES[name]
            part[f"{n}/{i}.cls"] = name.split("/")[0].encode()
        tar(root / f"shard-{n:03d}.tar", part)
    return root / "shard-{000..001}.tar"


def a_shard_with_json(root: Path) -> Path:
    part = {}
    for n, (name, data) in enumerate(IMAGES.items()):
        part[f"{n}.png"] = data
        part[f"{n}.json"] = json.dumps({"label": name.split("/")[0], "video": f"v{n}"}).encode()
    return tar(root / "shard.tar.gz", part, "w:gz")


FORMS = [
    folder,
    *(archive(form) for form in ("zip", "tar", "gztar", "xztar")),
    csv_beside,
    semicolons_in_utf16,
    without_a_header,
    json_lines,
    by_stem,
    a_folder_with_a_table,
    a_zip_with_a_table,
    parquet_bytes,
    parquet_of_a_hub,
    saved,
    shards,
    a_shard_with_json,
]


@pytest.mark.parametrize("make", FORMS, ids=lambda make: make.__name__)
def test_every_form_gives_the_same_images(make: Callable[[Path], Path], tmp_path: Path) -> None:
    place = make(tmp_path)
    check_place(place)
    data = read(place)
    assert (data.kind, data.modality) == ("classification", "image")
    assert data.classes == ("cat", "dög \U0001f415")
    assert [example.target for example in data.examples] == [0, 0, 0, 1, 1, 1]
    assert [example.data() for example in data.examples] == list(IMAGES.values())
    assert data.examples[0].image().shape == (12, 12, 3)
    assert len({example.name for example in data.examples}) == 6


def of_table(tmp_path: Path, lines: list[list[Any]], options: Options | None = None) -> Dataset:
    place = put(tmp_path, {"t.csv": table(lines)}) / "t.csv"
    return read(place, options)


def texts(*labels: Any) -> list[list[Any]]:
    return [[f"some text, number {n}", label] for n, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        (["b", "a", " b ", "a"], "classification", ("a", "b")),
        (["0", "1", "10", "2"] * 8, "classification", ("0", "1", "2", "10")),
        (["1", "2", "3.0", "4"] * 8, "classification", ("1", "2", "3", "4")),
        ([n % 100 for n in range(300)], "classification", tuple(map(str, range(100)))),
        ([n * n for n in range(40)], "regression", ()),
        (["0.5", "1", "2", "1e3"], "regression", ()),
        (["a|b", "b", "a", "b | c"], "multi-label", ("a", "b", "c")),
        (["a, b", "a", "b", "b,c", "c"], "multi-label", ("a", "b", "c")),
        (
            ["bird, black", "bird, red", "cat"],
            "classification",
            ("bird, black", "bird, red", "cat"),
        ),
        (["a/b", '"c"', "\U0001f600", "a/b"], "classification", ('"c"', "a/b", "\U0001f600")),
    ],
)
def test_what_labels_are_is_seen(
    tmp_path: Path, labels: list[Any], kind: str, classes: tuple[str, ...]
) -> None:
    data = of_table(tmp_path, [["text", "label"], *texts(*labels)])
    assert (data.kind, data.classes) == (kind, classes)


def test_what_labels_are_can_be_said(tmp_path: Path) -> None:
    lines = [["text", "label"], *texts("1", "2", "3", "1")]
    assert of_table(tmp_path, lines, Options(kind="regression")).examples[2].target == (3.0,)
    lines = [["text", "label"], *texts("0.5", "1.5", "0.5")]
    assert of_table(tmp_path, lines, Options(kind="classification")).classes == ("0.5", "1.5")
    lines = [["text", "label"], *texts("a", "b", "a;b")]
    assert of_table(tmp_path, lines, Options(kind="multi-label")).examples[2].target == (0, 1)
    with pytest.raises(DataError, match="are no numbers: a, b"):
        of_table(tmp_path, lines, Options(kind="regression"))


def test_several_columns_are_several_labels(tmp_path: Path) -> None:
    lines = [["text", "red", "round"], *([f"a text {n}", n % 2, n // 2 % 2] for n in range(4))]
    data = of_table(tmp_path, lines)
    assert (data.kind, data.classes) == ("multi-label", ("red", "round"))
    assert [example.target for example in data.examples] == [(), (0,), (1,), (0, 1)]
    lines = [["text", "l1", "l2"], ["a text", "x", ""], ["b text", "y", "x"], ["c text", "", ""]]
    data = of_table(tmp_path, lines, Options(labels=("l1", "l2")))
    assert [example.target for example in data.examples] == [(0,), (0, 1), ()]


def test_several_columns_of_numbers_are_learned_together(tmp_path: Path) -> None:
    lines = [["text", "l1", "l2"], ["a text", "1.5", "2"], ["b text", "2", "7"], ["c text", "", 1]]
    data = of_table(tmp_path, lines, Options(labels=("l1", "l2")))
    assert (data.kind, data.classes, data.numbers) == ("regression", (), ("l1", "l2"))
    assert [example.target for example in data.examples] == [(1.5, 2.0), (2.0, 7.0)]
    assert [item.reason for item in data.skipped] == ["has no label"]
    lines = [["text", "low", "high"], ["a text", "0", "1"], ["b text", "1", "0"]]
    data = of_table(tmp_path, lines, Options(labels=("low", "high"), kind="regression"))
    assert data.examples[0].target == (0.0, 1.0)
    lines[1][1] = "none"
    with pytest.raises(DataError, match="are no numbers: none"):
        of_table(tmp_path, lines, Options(labels=("low", "high"), kind="regression"))


def test_columns_that_were_guessed_are_said_and_can_be_named(tmp_path: Path) -> None:
    lines = [["id", "title", "body", "kind", "patient"]]
    lines += [[str(n), f"t{n}", f"a long text {n}", "ab"[n % 2], f"p{n // 2}"] for n in range(6)]
    with pytest.raises(DataError, match=r"which column of t\.csv is the label") as caught:
        of_table(tmp_path, lines)
    assert "--label-column" in (caught.value.hint or "")
    data = of_table(tmp_path, lines, Options(labels=("kind",)))
    assert data.notes[0] == "column 'body' was taken for the texts"
    assert "--group-column patient" in data.notes[1]
    data = of_table(tmp_path, lines, Options(text="title", labels=("kind",), group="patient"))
    assert data.notes == ()
    assert [(e.text, e.group) for e in data.examples[:3]] == [
        ("t0", "p0"),
        ("t1", "p0"),
        ("t2", "p1"),
    ]
    with pytest.raises(UsageError, match="no column 'patiant'") as wrong:
        of_table(tmp_path, lines, Options(labels=("kind",), group="patiant"))
    assert wrong.value.hint == "did you mean 'patient'?"


def test_a_column_can_say_what_is_held_out(tmp_path: Path) -> None:
    lines = [["text", "label", "split"]]
    lines += [[f"t {n}", "ab"[n % 2], "train" if n < 4 else "test"] for n in range(6)]
    data = of_table(tmp_path, lines)
    assert [example.part for example in data.examples] == ["train"] * 4 + ["test"] * 2
    lines[-1][1] = "c"
    with pytest.raises(DataError, match="nothing can be learned of: c"):
        of_table(tmp_path, lines)


def test_rows_of_an_unknown_part_are_left_out_by_name(tmp_path: Path) -> None:
    lines = [["text", "label", "split"]]
    parts = ("train", "train", "train", "train", "test", "test", "extra")
    lines += [[f"t {n}", "ab"[n % 2], part] for n, part in enumerate(parts)]
    data = of_table(tmp_path, lines)
    assert len(data.examples) == 6
    assert [(item.name, item.reason) for item in data.skipped] == [
        ("t.csv:7", "is in no part: extra")
    ]
    assert [item.code for item in check(data).items if item.serious] == ["in no part", "few"]


def test_a_text_with_half_a_character_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(6)]
    lines = [*map(json.dumps, rows), r'{"text": "great \ud83d", "label": "a"}']
    file.write_text("\n".join(lines))
    data = read(file)
    assert len(data.examples) == 6
    [left_out] = data.skipped
    assert "no Unicode" in left_out.reason


def test_rows_that_cannot_be_used_are_left_out_by_name(tmp_path: Path) -> None:
    lines = [["text", "label"], *texts("a", "b", "a", "b"), ["", "a"], ["no label", ""], ["x"]]
    lines += [["two", "a", "b"], ["twice", "a"], ["twice", "b"]]
    data = of_table(tmp_path, lines)
    assert len(data.examples) == 4
    assert {item.name: item.reason for item in data.skipped} == {
        "t.csv:5": "is an empty text",
        "t.csv:6": "has no label",
        "t.csv:7": "has 1 fields and not 2",
        "t.csv:8": "has 3 fields and not 2",
        "t.csv:9": "same bytes in another class: t.csv:10",
        "t.csv:10": "same bytes in another class: t.csv:9",
    }


def test_files_that_are_not_there_are_left_out_and_none_is_refused(tmp_path: Path) -> None:
    put(tmp_path, IMAGES)
    lines = [*rows(), ["gone.png", "cat"], ["../../../nowhere.png", "cat"]]
    data = of_table(tmp_path, lines)
    assert [item.reason for item in data.skipped] == [
        "no file: gone.png",
        "no file: ../../../nowhere.png",
    ]
    [found] = [item for item in check(data).items if item.code == "missing"]
    assert found.count == 2
    with pytest.raises(DataError, match=r"\d+ of the \d+ files that t\.csv names are not there"):
        of_table(tmp_path, [*lines, *([f"gone {n}.png", "cat"] for n in range(9))])
    with pytest.raises(DataError, match=r"none of the files that t\.csv names is there"):
        of_table(tmp_path, [["file", "label"], ["x.png", "a"], ["y.png", "b"]])


def test_text_folders_and_odd_encodings(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {f"{c}/{n}.txt": f"{c} text {n}" for c in "ab" for n in "12"}
    files["a/latin.txt"] = "café".encode("cp1252")
    files["a/utf16.txt"] = "naïve".encode("utf-16")
    files["b/bytes.txt"] = b"\x00\x01\x02"
    data = read(put(tmp_path, files))
    assert (data.kind, data.modality, data.classes) == ("classification", "text", ("a", "b"))
    found = {example.name: example.text for example in data.examples}
    assert (found["a/latin.txt"], found["a/utf16.txt"]) == ("café", "naïve")
    assert [item.name for item in data.skipped] == ["b/bytes.txt"]
    assert [note.split(" ")[0] for note in data.notes] == ["a/latin.txt", "a/utf16.txt"]


def test_an_archive_beside_class_folders_is_no_shard(tmp_path: Path) -> None:
    place = archive("tar")(tmp_path)
    put(tmp_path / "d", IMAGES)
    place.rename(tmp_path / "d/backup.tar")
    assert [example.data() for example in read(tmp_path / "d").examples] == list(IMAGES.values())


def test_shards_say_by_their_names_what_is_held_out(tmp_path: Path) -> None:
    for part, seeds in (("train", range(4)), ("test", range(4, 6))):
        members = {f"{n}.png": png(n) for n in seeds} | {f"{n}.cls": b"%d" % (n % 2) for n in seeds}
        members["lonely.cls"] = b"1"
        tar(tmp_path / f"{part}-0.tar", members)
    data = read(tmp_path)
    assert [example.part for example in data.examples] == ["test"] * 2 + ["train"] * 4
    assert {item.name for item in data.skipped} == {"train-0.tar/lonely", "test-0.tar/lonely"}
    with pytest.raises(DataError, match="2 of 3 shards are missing"):
        read(tmp_path / "train-{0..2}.tar")


def test_a_saved_data_set_of_parts_and_of_several_labels(tmp_path: Path) -> None:
    features = {
        "labels": {"feature": {"names": ["a", "b"], "_type": "ClassLabel"}, "_type": "List"}
    }
    for part, count in (("train", 4), ("test", 2)):
        put(tmp_path / part, {"state.json": '{"_data_files": [{"filename": "d.arrow"}]}'})
        put(tmp_path / part, {"dataset_info.json": json.dumps({"features": features})})
        columns = {
            "text": [f"{part} text {n}" for n in range(count)],
            "labels": [[], [0], [1], [0, 1]][:count],
        }
        whole = pa.table(columns)
        stream(tmp_path / part / "d.arrow", whole)
    put(tmp_path, {"dataset_dict.json": '{"splits": ["train", "test"]}'})
    data = read(tmp_path)
    assert (data.kind, data.modality, data.classes) == ("multi-label", "text", ("a", "b"))
    assert [example.target for example in data.examples] == [(), (0,), (1,), (0, 1), (), (0,)]
    assert [example.part for example in data.examples] == ["train"] * 4 + ["test"] * 2
    put(tmp_path / "test", {"state.json": '{"_data_files": [{"filename": "../train/d.arrow"}]}'})
    with pytest.raises(DataError, match="names no Arrow files in its folder"):
        read(tmp_path)


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = parquet_bytes(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="pyarrow, which is not installed") as caught:
        read(place)
    assert "tlhub[parquet]" in (caught.value.hint or "")


@pytest.mark.parametrize("make", [parquet_bytes, saved, shards, archive("zip"), archive("gztar")])
@pytest.mark.parametrize("keep", [0, 0.3, 0.7, 0.99])
def test_what_is_cut_short_is_an_error_of_ours(
    make: Callable[[Path], Path], keep: float, tmp_path: Path
) -> None:
    place = make(tmp_path)
    files = [p for p in tmp_path.rglob("*") if p.suffix in {".parquet", ".arrow", ".tar", ".zip"}]
    for path in [*files, *tmp_path.glob("*.gz")]:
        os.truncate(path, int(keep * path.stat().st_size))
    with contextlib.suppress(TlhubError):
        known = {e.sha256 for e in read(folder(tmp_path / "whole")).examples}
        assert {e.sha256 for e in read(place).examples} <= known


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "is empty"),
        ("t.csv", "text,label\n", "has no rows"),
        ("t.csv", "text,text\na,b\n", "two columns of one name"),
        ("t.csv", "text,label\na text,x\nb text,x\n", "only one class, x"),
        ("t.csv", 'text,label\n"a text,x\n', "has no rows"),
        ("t.jsonl", "{]\n", "no JSON objects"),
        ("t.jsonl", "[" * 100_000, "no JSON objects"),
        (
            "t.jsonl",
            '{"text": "a", "label": {"x": {"y": 1}}}\n',
            "neither a name nor a number|only",
        ),
        ("t.csv", 'text,label\nlong text,"a\nb"\nother text,c\n', "line break"),
        ("t.csv", b"\x00\x01\x02", "is no text"),
        ("t.parquet", b"PAR1", "cannot be read"),
        ("t.docx", b"", "is a file with .docx"),
        ("noending", b"", "is a file with no ending"),
    ],
)
def test_tables_that_make_no_sense_are_refused(
    tmp_path: Path, name: str, content: bytes | str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(put(tmp_path, {name: content}) / name)
