"""`OnnxModel`: a model folder, a run folder or a lone `.onnx`, run from photos or sentences.

Needs NumPy, Pillow or `tokenizers`, and ONNX Runtime; torch never, `onnx` only for weights kept
outside the file and for a GPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from catalog.errors import IntegrityError, NotFoundError, UsageError
from catalog.record import UNREADABLE
from converters.folder import ModelFolder
from converters.interface import (
    ATTENTION_MASK,
    BOXES,
    CLASS_MAP,
    EMBEDDING,
    INPUT_IDS,
    LOGITS,
    NUMBERS,
    PREDICTIONS,
    PROBABILITIES,
    SCORES,
    SIMILARITIES,
    TOKEN_TYPE_IDS,
)
from converters.session import Device, open_sessions

if TYPE_CHECKING:
    import onnxruntime

One = TypeVar("One")  # what a model is given one of: a photo, or a text
Answer = TypeVar("Answer")  # what it says of it
Decoded = TypeVar("Decoded")


class Prediction(NamedTuple):
    """A class and its probability, or of an embedding the cosine with its mean."""

    label: str
    score: float


class Estimate(NamedTuple):
    """A number that was measured of what the model learned from, and what it is now."""

    name: str
    value: float


Ranking = list[Prediction] | list[Estimate]

_TOP = 5  # classes, where nobody says how many


class OnnxModel(ABC, Generic[One, Answer]):
    """A model that runs: `ImageModel`, `TextModel`, `SegmentationModel`, `DetectionModel`.

    ``labels`` are the classes, or of a model of numbers what each is called. Of a model of which
    several labels may hold, ``thresholds`` are the probabilities from which on they do.
    """

    scores = PROBABILITIES  # the output that `predict` looks at
    thresholds: tuple[float, ...] = ()
    # Of an embedding the cosine from which on two examples are of one class, where that is known.
    same_class_from: float | None = None

    def __init__(
        self,
        sessions: Sequence[onnxruntime.InferenceSession],
        *,
        uid: str,
        labels: tuple[str, ...],
        device: Device,
        file: Path,
    ) -> None:
        self._sessions = tuple(sessions)
        self.file = file
        self.uid = uid
        self.labels = labels
        self.device = device

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        device: Device = "auto",
        threads: int | None = None,
        layers: Sequence[str] = (),
    ) -> Self:
        """The model at ``path``: a model or run folder, or a lone `.onnx` that tlhub wrote.

        It is of the kind that the graph is of, where this is not called on one of the kinds.
        ``auto`` is a GPU where one truly works, else the CPU; ``threads`` is for the CPU.
        ``layers``, by their names in the graph, are what `features` can give too.

        Raises:
            NotFoundError: there is no model, or no tokenizer beside a text model.
            IntegrityError: a file is missing, cut short or cannot be parsed; every byte is compared
                by `ModelFolder.verify`.
            UnsafeError: it reads weights from outside its folder.
            UsageError: it is no model that tlhub can run, ``device`` is not there, or there is no
                such layer.
        """
        path = Path(path)
        if path.is_dir():
            folder = ModelFolder.open(path)
            file, uid, labels = folder.onnx, folder.manifest.uid, folder.labels
        elif path.is_file():
            file, uid, labels = path, None, ()
        else:
            raise NotFoundError(f"there is no model at {path}")
        sessions, device = open_sessions(file, device, threads, layers)
        kind = _kind(file, sessions)
        if not issubclass(kind, cls):
            raise UsageError(f"{file} is for {kind.__name__}, not for {cls.__name__}")
        facts = sessions[-1].get_modelmeta().custom_metadata_map
        measures = PREDICTIONS in _names(sessions[-1])
        names = facts.get("tlhub.numbers" if measures else "tlhub.labels", "[]")
        labels = labels or _decoded(file, names, tuple[str, ...])
        _check_labels(file, labels, sessions[-1])
        uid = uid or facts.get("tlhub.uid", file.stem)
        made = kind(sessions, uid=uid, labels=labels, device=device, file=file)
        made = made._prepare(file, facts)
        if measures:
            made.scores = PREDICTIONS
        elif SIMILARITIES in made.outputs:
            made.scores = SIMILARITIES
            known = facts.get("tlhub.same_class_from", "null")
            made.same_class_from = _decoded(file, known, float | None)  # type: ignore[arg-type]
        above = _decoded(file, facts.get("tlhub.thresholds", "[]"), tuple[float, ...])
        made.thresholds = above if len(above) == len(labels) else ()
        return made

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what the graph gives."""
        return tuple(_names(self._sessions[-1]))

    @overload
    def __call__(self, given: One, *, top: int | None = None) -> Answer: ...
    @overload
    def __call__(self, given: Sequence[One], *, top: int | None = None) -> list[Answer]: ...
    def __call__(
        self, given: One | Sequence[One], *, top: int | None = None
    ) -> Answer | list[Answer]:
        """`predict` for one or for several."""
        if self._is_one(given):
            return self.predict([given], top=top)[0]  # type: ignore[list-item]
        return self.predict(given, top=top)  # type: ignore[arg-type]

    @abstractmethod
    def predict(self, given: Sequence[One], *, top: int | None = None) -> list[Answer]:
        """What the model says of each, the likeliest ``top`` of it."""

    def _ranked(self, given: Sequence[One], top: int | None) -> list[Ranking]:
        """For each its ``top`` classes, the likeliest first; without ``top`` 5.

        A class without a name goes by its number. A model that rates texts by a number that is no
        probability gives that number. Where several labels may hold, those that do are given, if
        not ``top`` of them; and of a model of numbers all numbers.

        Raises:
            UsageError: ``top`` is below 1, or the graph has no such output.
        """
        if top is not None and top < 1:
            raise UsageError(f"top is {top}, must be at least 1")
        self._need(self.scores, "it has no classes; its `features` are what it gives")
        return [self._answer(row, top) for row in self.rows(given, self.scores)]

    def _answer(self, row: NDArray[np.float32], top: int | None) -> Ranking:
        if self.scores == PREDICTIONS:
            return [Estimate(self._label(n), float(value)) for n, value in enumerate(row)]
        order = np.argsort(-row, kind="stable")
        if top is None and self.thresholds:
            order = order[(row >= np.array(self.thresholds))[order]]
        else:
            order = order[: top or _TOP]
        return [Prediction(self._label(n), float(row[n])) for n in order]

    def features(self, given: One | Sequence[One], layer: str | None = None) -> NDArray[np.float32]:
        """The embedding float32 (embed_dim,) of one, or (N, embed_dim) of several.

        With ``layer``, one that the model was opened with, its tensor instead: a map (C, H, W) or
        (H, W, C) of an image, tokens (T, C) of an image or a text. Several texts must then be of
        one length.

        Raises:
            UsageError: the graph has no such output.
        """
        output = layer or EMBEDDING
        self._need(output, "open it with `layers`" if layer else None)
        if self._is_one(given):
            return self.rows([given], output)[0]  # type: ignore[list-item]
        rows = self.rows(given, output)  # type: ignore[arg-type]
        return np.stack(rows) if rows else np.zeros((0, self._width(output)), np.float32)

    def _width(self, output: str) -> int:
        shape = self._sessions[-1].get_outputs()[self.outputs.index(output)].shape
        return shape[-1] if isinstance(shape[-1], int) else 0

    def _need(self, output: str, hint: str | None) -> None:
        if output not in self.outputs:
            raise UsageError(f"{self.uid} has no output `{output}`", hint=hint)

    def _prepare(self, file: Path, facts: Mapping[str, str]) -> Self:  # noqa: ARG002 - for kinds
        """The model, with what lies beside the graph; ``facts`` is the graph's metadata."""
        return self

    def _label(self, number: int) -> str:
        """The name of a class, or its number."""
        return self.labels[number] if number < len(self.labels) else str(number)

    @staticmethod
    @abstractmethod
    def _is_one(given: Any) -> bool:
        """Whether it is one and not a sequence of several."""

    def rows(self, given: Sequence[One], output: str) -> list[NDArray[np.float32]]:
        """One output for each, in their order."""
        return [row for [row] in self.several(given, [output])]

    @abstractmethod
    def several(
        self, given: Sequence[One], outputs: Sequence[str]
    ) -> list[list[NDArray[np.float32]]]:
        """Several outputs for each, computed in one pass."""


def _names(session: onnxruntime.InferenceSession) -> list[str]:
    return [output.name for output in session.get_outputs()]


def _kind(
    file: Path, sessions: Sequence[onnxruntime.InferenceSession]
) -> type[OnnxModel[Any, Any]]:
    """The kind of model that a graph is, by what it takes and gives."""
    inputs = sessions[0].get_inputs()
    kinds = [(item.type, len(item.shape)) for item in inputs]
    outputs = _names(sessions[-1])
    gives = {PROBABILITIES, PREDICTIONS, EMBEDDING} & {*outputs}
    takes_photos = kinds == [("tensor(uint8)", 4)]
    if takes_photos and CLASS_MAP in outputs:
        from converters.segmentation_model import SegmentationModel

        return SegmentationModel
    if takes_photos and {BOXES, NUMBERS, SCORES} <= {*outputs}:
        from converters.detection_model import DetectionModel

        return DetectionModel
    if takes_photos and gives:
        from converters.image_model import ImageModel

        return ImageModel
    needed = {INPUT_IDS, ATTENTION_MASK}
    texts = needed <= {item.name for item in inputs} <= {*needed, TOKEN_TYPE_IDS}
    if texts and {*kinds} == {("tensor(int64)", 2)} and gives:
        from converters.text_model import TextModel

        return TextModel
    seen = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs)
    raise UsageError(
        f"{file} is no image or text model that tlhub can run: it takes {seen} and "
        f"gives {', '.join(outputs)}",
        hint="it needs one uint8 image (batch, height, width, 3), or `input_ids` and "
        "`attention_mask` int64 (batch, sequence), and an output `probabilities` or `embedding`, "
        "or of an image `class_map`, or `boxes`, `labels` and `scores`",
    )


def _decoded(file: Path, text: str, kind: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(text, type=kind)
    except UNREADABLE as error:
        raise IntegrityError(f"{file} has labels that cannot be read: {error}") from error


def _check_labels(file: Path, labels: Sequence[str], session: onnxruntime.InferenceSession) -> None:
    maps = CLASS_MAP in _names(session)
    for item in session.get_outputs():
        if (
            item.name in ({LOGITS} if maps else {PROBABILITIES, PREDICTIONS, SIMILARITIES})
            and labels
        ):
            classes = item.shape[1] if maps else item.shape[-1]
            if isinstance(classes, int) and len(labels) != classes:
                raise IntegrityError(f"{file} has {len(labels)} labels for {classes} classes")
