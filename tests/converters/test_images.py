from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from catalog.errors import DataError, NotFoundError
from converters.images import as_rgb, read_image


@pytest.fixture
def ramp() -> np.ndarray:
    """Every channel different, no symmetry."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, (x + y) * 2], -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_lossless_formats_give_the_same_pixels(suffix, ramp, tmp_path):
    file = tmp_path / f"image.{suffix}"
    Image.fromarray(ramp).save(file, lossless=True)
    seen = read_image(file)
    assert (seen.dtype, seen.flags.writeable) == (np.uint8, True)
    np.testing.assert_array_equal(seen, ramp)


def test_exif_orientation_is_applied(ramp, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate 90 degrees clockwise to show
    Image.fromarray(ramp).save(tmp_path / "phone.jpg", exif=exif, quality=100, subsampling=0)
    seen = read_image(tmp_path / "phone.jpg")
    assert seen.shape == (60, 40, 3)
    assert np.abs(seen.astype(int) - np.rot90(ramp, -1)).mean() < 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(mode, tmp_path):
    if mode == "P":
        image = Image.new("P", (8, 8), 1)
        image.putpalette([0, 0, 0, 9, 9, 9])
        image.info["transparency"] = 1
        image.paste(0, (0, 0, 8, 4))
    else:
        image = Image.new(mode, (8, 8), (0,) * len(mode))
        image.paste((*[0] * (len(mode) - 1), 255), (0, 0, 8, 4))
    image.save(tmp_path / "x.png")
    seen = read_image(tmp_path / "x.png")
    assert (seen[:4] == 0).all()
    assert (seen[4:] == 255).all()


def test_cmyk_gray_palette_and_sixteen_bits_become_rgb(ramp, tmp_path):
    image = Image.fromarray(ramp)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    image.convert("L").save(tmp_path / "gray.png")
    image.convert("1").save(tmp_path / "bits.png")
    image.convert("P").save(tmp_path / "palette.gif")
    gray = np.asarray(image.convert("L"))
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.tiff")
    assert np.abs(read_image(tmp_path / "cmyk.jpg").astype(int) - ramp).mean() < 3
    for name in ("gray.png", "deep.png", "deep.tiff"):
        np.testing.assert_array_equal(read_image(tmp_path / name), np.stack([gray] * 3, -1))
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0, 255}
    assert read_image(tmp_path / "palette.gif").shape == (40, 60, 3)


def test_the_first_frame_is_taken(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "x.gif") == [255, 0, 0]).all()


def test_a_missing_file_a_folder_and_no_image(tmp_path):
    with pytest.raises(NotFoundError, match="no image at"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("I am a letter")
    for name in ("empty.jpg", "text.jpg"):
        with pytest.raises(DataError, match=f"{name} is not an image"):
            read_image(tmp_path / name)


def test_arrays_are_checked():
    right = np.zeros((4, 5, 3), np.uint8)
    assert as_rgb(right) is right
    for wrong in (right.astype(np.float32), right[..., 0], right[..., :2], right[:0]):
        with pytest.raises(DataError, match="expected uint8"):
            as_rgb(wrong)
    assert as_rgb(Image.new("L", (5, 4), 7)).tolist() == [[[7] * 3] * 5] * 4
