"""Data made to hurt: archives that leave their folder or explode, links in circles, bad names."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from catalog.errors import DataError, UnsafeError
from finetuning.data import reading
from finetuning.data.check import check
from finetuning.data.files import of_folder
from finetuning.data.reading import read


def png(color: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4), color).save(stream, "PNG")
    return stream.getvalue()


def folder(root: Path, count: int = 2) -> Path:
    for k, name in enumerate("ab"):
        (root / name).mkdir(parents=True)
        for n in range(count):
            (root / name / f"{n}.png").write_bytes(png(k * count + n))
    return root


def zipped(path: Path, *extra: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(4):
            archive.writestr(f"{'ab'[n % 2]}/{n}.png", png(n))
        for name, data in extra:
            archive.writestr(name, data)
    return path


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("a/link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("../../evil.png", b"", "lies outside its folder"),
        ("/etc/evil.png", b"", "lies outside its folder"),
        ("C:\\evil.png", b"", "lies outside its folder"),
        (link(), b"/etc/passwd", "is a link"),
        ("A/0.PNG", b"", "twice"),
        ("a/bomb.png", bytes(200 << 20), "would expand"),
    ],
)
def test_a_zip_that_is_not_meant_well_is_refused(
    tmp_path: Path, name: str | zipfile.ZipInfo, data: bytes, message: str
) -> None:
    with pytest.raises(UnsafeError, match=message):
        read(zipped(tmp_path / "d.zip", (name, data)))
    assert [path.name for path in tmp_path.iterdir()] == ["d.zip"]


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_says(tmp_path: Path) -> None:
    place = zipped(tmp_path / "d.zip", ("a/lie.png", bytes(50 << 20)))
    data = bytearray(place.read_bytes())
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        data[(start := data.rfind(mark) + at) : start + 4] = (100).to_bytes(4, "little")
    place.write_bytes(data)
    found = read(place)
    assert [item.name for item in found.skipped] == ["a/lie.png"]
    assert "is damaged" in found.skipped[0].reason


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
@pytest.mark.parametrize("form", ["w", "w:gz"])
def test_a_tar_with_links_or_devices_is_refused(tmp_path: Path, kind: bytes, form: str) -> None:
    place = tmp_path / ("d.tar" if form == "w" else "d.tar.gz")
    with tarfile.open(place, form) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo("a/0.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UnsafeError, match=r"is a link|is no plain file"):
        read(place)


def test_a_compressed_tar_that_explodes_is_not_gone_through(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a/0.png")
    info.size = 8 << 40
    (tmp_path / "d.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(64 << 20)))
    with pytest.raises(UnsafeError, match="would expand"):
        read(tmp_path / "d.tar.gz")


def test_headers_that_explode_do_not_fill_the_memory(tmp_path: Path) -> None:
    """The attributes of a member are read as a whole, before anybody sees their size."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 6 << 30
    with gzip.open(tmp_path / "d.tar.gz", "wb", compresslevel=1) as stream:
        stream.write(info.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(4):
            stream.write(bytes(64 << 20))
    with pytest.raises(UnsafeError, match="attributes beyond reason"):
        read(tmp_path / "d.tar.gz")


def test_links_in_circles_end(tmp_path: Path) -> None:
    root = folder(tmp_path / "d")
    (root / "a/up").symlink_to(root)
    (root / "b/self").symlink_to(root / "b")
    for n in range(20):  # each level twice: a million ways, were each gone
        (root / f"a/{n}").mkdir()
        for side in "lr":
            (root / f"a/{n}/{side}").symlink_to(root / f"a/{n + 1}")
    found = read(root)
    assert [example.name for example in found.examples] == [
        *("a/0.png", "a/1.png", "b/0.png", "b/1.png")
    ]
    assert "a link to a folder that is here" in {item.reason for item in found.skipped}


def test_a_class_folder_that_is_a_link_is_a_class(tmp_path: Path) -> None:
    root = folder(tmp_path / "d")
    (root / "b").rename(tmp_path / "elsewhere")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    assert len(read(root).examples) == 4


def test_files_that_vanish_while_they_are_read_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "d", 8)

    def listed(place: Path) -> object:
        files = of_folder(place)
        (root / "a/3.png").unlink()
        (root / "b/5.png").write_bytes(png(200))
        return files

    monkeypatch.setattr(reading, "of_folder", listed)
    found = read(root)
    assert [(item.name, item.reason) for item in found.skipped] == [
        ("a/3.png", "cannot be read: No such file or directory")
    ]
    assert len(found.examples) == 15


def test_when_most_files_vanish_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "d", 8)

    def listed(place: Path) -> object:
        files = of_folder(place)
        for n in range(6):
            (root / f"a/{n}.png").unlink()
        return files

    monkeypatch.setattr(reading, "of_folder", listed)
    with pytest.raises(DataError, match="6 of 16 images"):
        read(root)


def test_a_thousand_classes_with_hostile_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for n in range(1000):
            archive.writestr(f'"it\'s" <b>{n}</b> \U0001f600/{n}.png', png(n % 256) + b"%d" % n)
    found = read(tmp_path / "d.zip")
    assert len(found.classes) == len(found.examples) == 1000


def test_a_table_cannot_make_a_device_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    rows = "".join(f"{name},{n % 2}\n" for n, name in enumerate(["/dev/zero", "pipe.png", "/proc"]))
    (tmp_path / "t.csv").write_text("image,label\n" + rows)
    with pytest.raises(DataError, match="none of the files"):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("state.json", "[]"),
        ("state.json", '{"_data_files": 3}'),
        ("state.json", '{"_data_files": [3]}'),
        ("state.json", '{"_data_files": [{"filename": "none.arrow"}]}'),
        ("state.json", '{"_data_files": [{"filename": "/etc/passwd"}]}'),
        ("dataset_dict.json", '{"splits": 3}'),
        ("dataset_dict.json", '{"splits": ["../.."]}'),
        ("dataset_dict.json", "[" * 100_000),
    ],
)
def test_a_saved_data_set_that_makes_no_sense_is_refused(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError):
        read(tmp_path)


@pytest.mark.parametrize("features", [3, [], {"label": 3}, {"label": {"names": 3}}, "\ud800"])
def test_a_parquet_file_with_odd_metadata_is_read_without_them(
    tmp_path: Path, features: object
) -> None:
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"text": [f"a text {n}" for n in range(4)], "label": [0, 1, 0, 1]})
    parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").classes == ("0", "1")


def test_a_parquet_file_that_another_took_the_place_of_is_not_mistaken(tmp_path: Path) -> None:
    def put(first: int) -> list[bytes]:
        images = [png(first + n) for n in range(4)]
        table = pa.table({"image": images, "label": [0, 1, 0, 1]})
        parquet.write_table(table, tmp_path / "fresh.parquet")
        (tmp_path / "fresh.parquet").replace(tmp_path / "t.parquet")
        return images

    for first in (0, 100):
        images = put(first)
        found = read(tmp_path / "t.parquet")
        assert [example.data() for example in found.examples] == images


def test_many_copies_of_one_image_take_no_longer(tmp_path: Path) -> None:
    root = folder(tmp_path / "d")
    for n in range(3000):
        os.link(root / "a/0.png", root / f"a/copy {n}.png")
    start = time.process_time()
    assert len(check(read(root)).data.examples) == 3004
    assert time.process_time() - start < 15
