"""Classes that a model has never seen, told by their nearest examples: nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from catalog.errors import UsageError
from converters.interface import EMBEDDING, TOKENIZER
from converters.runtime import OnnxModel, Prediction
from finetuning.data.options import Options
from finetuning.data.preparing import prepare
from finetuning.evaluation import answers
from finetuning.ridge import Floats, unit

_TOP = 5


@dataclass(frozen=True)
class Gallery:
    """Labelled examples as vectors of length 1, to name others by.

    >>> gallery = Gallery.of(tlhub.load("runs/birds"), Path("photos of new birds"))
    >>> gallery.predict(["unknown.jpg"])
    """

    model: OnnxModel[Any, Any]
    classes: tuple[str, ...]
    vectors: Floats  # (N, D)
    y: tuple[int, ...]  # the class of each

    @classmethod
    def of(
        cls,
        model: OnnxModel[Any, Any],
        data: Path,
        *,
        options: Options | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Gallery:
        """The examples in ``data``, of any form that is read, as ``model`` sees them.

        Raises:
            DataError: they cannot be used.
            UsageError: the model has no embedding, or is of texts where these are images.
        """
        if EMBEDDING not in model.outputs:
            raise UsageError(f"{model.uid} has no embedding to compare examples by")
        options = replace(options or Options(), kind="embedding")
        dataset, _ = prepare(data, options, progress=progress)
        takes = "text" if model.file.with_name(TOKENIZER).is_file() else "image"
        if takes != dataset.modality:
            raise UsageError(
                f"{data} has {dataset.modality}s, and {model.uid} is a model of {takes}s"
            )
        vectors = answers(model, dataset.examples, EMBEDDING, progress)
        y = tuple(n for e in dataset.examples if isinstance(n := e.target, int))
        return cls(model, dataset.classes, unit(vectors), y)

    def predict(self, given: Sequence[Any], *, top: int | None = None) -> list[list[Prediction]]:
        """For each the classes of the nearest examples, and their cosines; ``top`` of them (5)."""
        rows = np.stack(self.model.rows(given, EMBEDDING)).astype(np.float64)
        alike = unit(rows) @ self.vectors.T
        y = np.array(self.y)
        nearest = np.stack([alike[:, y == n].max(axis=1) for n in range(len(self.classes))], axis=1)
        order = np.argsort(-nearest, axis=1, kind="stable")[:, : top or _TOP]
        return [
            [Prediction(self.classes[n], float(cosines[n])) for n in places]
            for cosines, places in zip(nearest, order.tolist(), strict=True)
        ]
