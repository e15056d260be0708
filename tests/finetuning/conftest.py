from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from catalog.record import License, ModelRecord, Preprocess
from converters.folder import LABELS, ONNX, SCHEMA_VERSION, Manifest, ModelFolder

RECORD = ModelRecord(
    uid="test/tiny",
    task="image-classification",
    modality="image",
    framework="timm",
    architecture="test_efficientnet",
    num_classes=10,
    labels=tuple(f"thing {n}" for n in range(10)),
    input_size=(3, 64, 64),
    preprocess=Preprocess(
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic", crop_pct=0.875
    ),
    license=License(scope="weights", spdx="Apache-2.0"),
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A real model folder: timm's smallest network, exported with its preprocessing inside."""
    from converters import export, weights
    from converters.layers import layers_of
    from converters.registry import random_backbone

    def fill(folder: Path) -> Manifest:
        backbone = random_backbone(RECORD, seed=7)
        model = export.export(backbone)
        layers = layers_of(backbone.module, backbone.front.example())
        export.set_metadata(model, backbone, RECORD.labels, layers, {}, "0")
        export.save(model, folder / ONNX)
        weights.write(backbone.module.model.state_dict(), folder / "model.safetensors")
        (folder / LABELS).write_text("\n".join(RECORD.labels) + "\n", encoding="utf-8")
        return Manifest(
            schema_version=SCHEMA_VERSION,
            kind="model",
            uid=RECORD.uid,
            created=datetime.now(UTC).isoformat(),
            record=RECORD,
            files={},
            layers=layers,
        )

    return ModelFolder.create(tmp_path_factory.mktemp("models") / "tiny", fill)


def draw(kind: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """A noisy picture of one of three kinds, of a size and brightness of its own."""
    height, width = random.integers(50, 110, 2)
    y, x = np.mgrid[:height, :width]
    shapes = [
        np.sin(x / 3 + random.uniform(0, 6)) > 0,
        np.sin(y / 3 + random.uniform(0, 6)) > 0,
        np.hypot(y - height / 2, x - width / 2) < random.uniform(12, 22),
    ]
    color = random.uniform(0.3, 1, 3) * 200
    noise = random.normal(0, 12, (height, width, 3))
    picture: NDArray[np.uint8] = np.clip(shapes[kind][..., None] * color + 30 + noise, 0, 255)
    return picture.astype(np.uint8)


Make = Callable[..., Path]


@pytest.fixture(scope="session")
def make_photos() -> Make:
    """Writes an image folder: ``make_photos({"a": 4, "b": 4}, root)``, kinds by order."""

    def make(classes: dict[str, int], root: Path, seed: int = 0) -> Path:
        random = np.random.default_rng(seed)
        for kind, (name, count) in enumerate(classes.items()):
            (root / name).mkdir(parents=True, exist_ok=True)
            for n in range(count):
                Image.fromarray(draw(kind % 3, random)).save(root / name / f"{n}.png")
        return root

    return make


@pytest.fixture
def make_data(make_photos: Make, tmp_path: Path) -> Make:
    """The same, in a folder of this test unless told."""

    def make(classes: dict[str, int], root: Path = tmp_path / "data", seed: int = 0) -> Path:
        return make_photos(classes, root, seed)

    return make


Told = Callable[[str], tuple[Path, dict[str, Any]]]


@pytest.fixture
def told(make_data: Make) -> Told:
    """The same photos as classes to come, with labels, or with numbers; and the `Options` of it."""

    def make(what: str) -> tuple[Path, dict[str, Any]]:
        root = make_data(
            {f"{kind} {n}": 4 for n in range(3) for kind in ("across", "down", "disc")}
        )
        if what == "embedding":
            return root, {"kind": "embedding"}
        rows = ["file,wide,red,height"]
        for path in sorted(root.rglob("*.png")):
            image = Image.open(path)
            bands = np.asarray(image, float).mean(axis=(0, 1))
            said = (int(image.width > 80), int(bands[0] > bands[1:].max()), image.height)
            rows.append(",".join(map(str, (path.relative_to(root), *said))))
        table = root / "told.csv"
        table.write_text("\n".join(rows))
        return table, {"labels": ["wide", "red"] if what == "labels" else ["height"]}

    return make


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `data` and `run` are."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="session")
def data(place: Path, make_photos: Make) -> Path:
    """What `run` learned from."""
    return make_photos({"across": 12, "down": 12, "disc": 12}, place / "data")


@pytest.fixture(scope="session")
def run(place: Path, data: Path, tiny: ModelFolder) -> ModelFolder:
    """A finished run, for tests that only look at it."""
    from finetuning.finetune import finetune

    return finetune(tiny, data, place / "runs" / "first", cache=place / "cache", device="cpu")
