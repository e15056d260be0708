"""`OnnxModel`: a model folder, a run folder or a lone `.onnx`, run from photos to labels.

Needs NumPy, Pillow and ONNX Runtime; torch never, `onnx` only for weights kept outside the file
and for a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, overload

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from catalog.errors import IntegrityError, NotFoundError, UsageError
from converters.folder import ModelFolder
from converters.images import as_rgb, read_image
from converters.interface import EMBEDDING, PROBABILITIES
from converters.session import Device, open_sessions, run

if TYPE_CHECKING:
    import onnxruntime

Photo = NDArray[np.uint8] | Image.Image | str | Path

# So many photos, and so many pixels of them, are decoded at a time.
_BATCH, _BATCH_PIXELS = 16, 32_000_000


class Prediction(NamedTuple):
    """A class and its probability."""

    label: str
    score: float


class OnnxModel:
    """An image classifier that runs."""

    def __init__(
        self,
        sessions: Sequence[onnxruntime.InferenceSession],
        *,
        uid: str,
        labels: tuple[str, ...],
        device: Device,
    ) -> None:
        self._sessions = tuple(sessions)
        self.uid = uid
        self.labels = labels
        self.device = device

    @classmethod
    def open(
        cls, path: Path | str, *, device: Device = "auto", threads: int | None = None
    ) -> OnnxModel:
        """The model at ``path``: a model or run folder, or a lone `.onnx` that tlhub wrote.

        ``auto`` is a GPU where one truly works, else the CPU; ``threads`` is for the CPU.

        Raises:
            NotFoundError: there is no model.
            IntegrityError: a file is missing, cut short or cannot be parsed; every byte is compared
                by `ModelFolder.verify`.
            UnsafeError: it reads weights from outside its folder.
            UsageError: it is no image classifier of tlhub's, or ``device`` is not there.
        """
        path = Path(path)
        if path.is_dir():
            folder = ModelFolder.open(path)
            file, uid, labels = folder.onnx, folder.manifest.uid, folder.labels
        elif path.is_file():
            file, uid, labels = path, None, ()
        else:
            raise NotFoundError(f"there is no model at {path}")
        sessions, device = open_sessions(file, device, threads)
        _check_interface(file, sessions)
        facts = sessions[-1].get_modelmeta().custom_metadata_map
        labels = labels or _labels(file, facts.get("tlhub.labels", "[]"))
        classes = sessions[-1].get_outputs()[_names(sessions[-1]).index(PROBABILITIES)].shape[-1]
        if labels and isinstance(classes, int) and len(labels) != classes:
            raise IntegrityError(f"{file} has {len(labels)} labels for {classes} classes")
        return cls(
            sessions, uid=uid or facts.get("tlhub.uid", file.stem), labels=labels, device=device
        )

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a sequence of str
        self, images: Photo, *, top: int = 5
    ) -> list[Prediction]: ...
    @overload
    def __call__(self, images: Sequence[Photo], *, top: int = 5) -> list[list[Prediction]]: ...
    def __call__(
        self, images: Photo | Sequence[Photo], *, top: int = 5
    ) -> list[Prediction] | list[list[Prediction]]:
        """`predict` for one image or for several."""
        if isinstance(images, (np.ndarray, Image.Image, str, Path)):
            return self.predict([images], top=top)[0]
        return self.predict(images, top=top)

    def predict(self, images: Sequence[Photo], *, top: int = 5) -> list[list[Prediction]]:
        """For each image its ``top`` classes, the likeliest first.

        An image is a path, a PIL image or an array uint8 (H, W, 3) RGB, of any size. A class
        without a name goes by its number.

        Raises:
            DataError: an image cannot be read.
            NotFoundError: there is none at a path.
            UsageError: ``top`` is below 1.
        """
        if top < 1:
            raise UsageError(f"top is {top}, must be at least 1")
        return [
            [
                Prediction(self.labels[n] if self.labels else str(n), float(row[n]))
                for n in np.argsort(-row, kind="stable")[:top]
            ]
            for row in self._outputs(images, PROBABILITIES)
        ]

    def features(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The embedding float32 (embed_dim,) of one image uint8 (H, W, 3) RGB.

        Raises:
            UsageError: the graph has no output ``embedding``.
        """
        if EMBEDDING not in _names(self._sessions[-1]):
            raise UsageError(f"{self.uid} has no output `embedding`")
        return self._outputs([image], EMBEDDING)[0]

    def _outputs(self, images: Sequence[Photo], output: str) -> list[NDArray[np.float32]]:
        """One output for each image; images of one size that lie near go through together."""
        rows: list[NDArray[np.float32]] = []
        for decoded in _batches(images):
            found: dict[int, NDArray[np.float32]] = {}
            for shape in dict.fromkeys(image.shape for image in decoded):
                places = [n for n, image in enumerate(decoded) if image.shape == shape]
                batch = self._run(np.stack([decoded[n] for n in places]), output)
                found |= dict(zip(places, batch, strict=True))
            rows += [found[n] for n in range(len(decoded))]
        return rows

    def _run(self, images: NDArray[np.uint8], output: str) -> NDArray[np.float32]:
        values = images
        for session in self._sessions[:-1]:
            values = run(session, None, values)
        return run(self._sessions[-1], output, values)


def _decode(image: Photo) -> NDArray[np.uint8]:
    return read_image(image) if isinstance(image, (str, Path)) else as_rgb(image)


def _batches(images: Iterable[Photo]) -> Iterator[list[NDArray[np.uint8]]]:
    """The images decoded, as many at a time as memory should hold; at least one."""
    batch: list[NDArray[np.uint8]] = []
    pixels = 0
    for image in map(_decode, images):
        size = image.shape[0] * image.shape[1]
        if batch and (len(batch) == _BATCH or pixels + size > _BATCH_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(image)
        pixels += size
    if batch:
        yield batch


def _names(session: onnxruntime.InferenceSession) -> list[str]:
    return [output.name for output in session.get_outputs()]


def _check_interface(file: Path, sessions: Sequence[onnxruntime.InferenceSession]) -> None:
    inputs = sessions[0].get_inputs()
    kinds = [(item.type, len(item.shape)) for item in inputs]
    if kinds != [("tensor(uint8)", 4)] or PROBABILITIES not in _names(sessions[-1]):
        seen = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs)
        raise UsageError(
            f"{file} is no image classifier that tlhub can run: it takes {seen} and gives "
            f"{', '.join(_names(sessions[-1]))}",
            hint="it needs one uint8 image (batch, height, width, 3) and an output `probabilities`",
        )


def _labels(file: Path, text: str) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{file} has labels that cannot be read: {error}") from error
