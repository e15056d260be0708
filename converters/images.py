"""Any image file to one array: RGB, the right way up, on white, within sane limits."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from catalog.errors import DataError, NotFoundError

SUFFIXES = frozenset(  # of files that are looked at as images
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 80_000_000  # under Pillow's own limit, so that ours is the one that speaks
MAX_ASPECT = 100  # a 1 x 100,000 strip would be resized to 256 x 25,600,000

RGB = NDArray[np.uint8]

SMALL = 32  # pixels of the picture of a `Glance`
_ORIENTATION = 0x0112  # the tag of EXIF


@dataclass(frozen=True)
class Glance:
    """What an encoded image is, and a small picture of it."""

    width: int
    height: int
    mode: str  # as Pillow calls it: RGB, L, CMYK, ...
    format: str  # one of FORMATS
    rotated: bool  # by its EXIF orientation
    transparent: bool
    small: RGB  # (SMALL, SMALL, 3), the right way up, on white


def read_image(image: Path | str | bytes, name: str | None = None) -> RGB:
    """The image at a path, or in the bytes of a file, as uint8 (H, W, 3) RGB in 0..255.

    EXIF orientation is applied and transparency laid over white; palettes, CMYK, gray and 16 bits
    become 8-bit RGB; of several frames the first is taken. Errors call it ``name``.

    Raises:
        NotFoundError: there is no such file.
        DataError: it is no image of a known format, is truncated, or is absurdly large or long.
    """
    source = io.BytesIO(image) if isinstance(image, bytes) else Path(image)
    name = name or ("the image" if isinstance(image, bytes) else str(source))
    with _decoding(name), Image.open(source, formats=FORMATS) as opened:
        _check_size(opened.width, opened.height, name)
        return _rgb(opened, name)


def glance(data: bytes, name: str) -> Glance:
    """What the image in the bytes of a file is; all of it is read, a JPEG at an eighth of its size.

    Raises:
        DataError: as `read_image`.
    """
    with _decoding(name), Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        width, height, mode, form = opened.width, opened.height, opened.mode, str(opened.format)
        form = "JPEG" if form == "MPO" else form  # a JPEG with another behind it
        _check_size(width, height, name)
        transparent = opened.has_transparency_data
        rotated = opened.getexif().get(_ORIENTATION, 1) not in {0, 1}
        if form == "JPEG" and mode in {"L", "RGB"}:
            opened.draft(mode, (4 * SMALL, 4 * SMALL))  # nearer, edges fall elsewhere
        rgb = Image.fromarray(_rgb(opened, name))
        small = np.asarray(rgb.resize((SMALL, SMALL), Image.Resampling.BOX))
    return Glance(width, height, mode, form, rotated, transparent, small)


def as_rgb(image: RGB | Image.Image, name: str = "the image") -> RGB:
    """A decoded image as uint8 (H, W, 3) RGB.

    Raises:
        DataError: an array of another dtype or shape, an image that cannot be decoded, or either
            absurdly large or long.
    """
    if isinstance(image, Image.Image):
        with _decoding(name):
            _check_size(image.width, image.height, name)
            return _rgb(image, name)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DataError(
            f"{name} is {image.dtype} {image.shape}, expected uint8 (height, width, 3) RGB"
        )
    _check_size(image.shape[1], image.shape[0], name)
    return image


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """What Pillow raises, as an error of ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; what matters raises
            yield
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise NotFoundError(f"there is no image at {name}") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{name} is not an image that can be read",
            hint=f"formats read: {', '.join(FORMATS)}",
        ) from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} is too large: {error}", hint="scale it down") from None
    except Exception as error:
        # Damaged bytes, those of EXIF above all, make Pillow raise anything: struct.error,
        # TypeError, KeyError, ...
        said = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise DataError(
            f"{name} cannot be read as an image: {said}",
            hint="is the file complete, and may you read it?",
        ) from error


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name} has {width} x {height} pixels, the limit is {MAX_PIXELS:,} in all",
            hint="scale it down",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DataError(
            f"{name} is {width} x {height}: one side is over {MAX_ASPECT} times the other",
            hint="crop it",
        )


def _rgb(image: Image.Image, name: str) -> RGB:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        gray = np.asarray(image).astype(np.int64)
        if gray.min() < 0 or gray.max() > 0xFFFF:
            raise DataError(
                f"{name} has pixels beyond 16 bits", hint="save it with 8 bits a channel"
            )
        image = Image.fromarray((gray // 257).astype(np.uint8))
    elif image.mode == "F":
        raise DataError(f"{name} has floating-point pixels", hint="save it with 8 bits a channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))
