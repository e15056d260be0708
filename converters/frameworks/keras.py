"""Models of Keras 3: whole ones in `.keras` and `.h5` files, and Keras' own applications.

Nothing of TensorFlow is needed. A file is scanned before Keras sees it, and Keras reads it in its
safe mode. The applications' weights are read by the loader of Keras that their publisher uses.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch

from catalog.errors import ConversionError, IntegrityError, TlhubError, UnsafeError
from catalog.record import ModelRecord, Preprocess
from converters import keras_files, mapping, scanning, weights
from converters.backbone import TorchBackbone
from converters.image_front import ImageFront
from converters.interface import EMBEDDING, LOGITS
from converters.keras_network import Graph, KerasClassifier, KerasNetwork, Tensors, keras

LIBRARIES = ("torch", "keras")
_ACTIVATIONS = ("softmax", "sigmoid")
# How applications want their images, by the beginning of their names (`imagenet_utils` in Keras):
# scaled to -1..1, normalized as torchvision does, or BGR of 0..255 less the mean of each channel.
_MODES = {
    "tf": ("Xception", "InceptionV3", "InceptionResNetV2", "MobileNetV2", "NASNet"),
    "torch": ("DenseNet",),
    "caffe": ("VGG", "ResNet"),
    "none": ("EfficientNet", "ConvNeXt", "MobileNetV3"),
}
_WHITE = 1 / 255  # a deviation that leaves 0..255 as it is
_MEANS = {
    "tf": ((0.5,) * 3, (0.5,) * 3),
    "torch": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (_WHITE,) * 3),
    "none": ((0.0,) * 3, (_WHITE,) * 3),
}
# Keras' own constructors refuse its torch backend, "due to an outstanding bug", of which nothing is
# left in Keras 3.15: built past them, NASNetMobile gives what it gives on JAX to 2e-8 (at 64 x 64,
# with random weights). This is what they hand on.
_NASNETS: dict[str, dict[str, Any]] = {
    "NASNetMobile": {
        "penultimate_filters": 1056,
        "num_blocks": 4,
        "stem_block_filters": 32,
        "skip_reduction": False,
        "default_size": 224,
    },
    "NASNetLarge": {
        "penultimate_filters": 4032,
        "num_blocks": 6,
        "stem_block_filters": 96,
        "skip_reduction": True,
        "default_size": 331,
    },
}


def load(files: Mapping[str, Path], record: ModelRecord, *, trust: bool) -> TorchBackbone:
    """The model in ``files``: a whole one, or an application's weights.

    Raises:
        UnsafeError: it would run code or read other files. IntegrityError: it is damaged.
        ConversionError: it is no model that is known, or does not fit its architecture.
    """
    name, path = next(
        (item for item in files.items() if item[0].endswith((".keras", ".h5", ".safetensors"))),
        ("", Path()),
    )
    if name.endswith(".safetensors"):  # as we wrote it
        backbone = fresh(record)
        state = mapping.by_name(weights.read(path, trust=trust), backbone.module.model)
        if state is None:
            raise ConversionError(f"the tensors of {name} are not those of {record.architecture}")
        backbone.module.model.load_state_dict(state)
        return backbone
    if not name:
        raise ConversionError(f"{record.uid} has no .keras or .h5 file")
    with tempfile.TemporaryDirectory(prefix="tlhub-") as folder:
        file = Path(folder, f"model{Path(name).suffix}")  # Keras goes by the suffix
        shutil.copyfile(path, file)
        _refuse(file, name, Path(folder))
        if name.endswith(".keras") or _is_whole(file):
            loaded = _quietly(lambda: keras().saving.load_model(file, compile=False), name)
            return _backbone(loaded, record)
        model = application(record)
        _quietly(lambda: model.load_weights(str(file)), name)
    return _backbone(model, record)


def fresh(record: ModelRecord) -> TorchBackbone:
    """The record's application with random weights.

    Raises:
        ConversionError: it is none.
    """
    return _backbone(application(record), record)


def mode_of(architecture: str) -> str | None:
    """How an application wants its images; None where it is none that we know."""
    if architecture.startswith("ResNet") and architecture.endswith("V2"):
        return "tf"
    if architecture == "MobileNet":
        return "tf"
    for mode, names in _MODES.items():
        if architecture.startswith(names):
            return mode
    return None


def application(record: ModelRecord) -> Any:
    """The application of Keras that a record names, with weights drawn at random.

    Raises:
        ConversionError: Keras has none of this name.
    """
    name = record.architecture or ""
    applications = keras().applications
    build = getattr(applications, name, None)
    if mode_of(name) is None or not callable(build):
        raise ConversionError(f"Keras has no application {name!r}, and the file is no whole model")
    if name in _NASNETS:
        nasnet: Any = importlib.import_module("keras.src.applications.nasnet")
        build = partial(nasnet.NASNet, filter_multiplier=2, **_NASNETS[name])
    options: dict[str, Any] = {"weights": None, "classes": record.num_classes or 1000}
    if record.input_size is not None:
        options["input_shape"] = (*record.input_size[1:], record.input_size[0])
    parts = record.uid.rpartition("/")[2].split("_")[1:]
    if parts and parts[0] == "minimalistic":
        options["minimalistic"] = True
        parts = parts[1:]
    if parts and name.startswith("MobileNet"):
        options["alpha"] = float(parts[0])
    try:
        return build(**options)
    except (TypeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConversionError(f"Keras cannot build {name}: {lines[0]}") from error


def _backbone(model: Any, record: ModelRecord) -> TorchBackbone:
    activation = _bare_logits(model)
    graph = Graph(model)
    mode = mode_of(record.architecture or "") if record.framework == "keras" else None
    if mode is not None and record.preprocess is None and record.input_size is not None:
        mean, std = _MEANS[mode]
        how = Preprocess(mean=mean, std=std, interpolation="bilinear", crop_pct=0.875)
        record = msgspec.structs.replace(record, preprocess=how)
    pictures = len(model.inputs) == 1 and len(model.inputs[0].shape) == 4
    head = _head(model)
    if pictures and activation and head is not None and record.preprocess is not None:
        network = KerasClassifier(graph, graph.name_of(head), activation, flipped=mode == "caffe")
        return TorchBackbone(network, record, ImageFront.of(record))
    shapes, dtypes = {}, {}
    for number, item in enumerate(model.inputs):
        name = item.name.replace("/", "_") or f"input_{number}"
        if None in item.shape[1:]:
            raise ConversionError(
                f"the input {name} of the model has a shape that is not fixed: {item.shape}"
            )
        shapes[name], dtypes[name] = tuple(item.shape[1:]), str(item.dtype)
    names = [LOGITS] if activation else [f"output_{n}" for n in range(len(model.outputs))]
    if len(model.outputs) == 1 and not activation and len(model.outputs[0].shape) == 2:
        names = [EMBEDDING]
    plain = KerasNetwork(graph, list(shapes), names, activation or "softmax")
    return TorchBackbone(plain, record, Tensors(shapes, dtypes))


def _bare_logits(model: Any) -> str | None:
    """Take the activation from the last layer of a classifier; says which it was."""
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        return None
    last = model.layers[-1]
    used = getattr(getattr(last, "activation", None), "__name__", None)
    if used not in _ACTIVATIONS:
        return None
    last.activation = keras().activations.linear
    return str(used)


def _head(model: Any) -> Any | None:
    """The layer that makes the logits: the last that has weights."""
    return next((layer for layer in reversed(model.layers) if layer.weights), None)


def _refuse(file: Path, name: str, folder: Path) -> None:
    """Refuse what would run code, read elsewhere or is damaged, the weights in an archive too.

    What is of another format than its name says was not looked at as Keras would read it.
    """
    seen = scanning.scan(file, name)
    found = list(seen.findings)
    if seen.format == "keras" and not found:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                if member.endswith(".h5"):
                    found += keras_files.scan_h5(Path(archive.extract(member, folder))).findings
    for finding in found:
        if finding.verdict == "unsafe":
            raise UnsafeError(f"{name} was not read: it {finding.what}")
        if finding.verdict == "damaged":
            raise IntegrityError(f"{name} {finding.what}")
    if seen.format != ("keras" if name.endswith(".keras") else "hdf5"):
        raise ConversionError(
            f"{name} is no file of Keras: by its content it is {seen.format}",
            hint="name it by what it holds, .keras or .h5, or fetch it again",
        )


def _is_whole(file: Path) -> bool:
    import h5py

    with h5py.File(file, "r") as content:
        return "model_config" in content.attrs


def _quietly(step: Callable[[], Any], name: str) -> Any:
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return step()
    except TlhubError:
        raise
    except Exception as error:  # of many kinds, each with a page of advice
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConversionError(f"Keras cannot read {name}: {lines[0][:300]}") from error
