"""`tlhub convert` and `tlhub layers`, as processes, on a small folder as timm writes it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from PIL import Image

from terminal import Run

NO_NETWORK = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a timm model with random weights that do not mute one another."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=7)
    for name, tensor in model.named_parameters():
        if tensor.ndim == 1 and name.endswith("bias"):
            torch.nn.init.uniform_(tensor, -0.5, 0.5)
    folder = tmp_path_factory.mktemp("timm") / "my model"
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    cfg = {**model.pretrained_cfg, "input_size": [3, 96, 96], "classifier": "classifier"}
    keys = ("input_size", "mean", "std", "interpolation", "crop_pct", "classifier")
    config = {"architecture": "test_efficientnet", "num_classes": 7}
    config["pretrained_cfg"] = {key: cfg[key] for key in keys}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_folder_of_weights_becomes_a_graph_with_the_layers_asked_for(
    tlhub: Run, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = tlhub(
        "convert", weights, "--layer", "blocks.2", "--layer", "blocks.4", "--out", out, "--json"
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["onnx"] == str(out / "model.onnx")
    assert {"logits", "embedding", "blocks.2", "blocks.4"} <= set(answer["parity"]["outputs"])
    assert answer["parity"]["max_rel_diff"] <= 1e-5
    model = onnx.load(out / "model.onnx")
    assert [o.name for o in model.graph.output][-2:] == ["blocks.2", "blocks.4"]

    listed = tlhub("layers", out, "--json")
    names = [layer["name"] for layer in json.loads(listed.stdout)]
    [facts] = [json.loads(p.value) for p in model.metadata_props if p.key == "tlhub.layers"]
    assert [layer["name"] for layer in facts] == names
    assert tlhub("layers", weights, "-q").stdout.split() == names


def test_a_graph_can_be_had_without_preprocessing(
    tlhub: Run, weights: Path, tmp_path: Path
) -> None:
    done = tlhub("convert", weights, "--no-preprocess", "-o", tmp_path / "out", "-q")
    assert done.returncode == 0, done.stderr
    model = onnx.load(Path(done.stdout.strip()) / "model.onnx")
    assert [i.name for i in model.graph.input] == ["pixel_values"]
    refused = tlhub("predict", tmp_path / "out", "photo.jpg")
    assert refused.returncode == 2
    assert "no image or text model" in refused.stderr


def test_a_network_is_made_for_another_input_size(
    tlhub: Run, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = tlhub("convert", weights, "--input-size", "64", "-o", out, "-q")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((out / "tlhub.json").read_bytes())
    assert manifest["preprocess"]["crop"] == manifest["record"]["input_size"][1:] == [64, 64]
    data = tmp_path / "data"
    for label in ("cat", "dog"):
        (data / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(data / label / "a.png")
    refused = tlhub(
        "finetune", out, "--input-size", "96", "--data", data, "--out", tmp_path / "run"
    )
    assert refused.returncode == 2
    assert "is converted already" in refused.stderr


def test_an_unknown_layer_ends_with_those_there_are(
    tlhub: Run, weights: Path, tmp_path: Path
) -> None:
    done = tlhub("convert", weights, "--layer", "block.2", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "no layer 'block.2'" in done.stderr
    assert "did you mean blocks.2?" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_converted_is_said(tlhub: Run, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("nothing to convert")
    for path in (tmp_path / "notes", tmp_path / "notes" / "readme.txt"):
        done = tlhub("convert", path)
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert "cannot be" in done.stderr
        assert "Traceback" not in done.stderr


def test_layers_of_an_architecture_need_no_weights(tlhub: Run, tmp_path: Path) -> None:
    env = {**NO_NETWORK, "TLHUB_HOME": str(tmp_path)}
    done = tlhub("layers", "torchvision/resnet18.IMAGENET1K_V1", env=env)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["layer", "type", "shape", "params", "GMACs"]
    assert ["layer1", "Sequential", "64x56x56", "148k", "0.462"] in rows


def test_precisions_come_beside_fp32_and_what_is_not_good_enough_is_said(
    tlhub: Run, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = tlhub("convert", weights, "--precision", "fp16,int8-dynamic", "-o", out, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert "int8 is for those" in error["message"]
    assert "fp32, fp16" in error["hint"]
    assert {path.name for path in out.glob("*.onnx")} == {"model.onnx", "model.fp16.onnx"}

    here = tlhub("convert", out, "--precision", "fp16", "--json")
    assert here.returncode == 0, here.stderr
    half = json.loads(here.stdout)["variants"]["fp16"]
    assert (half["file"], half["verified"]) == ("model.fp16.onnx", False)
    assert half["max_rel_diff"] <= 2e-2

    photo = tmp_path / "photo.png"
    Image.new("RGB", (120, 90), "teal").save(photo)
    found = tlhub("predict", out, photo, "--precision", "fp16", "--json")
    assert found.returncode == 0, found.stderr
    missing = tlhub("predict", out, photo, "--precision", "int8")
    assert missing.returncode == 3
    assert f"tlhub convert {out} --precision int8" in missing.stderr.replace("\n", " ")


def test_what_cannot_be_calibrated_on_is_said_before_anything_is_made(
    tlhub: Run, weights: Path, tmp_path: Path
) -> None:
    out, photos = tmp_path / "out", tmp_path / "photos"
    photos.mkdir()
    done = tlhub("convert", weights, "--precision", "int8", "--calibrate", photos, "-o", out)
    assert done.returncode == 1
    assert "has no photos" in done.stderr
    assert not out.exists()
    wrong = tlhub("convert", weights, "--precision", "int4", "-o", out)
    assert wrong.returncode == 2
    assert "no precision 'int4'" in wrong.stderr
