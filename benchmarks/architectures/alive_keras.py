"""The same for Keras' own applications: random weights that mute nothing, in a file of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from PIL import Image

from catalog.record import ModelRecord
from converters.evidence import sample_photos
from converters.frameworks.keras import application
from converters.keras_network import keras as on_torch


def write(record: ModelRecord, folder: Path) -> tuple[Any, Path]:
    """The model of a record, and the file of its weights as Keras publishes them."""
    on_torch().utils.set_random_seed(0)
    from keras.src.legacy.saving import legacy_h5_format

    model = application(record)
    enliven(model)
    file = folder / "weights.h5"
    with h5py.File(file, "w") as content:
        legacy_h5_format.save_weights_to_hdf5_group(content, model)
    return model, file


def enliven(model: Any) -> None:
    """Draw the norms, and take the statistics that belong to them from photos."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0
            for name, low in (("gamma", 0.5), ("beta", -0.5)):
                weight = getattr(layer, name, None)
                if weight is not None:
                    weight.assign(random.uniform(low, low + 1, weight.shape).astype(np.float32))
    height, width = model.input_shape[1:3]
    pieces = [
        photo[y : y + 200, x : x + 200][:: 2 * side - 1]
        for photo in sample_photos().values()
        for y in (0, 200)
        for x in (0, 150, 300)
        for side in (0, 1)
    ]
    images = [np.asarray(Image.fromarray(p).resize((width, height))) / 127.5 - 1 for p in pieces]
    with torch.no_grad():
        model(np.stack(images).astype(np.float32), training=True)
        # Classes that are not near each other: whoever resizes photos otherwise must not swap them.
        classes = next(layer for layer in reversed(model.layers) if layer.weights)
        classes.bias.assign(np.linspace(-3, 3, classes.bias.shape[0], dtype=np.float32))
        for layer in model.layers:  # what hardly varies would be blown up, rounding and all
            if type(layer).__name__ == "BatchNormalization":
                spread = layer.moving_variance.value
                spread.clamp_(min=float(spread.median()))
