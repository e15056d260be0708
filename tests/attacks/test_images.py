"""Images made to fill the memory or to break a decoder."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog.errors import DataError
from converters.images import MAX_PIXELS, as_rgb, read_image


def _png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 12_000, 50_000, 2**31 - 1])
def test_a_bomb_is_refused_before_it_is_decoded(side, tmp_path):
    assert side**2 > MAX_PIXELS
    file = tmp_path / "bomb.png"
    file.write_bytes(_png(side, side, zlib.compress(bytes(1000))))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"bomb\.png"):
        read_image(file)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_strip_that_would_be_resized_to_gigabytes_is_refused(tmp_path):
    Image.new("L", (50_000, 1)).save(tmp_path / "strip.png")
    with pytest.raises(DataError, match="over 100 times"):
        read_image(tmp_path / "strip.png")
    with pytest.raises(DataError, match="over 100 times"):
        as_rgb(np.zeros((1, 50_000, 3), np.uint8))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tiff"])
def test_every_truncation_is_said_with_the_name_of_the_file(suffix, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    file = tmp_path / f"cut.{suffix}"
    for length in (1, 20, len(content) // 3, len(content) // 2, len(content) * 9 // 10):
        file.write_bytes(content[:length])
        with pytest.raises(DataError, match=f"cut.{suffix}"):
            read_image(file)


def test_flipped_bytes_give_an_image_or_a_data_error(tmp_path):
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (32, 32, 3), np.uint8)
    for suffix in ("jpg", "png", "webp", "bmp", "gif", "tiff"):
        Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
        content = (tmp_path / f"whole.{suffix}").read_bytes()
        for _ in range(60):
            damaged = bytearray(content)
            for place in random.integers(0, len(content), 3):
                damaged[place] = random.integers(0, 256)
            _decodes_or_is_refused(tmp_path / "damaged", bytes(damaged))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_flipped_bytes_of_exif_give_an_image_or_a_data_error(suffix, tmp_path):
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "a photo", 72.0
    Image.new("RGB", (4, 4), "red").save(tmp_path / f"whole.{suffix}", exif=exif)
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    [start] = [n for n in range(len(content)) if content[n:].startswith((b"II*\0", b"MM\0*"))][:1]
    for _ in range(500):
        damaged = bytearray(content)
        for place in random.integers(start, min(len(content), start + 120), 3):
            damaged[place] = random.integers(0, 256)
        _decodes_or_is_refused(tmp_path / "damaged", bytes(damaged))


def test_damaged_exif_of_an_image_that_is_open_is_refused():
    exif = Image.Exif()
    exif[0x0112], exif[0x0128] = 6, 2
    image = Image.new("RGB", (4, 4))
    # The resolution's unit, a number, said to be text.
    image.info["exif"] = exif.tobytes().replace(b"\x01\x28\0\x03", b"\x01\x28\0\x02")
    with pytest.raises(DataError, match="the image cannot be read"):
        as_rgb(image)


def test_formats_that_can_run_programs_or_are_not_listed_are_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.eps")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.ppm")
    (tmp_path / "x.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    for name in ("x.eps", "x.ppm", "x.svg"):
        (tmp_path / name).rename(tmp_path / "photo.jpg")
        with pytest.raises(DataError, match="not an image that can be read"):
            read_image(tmp_path / "photo.jpg")


def _decodes_or_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        image = read_image(file)
    except DataError:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
