"""The harvesters by name. Listing them imports none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

from catalog.errors import UsageError
from catalog.record import ModelRecord

Harvester = Callable[..., Iterator[ModelRecord]]

HARVESTERS: dict[str, str] = {
    "coqui": "catalog.harvesters.coqui",
    "espnet": "catalog.harvesters.espnet",
    "fastembed": "catalog.harvesters.fastembed",
    "gluoncv": "catalog.harvesters.gluoncv",
    "hailo": "catalog.harvesters.hailo",
    "kecam": "catalog.harvesters.kecam",
    "keras": "catalog.harvesters.keras",
    "keras_hub": "catalog.harvesters.keras_hub",
    "mindcv": "catalog.harvesters.mindcv",
    "model_zoos": "catalog.harvesters.model_zoos",
    "mteb": "catalog.harvesters.mteb",
    "nemo": "catalog.harvesters.nemo",
    "onnx_zoo": "catalog.harvesters.onnx_zoo",
    "open_clip": "catalog.harvesters.open_clip",
    "openmmlab": "catalog.harvesters.openmmlab",
    "openvino": "catalog.harvesters.openvino",
    "opus_mt": "catalog.harvesters.opus_mt",
    "paddleclas": "catalog.harvesters.paddleclas",
    "paddlevit": "catalog.harvesters.paddlevit",
    "pytorchcv": "catalog.harvesters.pytorchcv",
    "qai_hub_models": "catalog.harvesters.qai_hub_models",
    "spacy": "catalog.harvesters.spacy",
    "timm": "catalog.harvesters.timm",
    "torchaudio": "catalog.harvesters.torchaudio",
    "torchgeo": "catalog.harvesters.torchgeo",
    "torchvision": "catalog.harvesters.torchvision",
    "wheels": "catalog.harvesters.wheels",
}


def harvester(name: str) -> Harvester:
    """The ``harvest`` function of a source.

    Raises:
        UsageError: there is no such source.
    """
    if name not in HARVESTERS:
        raise UsageError(f"no harvester {name!r}", hint=f"one of: {', '.join(HARVESTERS)}")
    found: Harvester = import_module(HARVESTERS[name]).harvest
    return found
