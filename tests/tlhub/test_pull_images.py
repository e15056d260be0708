"""Image models of transformers from a folder and a hub to labels, features and a new head."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from machine import Machine
from PIL import Image
from small_hub import SmallHub
from tiny_images import network, save

from converters.evidence import sample_photos

LABELS = ("cat", "dog", "neither")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos cut into two classes of eight."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, photo in sample_photos().items():
        (folder / Path(name).stem).mkdir()
        for n in range(8):
            piece = photo[20 * n : 20 * n + 200, 40 * n : 40 * n + 240]
            Image.fromarray(piece).save(folder / Path(name).stem / f"{n}.png")
    return folder


def test_a_classifier_in_a_folder_does_what_one_of_timm_does(
    machine: Machine, tmp_path: Path, pictures: Path
) -> None:
    model = network("vit", LABELS)
    save(model, tmp_path / "animals")
    done = machine.json("convert", tmp_path / "animals", "--layer", "vit.layers.2")
    folder = Path(done["path"])
    assert done["parity"]["max_rel_diff"] < 1e-5
    record = json.loads((folder / "tlhub.json").read_text())["record"]
    said = ("framework", "architecture", "task", "modality", "labels", "input_size")
    assert [record[key] for key in said] == [
        *("transformers", "ViTForImageClassification", "image-classification", "image"),
        *(list(LABELS), [3, 32, 32]),
    ]
    assert (folder / "labels.txt").read_text().split() == list(LABELS)

    photo = next(pictures.rglob("*.png"))
    [answer] = machine.json("predict", folder, photo, "--top", "3")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "animals")
    with torch.inference_mode():
        logits = model(processor(Image.open(photo), return_tensors="pt").pixel_values).logits
    expected = dict(zip(LABELS, logits.softmax(-1)[0].tolist(), strict=True))
    assert {p["label"]: p["score"] for p in answer["predictions"]} == pytest.approx(
        expected, abs=1e-2
    )
    layers = [layer["name"] for layer in machine.json("layers", folder)]
    assert "vit.layers.2" in layers
    machine("features", folder, pictures, "--layer", "vit.layers.2", "--out", "table.npy")
    assert np.load(machine.cwd / "table.npy").shape == (16, 32)
    assert json.loads(machine("verify", folder, "--parity", "--json"))["parity"]["error"] is None
    machine("finetune", folder, "--data", pictures, "--out", "tuned")
    metrics = json.loads((machine.cwd / "tuned" / "metrics.json").read_text())
    assert metrics["onnx_agreement"] == 1
    [tuned] = machine.json("predict", "tuned", photo)
    assert tuned["predictions"][0]["label"] in {"china", "flower"}


def test_an_encoder_of_a_hub_brings_what_it_takes_and_nothing_else(
    machine: Machine, small_hub: SmallHub, tmp_path: Path, pictures: Path
) -> None:
    files = save(network("clip"), tmp_path / "pair")
    others = {"pytorch_model.bin": b"x" * 9000, "merges.txt": b"a b", "vocab.json": b"{}"}
    bodies = {name: path.read_bytes() for name, path in files.items()}
    small_hub.put("acme/pair", {**bodies, **others})
    plan = machine.json("pull", "hf:acme/pair", "--dry-run")
    names = {file["path"] for file in plan["files"]}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json"}
    folder = Path(machine("pull", "hf:acme/pair", "-q").strip())
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["CLIPVisionModelWithProjection"]
    machine("features", folder, pictures, "--out", "pair.npy")
    assert np.load(machine.cwd / "pair.npy").shape == (16, 24)
    assert json.loads(machine("verify", folder, "--parity", "--json"))["parity"]["error"] is None
    assert "no output `probabilities`" in machine(
        "predict", folder, next(pictures.rglob("*.png")), code=2
    )


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"preprocessor_config.json": None}, "it has no preprocessor_config.json"),
        ({"preprocessor_config.json": {"resample": 1}}, "resized by lanczos"),
        ({"preprocessor_config.json": {"image_processor_type": "NewProcessor"}}, "NewProcessor"),
        ({"config.json": {"auto_map": {"AutoModel": "x.Y"}}}, "wants code of its own"),
        ({"config.json": {"architectures": ["ViTForMaskedImageModeling"]}}, "its head"),
        ({"config.json": {"model_type": "newvit"}}, "its architecture, newvit"),
    ],
)
def test_what_cannot_be_converted_stays_as_it_is_and_says_why(
    files: dict[str, object], reason: str, machine: Machine, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    save(network("vit"), folder)
    for name, change in files.items():
        if change is None:
            (folder / name).unlink()
        else:
            said = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps(said | change))
    done = machine.json("pull", folder.as_uri())
    assert done["format"] == "original"
    assert reason in done["no_onnx"]
    assert reason in machine("convert", folder, code=1)


def test_without_preprocessing_the_network_alone_is_converted(
    machine: Machine, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    save(network("vit"), folder)
    (folder / "preprocessor_config.json").unlink()
    said = machine("convert", folder, code=1)
    assert "--no-preprocess" in said
    done = machine.json("convert", folder, "--no-preprocess")
    assert done["format"] == "onnx"
    assert done["parity"]["max_rel_diff"] < 1e-5
