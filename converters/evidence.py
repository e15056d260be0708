"""Which of several architectures that fit by shape did these weights come from?

Batch norm remembers the mean of what each channel was given in training. In the right network
the channels' means on photos are near those; in one that pads or orders otherwise they drift
away. The drift decides, over all layers and in most of them. How sure the network is of what it
sees is measured beside it but decides nothing: a wrong twin can be the surer one (EfficientNet-
Lite2 without TensorFlow's padding is: 0.236 against 0.208).

What it cannot see: two whole residual blocks of one shape that have changed places, and a layer
after which no batch norm comes. There the order of the file is all there is.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from catalog.errors import ConversionError
from catalog.record import ModelRecord
from converters import mapping
from converters.backbone import ImageClassifier
from converters.image_front import ImageFront
from converters.images import read_image
from converters.weights import StateDict

if TYPE_CHECKING:
    from converters.classifiers import Architectures

# In standard deviations of the channel, for the worst layer. In the right network that is at most
# 0.29 for EfficientNet-Lite0 to 2; with the tensors of two layers exchanged it is 1.3.
MAX_DRIFT = 0.75


class _Measure(NamedTuple):
    drift: NDArray[np.float64]  # (batch-norm layers,)
    confidence: float

    def figures(self) -> dict[str, float]:
        return {
            "confidence": round(self.confidence, 4),
            "drift": round(float(self.drift.mean()), 4),
            "drift_of_worst_layer": round(float(self.drift.max()), 4),
        }


def sample_photos() -> dict[str, NDArray[np.uint8]]:
    """Two real photos that ship with scikit-learn, a palace and a flower, uint8 (427, 640, 3)."""
    # Found, not imported: that would take a second and 100 MB.
    folder = Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/images")))
    return {name: read_image(folder / name) for name in ("china.jpg", "flower.jpg")}


def weigh(
    module: ImageClassifier,
    front: ImageFront,
    record: ModelRecord,
    state: StateDict,
    architectures: Architectures,
) -> dict[str, Any]:
    """Figures for the record's architecture, ``module``, and every rival that fits, by name.

    ``drift`` is the mean over batch-norm layers and channels of |mean on photos - mean in
    training| / standard deviation in training, ``confidence`` the mean top-1 probability;
    ``drift_of_worst_layer`` is the largest of any layer;
    ``layers_nearer`` is the fraction of layers in which the record's architecture drifts less
    than that rival.

    Raises:
        ConversionError: the record's architecture is not the best, or nothing can show that it is.
    """
    photos = sample_photos()
    architecture = str(record.architecture)
    views = front.pixel_values(view for photo in photos.values() for view in _views(photo))
    own = _measure(module, views)
    _check_places(architecture, own)
    figures = {architecture: own.figures()}
    for rival in architectures.rivals(architecture):
        other = cast(ImageClassifier, architectures.create(record, rival).eval())
        try:
            other.model.load_state_dict(mapping.by_order(state, other.model))
        except ConversionError:
            continue  # it does not fit: no rival
        its = _measure(other, views)
        nearer = float((own.drift < its.drift).mean())
        figures[rival] = {**its.figures(), "layers_nearer": round(nearer, 4)}
        if nearer <= 0.5 or own.drift.mean() >= its.drift.mean():
            raise ConversionError(
                f"these weights fit {rival} better than {architecture}: a batch-norm drift "
                f"of {its.drift.mean():.4f} against {own.drift.mean():.4f}, and less of it in "
                f"{1 - nearer:.0%} of the layers",
                hint="the record names the wrong architecture",
            )
    return {"mapped_by": "order and shape", "photos": list(photos), "architectures": figures}


def _views(photo: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The photo and its corners at half and at 0.7 of its size: two photos alone are too few."""
    views = [photo]
    for fraction in (0.5, 0.7):
        height, width = (int(side * fraction) for side in photo.shape[:2])
        for rows in (slice(height), slice(-height, None)):
            views += [photo[rows, :width], photo[rows, -width:]]
    return views


def _check_places(architecture: str, own: _Measure) -> None:
    if not own.drift.size:
        raise ConversionError(
            f"the tensors have other names than {architecture}'s, and it has no batch norm whose "
            "statistics could show that they are in their places",
            hint="look for the model under the names of its framework",
        )
    drift = own.drift.max()
    if not drift < MAX_DRIFT:
        raise ConversionError(
            f"in {architecture} a layer of these weights drifts {drift:.2f} standard deviations "
            f"from its batch-norm statistics, more than {MAX_DRIFT}: they are not in their places",
            hint="the record names the wrong architecture, or the file is not of trained weights",
        )


def _measure(module: ImageClassifier, pixel_values: torch.Tensor) -> _Measure:
    drifts: list[float] = []

    def compare(layer: torch.nn.BatchNorm2d, arguments: tuple[torch.Tensor, ...]) -> None:
        mean, variance = layer.get_buffer("running_mean"), layer.get_buffer("running_var")
        distance = arguments[0].mean((0, 2, 3)) - mean
        drifts.append(float((distance / (variance + layer.eps).sqrt()).abs().mean()))

    hooks = [
        layer.register_forward_pre_hook(compare)
        for layer in module.modules()
        if isinstance(layer, torch.nn.BatchNorm2d) and layer.running_mean is not None
    ]
    try:
        with torch.inference_mode():
            logits, _ = module(pixel_values)
    finally:
        for hook in hooks:
            hook.remove()
    return _Measure(np.array(drifts), float(logits.softmax(-1).amax(-1).mean()))
