"""Proof that an ONNX file computes what its weights compute in their own framework.

The file itself is run, whole and unchanged, by `converters.worker` in a fresh process, and given
nothing but uint8 images. To compare at equal preprocessed input no graph is cut open: images
that have the size which the preprocessing resizes to are not changed by a resize, on either side,
and everything after the resize is the same to the bit. So noise and photos of that size, in
batches of 1, 2 and 5, show the network, the crop, the channel order and the normalization; photos
of other sizes then show the resize, each side doing its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from catalog.errors import ConversionError
from converters.backbone import TorchBackbone
from converters.folder import Parity
from converters.preprocess import resized_side

TOLERANCE = 1e-5  # max|onnx - torch| / max|torch|, fp32
# One pixel in a thousand is rounded apart by the two resizes. That moves the outputs of trained
# networks by 1e-3 (of random ones by up to 1e-2), a resize with other coefficients by over 9e-2.
PHOTO_TOLERANCE = 5e-2
# Outputs that hardly depend on the image would agree whatever is done to it.
MIN_SPREAD = 1e-3
# Classes nearer than this, relative to the largest logit, are tied for the agreement of ranks.
TIE = 1e-3
BATCH_SIZES = (1, 2, 5)
TIMEOUT_S = 1800

Images = NDArray[np.uint8]  # (N, H, W, 3)
Outputs = Mapping[str, NDArray[np.float32]]


def photos_of(photos: Iterable[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Photos in several shapes: each as it is, a tall strip of it, and a small odd piece."""
    return [
        np.ascontiguousarray(view)
        for photo in photos
        for view in (photo, photo[:, :201], photo[150:211, 200:297])
    ]


def check(
    model: Path, backbone: TorchBackbone, photos: Sequence[NDArray[np.uint8]], work: Path
) -> Parity:
    """How near ``model`` is to ``backbone``; ``work`` is a folder for temporary files.

    Raises:
        ConversionError: not near enough, or it cannot be run; the message has the figures.
    """
    exact = _exact_batches(backbone, photos)
    real = {f"photo-{n}": photo[None] for n, photo in enumerate(photos)}
    seen = _run(model, {**exact, **real}, work)
    expected = {
        name: _reference(backbone, batch, seen[name]) for name, batch in {**exact, **real}.items()
    }

    for name, reference in expected.items():
        _check_sound(name, seen[name], reference)
    _check_spread([expected[name] for name in exact])
    outputs = _worst({name: expected[name] for name in exact}, seen)
    photo_outputs = _worst({name: expected[name] for name in real}, seen)
    parity = Parity(
        reference=f"torch {torch.__version__}",
        tolerance=TOLERANCE,
        max_rel_diff=max(outputs.values()),
        top1_agreement=_agreement([(expected[name], seen[name]) for name in real], 1),
        top5_agreement=_agreement([(expected[name], seen[name]) for name in real], 5),
        photo_max_rel_diff=max(photo_outputs.values()),
        outputs=outputs,
        batch_sizes=BATCH_SIZES,
        photos=len(photos),
    )
    _judge(parity, photo_outputs)
    return parity


def _judge(parity: Parity, photo_outputs: Mapping[str, float]) -> None:
    hint = "the model was not kept; please report its uid"
    for output, difference in parity.outputs.items():
        if not difference <= TOLERANCE:
            raise ConversionError(
                f"the ONNX graph is not the model: {output} differs from {parity.reference} by "
                f"{difference:.2e} of its range, more than {TOLERANCE:.0e}",
                hint=hint,
            )
    for output, difference in photo_outputs.items():
        if not difference <= PHOTO_TOLERANCE:
            raise ConversionError(
                f"the ONNX graph prepares photos otherwise: {output} differs from "
                f"{parity.reference} by {difference:.2e} of its range, more than "
                f"{PHOTO_TOLERANCE:.0e}",
                hint=hint,
            )
    if min(parity.top1_agreement, parity.top5_agreement) < 1:
        raise ConversionError(
            f"the ONNX graph ranks classes otherwise than {parity.reference}: top-1 agrees on "
            f"{parity.top1_agreement:.0%}, top-5 on {parity.top5_agreement:.0%} of "
            f"{parity.photos} photos",
            hint=hint,
        )


def _exact_batches(
    backbone: TorchBackbone, photos: Sequence[NDArray[np.uint8]]
) -> dict[str, Images]:
    """Images that a resize leaves as they are: noise of three shapes, and the photos."""
    height, width = (resized_side(side, backbone.preprocess) for side in backbone.input_size)
    shapes = [(height, width)] * 3
    if backbone.preprocess.resize_mode == "shortest":  # the longer side is only cropped
        shapes = [(height, width), (height, width + 31), (height + 18, width)]
    random = np.random.default_rng(0)
    batches = {
        f"noise-{size}": random.integers(0, 256, (size, *shape, 3), np.uint8)
        for size, shape in zip(BATCH_SIZES, shapes, strict=True)
    }
    resized = [Image.fromarray(photo).resize((width, height)) for photo in photos]
    return {**batches, "resized-photos": np.stack([np.asarray(photo) for photo in resized])}


def _run(model: Path, batches: Mapping[str, Images], work: Path) -> dict[str, Outputs]:
    with tempfile.TemporaryDirectory(prefix="parity-", dir=work) as folder:
        inputs, outputs = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        np.savez(inputs, allow_pickle=False, **batches)
        command = [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))]
        command += [str(path.resolve()) for path in (model, inputs, outputs)]
        try:
            ran = subprocess.run(  # noqa: S603 - our own file, no shell
                command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired as error:
            raise ConversionError(
                f"ONNX Runtime did not finish the graph in {TIMEOUT_S} s"
            ) from error
        if ran.returncode:
            said = _message(ran.stderr) or f"exit code {ran.returncode}"
            raise ConversionError(f"ONNX Runtime could not run the graph: {said}")
        results: dict[str, dict[str, NDArray[np.float32]]] = {name: {} for name in batches}
        with np.load(outputs, allow_pickle=False) as arrays:
            for key in arrays.files:
                batch, _, output = key.partition("/")
                results[batch][output] = arrays[key]
    return dict(results)


def _message(stderr: str) -> str:
    """What follows the last frame of a traceback, on one line."""
    [_, *lines] = stderr.rpartition("\n  File ")[2].splitlines() or [""]
    return " ".join(line.strip() for line in lines if not line.startswith("    "))


def _reference(backbone: TorchBackbone, batch: Images, seen: Outputs) -> Outputs:
    """Torch's outputs; the probabilities are those of the graph's own logits.

    A softmax turns an absolute difference of logits into a relative one, so that with large
    logits even two exact softmaxes would seem to differ.
    """
    outputs = backbone.outputs(backbone.pixel_values(list(batch)))
    logits = torch.from_numpy(seen["logits"] if "logits" in seen else outputs["logits"])
    return {**outputs, "probabilities": logits.softmax(-1).numpy()}


def _check_sound(batch: str, seen: Outputs, reference: Outputs) -> None:
    for output, array in reference.items():
        if output not in seen or seen[output].shape != array.shape:
            shape = seen[output].shape if output in seen else "absent"
            raise ConversionError(
                f"{output} is {shape} in the ONNX graph, {array.shape} in torch ({batch})"
            )
        if not (np.isfinite(array).all() and np.isfinite(seen[output]).all()):
            raise ConversionError(f"{output} is not finite for {batch}: the weights are broken")


def _check_spread(batches: Sequence[Outputs]) -> None:
    for output in ("logits", "embedding"):
        array = np.concatenate([batch[output] for batch in batches])
        spread = np.ptp(array, axis=0).max() / np.abs(array).max()
        if not spread > MIN_SPREAD:
            raise ConversionError(
                f"{output} hardly depends on the image (it moves by {spread:.1e} of its range): "
                "nothing can be shown with these weights"
            )


def _worst(expected: Mapping[str, Outputs], seen: Mapping[str, Outputs]) -> dict[str, float]:
    """The largest relative difference of each output over all batches."""
    worst: dict[str, float] = {}
    for batch, outputs in expected.items():
        for output, reference in outputs.items():
            difference = np.abs(seen[batch][output] - reference).max() / np.abs(reference).max()
            worst[output] = max(worst.get(output, 0.0), float(difference))
    return worst


def _agreement(pairs: Sequence[tuple[Outputs, Outputs]], top: int) -> float:
    """The fraction of images whose ``top`` classes are the reference's, in order, up to ties."""
    agreed = 0
    for reference, seen in pairs:
        logits = reference["logits"][0]
        best = np.sort(logits)[::-1][:top]
        chosen = logits[np.argsort(-seen["logits"][0], kind="stable")[:top]]
        agreed += bool(np.abs(best - chosen).max() <= TIE * np.abs(logits).max())
    return agreed / len(pairs)
