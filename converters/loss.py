"""What a model loses in another precision: both files run in fresh processes on real inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from catalog.errors import ConversionError
from converters import fresh_process
from converters.interface import EMBEDDING, LOGITS, PROBABILITIES
from converters.samples import Given, Samples, given

Answers = dict[str, NDArray[np.float32]]

FP16_REL_DIFF, FP16_COSINE = 2e-2, 0.999
INT8_TOP1, INT8_COSINE = 0.95, 0.95
SANE_TOP1 = 0.75  # where it is measured on what it was calibrated on, or on too little
ENOUGH = 20  # real inputs for a loss to be called measured
# Classes nearer than this, relative to the largest logit, are tied.
TIE = 1e-3
_CHUNK = 32  # inputs that one process is given


class Losses:
    """Answers of fp32 on some samples, and how far those of other files are from them."""

    def __init__(self, fp32: Path, samples: Samples, folder: Path, work: Path) -> None:
        session = onnxruntime.InferenceSession(str(fp32), providers=["CPUExecutionProvider"])
        self._inputs = [item.name for item in session.get_inputs()]
        names = [item.name for item in session.get_outputs()]
        self._outputs = tuple(name for name in names if name != PROBABILITIES)
        self._samples, self._folder, self._work = samples, folder, work
        self._fp32 = self._answers(fp32)

    def of(self, file: Path) -> dict[str, Any]:
        """The figures of a `converters.folder.Variant` that are about its loss.

        Raises:
            ConversionError: it cannot be run, or an output is not finite.
        """
        seen, reference = self._answers(file), self._fp32
        for name in self._outputs:
            if any(not np.isfinite(answer[name]).all() for answer in seen):
                raise ConversionError(f"{name} is not finite")
        outputs = {
            name: max(float(np.abs(s[name] - r[name]).max()) for s, r in _pairs(seen, reference))
            / (max(float(np.abs(r[name]).max()) for r in reference) or 1.0)
            for name in self._outputs
        }
        figures: dict[str, Any] = {
            "max_rel_diff": max(outputs.values()),
            "outputs": outputs,
            "samples": len(reference),
        }
        if EMBEDDING in self._outputs:
            pairs = _pairs(seen, reference)
            figures["cosine"] = min(_cosine(s[EMBEDDING], r[EMBEDDING]) for s, r in pairs)
        if LOGITS in self._outputs and reference[0][LOGITS].shape[-1] > 1:
            same = [_same(s[LOGITS], r[LOGITS]) for s, r in _pairs(seen, reference)]
            figures["top1_agreement"] = sum(same) / len(same)
            if self._samples.labels:
                figures["accuracy"] = self._accuracy(seen)
                figures["fp32_accuracy"] = self._accuracy(reference)
        return figures

    def _accuracy(self, seen: Sequence[Answers]) -> float:
        right = [
            int(answer[LOGITS].argmax()) == label
            for answer, label in zip(seen, self._samples.labels, strict=True)
        ]
        return sum(right) / len(right)

    def _answers(self, file: Path) -> list[Answers]:
        found: list[Answers] = []
        for chunk in _chunks(given(self._samples, self._inputs, self._folder)):
            batches = {str(n): one for n, one in enumerate(chunk)}
            ran = fresh_process.run(file, batches, self._work, outputs=self._outputs)
            found += [ran[name] for name in batches]
        return found


def judge(precision: str, loss: dict[str, Any], *, independent: bool) -> bool:
    """Whether the loss is within tolerance on enough real inputs; False where they are too few.

    ``independent``: the variant was not calibrated on them.

    Raises:
        ConversionError: it is not within tolerance.
    """
    top1, cosine, samples = loss.get("top1_agreement"), loss.get("cosine"), loss["samples"]
    verified = independent and samples >= ENOUGH
    if precision == "fp16":
        if not loss["max_rel_diff"] <= FP16_REL_DIFF:
            raise ConversionError(
                f"it differs from fp32 by {loss['max_rel_diff']:.1e}, more than {FP16_REL_DIFF:.0e}"
            )
        if cosine is not None and not cosine >= FP16_COSINE:
            raise ConversionError(f"its embeddings have a cosine of {cosine:.4f} with fp32's")
        return verified
    least = INT8_TOP1 if verified else SANE_TOP1
    if top1 is not None and not top1 >= least:
        raise ConversionError(
            f"its top-1 is that of fp32 on {top1:.1%} of {samples} samples, less than {least:.0%}"
        )
    if top1 is None and cosine is not None and not cosine >= INT8_COSINE:
        raise ConversionError(
            f"its embeddings have a cosine of {cosine:.3f} with fp32's, less than {INT8_COSINE}"
        )
    return verified


def _chunks(items: Iterator[Given]) -> Iterator[list[Given]]:
    while chunk := list(islice(items, _CHUNK)):
        yield chunk


def _pairs(seen: Sequence[Answers], reference: Sequence[Answers]) -> Iterator[tuple[Answers, Any]]:
    return zip(seen, reference, strict=True)


def _cosine(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    a, b = ours.ravel().astype(np.float64), theirs.ravel().astype(np.float64)
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else float(np.array_equal(a, b))


def _same(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> bool:
    """Whether the best class is the reference's, or one that it has tied with the best."""
    logits = theirs.ravel()
    chosen = logits[int(ours.argmax())]
    return bool(logits.max() - chosen <= TIE * np.abs(logits).max())
