"""Image models of transformers: the same numbers as by the library alone, and mutations caught."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import numpy_helper
from tiny_images import described, network, record_of, save
from tiny_texts import files_in

from benchmarks.architectures.tiny import VISION
from catalog.errors import ConversionError, IntegrityError, UnsafeError
from catalog.record import ModelRecord
from converters import parity, weights
from converters.convert import Options, convert
from converters.evidence import sample_photos
from converters.folder import ModelFolder
from converters.registry import load_backbone, obstacle
from converters.runtime import OnnxModel

LABELS = ("cat", "dog", "neither")
ALWAYS = {("clip", False), ("convnext", True)}  # and `vit` below
MATRIX = [
    pytest.param(kind, classes, marks=() if (kind, classes) in ALWAYS else pytest.mark.slow)
    for kind in VISION
    for classes in (False, True)
]


@pytest.mark.parametrize(("model_type", "classes"), MATRIX)
def test_an_architecture_is_converted_and_equal(model_type, classes, tmp_path):
    labels = LABELS if classes else ()
    model = network(model_type, labels)
    files = save(model, tmp_path / "source")
    folder = convert(record_of(files), files, tmp_path / "out")
    assert folder.manifest.parity.max_rel_diff <= 3e-5
    assert folder.manifest.parity.photo_max_rel_diff <= 2e-2
    outputs = {"logits", "probabilities", "embedding"} if labels else {"embedding"}
    assert set(folder.manifest.parity.outputs) == outputs
    assert folder.labels == labels
    assert len(folder.manifest.layers) >= 4
    # By transformers alone, of photos as a user gives them.
    ours = OnnxModel.open(folder.path, device="cpu", threads=1)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "source")
    photos = list(sample_photos().values())
    with torch.inference_mode():
        pixels = processor(photos, return_tensors="pt").pixel_values
        if labels:
            expected = model(pixels).logits.softmax(-1).numpy()
            given = ours.predict(photos, top=3)
            seen = [[dict(answer)[label] for label in labels] for answer in given]
        else:
            expected, seen = _embedding(model, pixels).numpy(), ours.features(photos)
    np.testing.assert_allclose(seen, expected, atol=2e-2 * np.abs(expected).max())


def _embedding(model: transformers.PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
    """What transformers' own documentation takes for it."""
    if model.config.model_type in {"clip", "siglip"}:
        return model.get_image_features(pixel_values=pixels).pooler_output
    found = model(pixels)
    if model.config.model_type in {"vit", "deit"}:
        return found.last_hidden_state[:, 0]
    return found.pooler_output.flatten(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "ending"),
    [
        ("deit", "ForImageClassificationWithTeacher"),
        ("clip", "VisionModel"),
        ("clip", "VisionModelWithProjection"),
        ("siglip", "VisionModel"),
    ],
)
def test_other_classes_of_an_architecture(model_type, ending, tmp_path):
    labels = LABELS if "Classification" in ending else ()
    files = save(network(model_type, labels, ending=ending), tmp_path / "in")
    folder = convert(record_of(files), files, tmp_path / "out")
    assert folder.manifest.parity.max_rel_diff <= 3e-6
    width = {"deit": 64, "clip": 512 if "Projection" in ending else 32, "siglip": 32}[model_type]
    photo = next(iter(sample_photos().values()))
    assert OnnxModel.open(folder.path, device="cpu").features(photo).shape == (width,)


@pytest.fixture(scope="module")
def vit(tmp_path_factory) -> tuple[transformers.PreTrainedModel, dict[str, Path], ModelFolder]:
    """A classifier with a crop of odd margins, its files, and its folder."""
    place = tmp_path_factory.mktemp("vit")
    model = network("vit", LABELS)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 35},
        "crop_size": {"height": 32, "width": 32},
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.3, 0.25],
    }
    files = save(model, place / "source", processor)
    return model, files, convert(record_of(files), files, place / "out")


def _change(name, change):
    def mutate(model):
        [tensor] = [t for t in model.graph.initializer if t.name.endswith(name)]
        array = np.array(change(numpy_helper.to_array(tensor)))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return mutate


def _other_offset(model):
    """The crop begins at the half rounded, not at its floor."""
    [node] = [node for node in model.graph.node if "preprocess/start" in node.output]
    one = numpy_helper.from_array(np.array(1, np.int64), "one")
    model.graph.initializer.append(one)
    add = onnx.helper.make_node("Add", [node.input[0], "one"], ["more"])
    node.input[0] = "more"
    model.graph.node.insert(list(model.graph.node).index(node), add)


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (_change("layers.2.attention.o_proj.bias", np.negative), "differs from torch"),
        (_change("layers.1.layernorm_before.weight", np.negative), "differs from torch"),
        (_change("embeddings.position_embeddings", lambda a: a[:, ::-1]), "differs from torch"),
        (_change("classifier.bias", np.negative), "logits differs"),
        (_change("preprocess/mean", lambda a: a[:, ::-1]), "the preprocessing is the first"),
        (_change("preprocess/std", lambda a: a[:, ::-1]), "the preprocessing is the first"),
        (_other_offset, "the preprocessing is the first"),
    ],
    ids=["weight", "norm", "positions", "head", "mean", "deviation", "crop"],
)
def test_a_mutated_graph_is_caught(mutate, message, vit, tmp_path):
    _, files, folder = vit
    model = onnx.load(folder.onnx)
    mutate(model)
    onnx.save(model, tmp_path / "mutant.onnx")
    with pytest.raises(ConversionError, match=message):
        parity.check(
            tmp_path / "mutant.onnx", load_backbone(files, folder.manifest.record), tmp_path
        )


def test_the_folder_can_be_loaded_again_and_by_transformers(vit, tmp_path):
    model, _, folder = vit
    again = load_backbone(folder.files, folder.manifest.record)
    assert parity.check(folder.onnx, again, tmp_path).max_rel_diff <= 3e-6
    theirs = transformers.AutoModelForImageClassification.from_pretrained(folder.path)
    processor = transformers.AutoImageProcessor.from_pretrained(folder.path)
    photo = next(iter(sample_photos().values()))
    pixels = processor(photo, return_tensors="pt").pixel_values
    with torch.inference_mode():
        torch.testing.assert_close(theirs.eval()(pixels).logits, model(pixels).logits)


def test_a_tower_alone_can_be_loaded_again_and_by_transformers(tmp_path):
    model = network("clip")
    files = save(model, tmp_path / "in")
    made = load_backbone(files, record_of(files))
    made.write_weights(tmp_path / "model.safetensors")
    for name, data in made.files.items():
        (tmp_path / name).write_bytes(data)
    kept = {name: path for name, path in files_in(tmp_path).items() if "/" not in name}
    assert described(kept).architecture == "CLIPVisionModelWithProjection"
    again = load_backbone(kept, record_of(kept))
    theirs = transformers.CLIPVisionModelWithProjection.from_pretrained(tmp_path).eval()
    [pixels] = made.front.example()
    with torch.inference_mode():
        expected = model.get_image_features(pixel_values=pixels).pooler_output
        torch.testing.assert_close(again.module(pixels)[0], expected)
        torch.testing.assert_close(theirs(pixels).image_embeds, expected)


def test_weights_left_random_or_left_over_are_an_error(tmp_path):
    files = save(network("vit"), tmp_path)
    state = {n: t.clone() for n, t in weights.read(files["model.safetensors"]).items()}
    record = record_of(files)

    def loaded(changed):
        weights.write(changed, files["model.safetensors"])
        return load_backbone(files, record).module.model

    name = next(key for key in state if key.endswith("layernorm_after.bias"))
    with pytest.raises(ConversionError, match="would be random"):
        loaded({key: tensor for key, tensor in state.items() if key != name})
    with pytest.raises(ConversionError, match=r"hold adapter.x, which ViTModel"):
        loaded({**state, "adapter.x": torch.zeros(2)})
    with pytest.raises(ConversionError, match="has shape"):
        loaded({**state, "embeddings.cls_token": torch.zeros(1, 1, 4)})
    # A prefix is no obstacle, and nothing is made of the pooler.
    prefixed = {f"vit.{k}": t for k, t in state.items() if not k.startswith("pooler.")}
    own = loaded(state).state_dict()
    expected = {k: t.clone() for k, t in own.items() if "pooler" not in k}  # not of the file
    torch.testing.assert_close(dict(loaded(prefixed).state_dict()), expected, rtol=0, atol=0)


def test_a_pickle_of_tensors_is_read(tmp_path):
    model = network("resnet")
    files = save(model, tmp_path)
    files.pop("model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    files["pytorch_model.bin"] = tmp_path / "pytorch_model.bin"
    found = load_backbone(files, record_of(files)).module.model.state_dict()
    torch.testing.assert_close(dict(found), dict(model.state_dict()))


def test_photos_that_no_graph_prepares_leave_the_network_alone(tmp_path):
    files = save(network("vit", LABELS), tmp_path / "in", {"size": 32, "resample": 1})
    record = ModelRecord(uid="test/tiny", framework="transformers", architecture="x")
    with pytest.raises(ConversionError, match="lanczos") as caught:
        convert(record, files, tmp_path / "out")
    assert "--no-preprocess" in caught.value.hint
    assert not (tmp_path / "out").exists()
    folder = convert(record, files, tmp_path / "out", options=Options(preprocess=False))
    assert folder.manifest.parity.max_rel_diff <= 3e-6
    [given] = onnx.load(folder.onnx).graph.input
    assert given.name == "pixel_values"
    assert "lanczos" in folder.manifest.preprocess["why"]


def test_layers_are_outputs(tmp_path):
    files = save(network("dinov2"), tmp_path / "in")
    options = Options(layers=("encoder.layer.2",))
    folder = convert(record_of(files), files, tmp_path / "out", options=options)
    model = OnnxModel.open(folder.path, device="cpu", layers=options.layers)
    photo = next(iter(sample_photos().values()))
    assert model.features(photo, "encoder.layer.2").shape == (17, 32)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "sam"}, "its architecture, sam"),
        ({"architectures": ["ViTForMaskedImageModeling"]}, "its head, ViTForMaskedImageModeling"),
        ({"architectures": ["SwinModel"]}, "SwinModel and of type vit"),
        ({"auto_map": {"AutoModel": "evil.Evil"}}, "wants code of its own"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"hidden_size": 10**10}, "absurd"),
        ({"hidden_size": 2 * 10**5}, "has shape|describes a network of"),
        ({"num_hidden_layers": 10**7}, "absurd"),
        ({"patch_size": 0}, "cannot build"),
        ({"image_size": 64}, "has shape"),
        ({"image_size": "many"}, "cannot build|makes no sense"),
        ({"hidden_act": "os.system"}, "cannot build"),
        ({"num_channels": 1}, "has shape|cannot build"),
    ],
    ids=str,
)
def test_what_a_configuration_may_not_say(changes, said, tmp_path):
    files = save(network("vit"), tmp_path / "in")
    config = json.loads(files["config.json"].read_text())
    files["config.json"].write_text(json.dumps(config | changes))
    record = ModelRecord(uid="test/tiny", framework="transformers", architecture="ViTModel")
    with pytest.raises((ConversionError, UnsafeError, IntegrityError), match=said):
        convert(record, files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_photos_of_another_size_than_the_network_are_an_error(tmp_path):
    files = save(network("vit"), tmp_path, {"size": 48})
    with pytest.raises(ConversionError, match=r"48\*48.*32\*32"):
        load_backbone(files, record_of(files))


@pytest.mark.slow
def test_positions_are_interpolated_where_the_network_does(tmp_path):
    files = save(network("dinov2"), tmp_path / "in", {"size": 42, "crop_size": 42})
    folder = convert(record_of(files), files, tmp_path / "out")
    assert folder.manifest.parity.max_rel_diff <= 3e-6
    assert folder.manifest.record.input_size == (3, 42, 42)


def test_a_processor_nested_in_that_of_a_pair_is_found(tmp_path):
    files = save(network("clip"), tmp_path)
    own = files.pop("preprocessor_config.json")
    nested = {"processor_class": "CLIPProcessor", "image_processor": json.loads(own.read_text())}
    own.unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    files = files_in(tmp_path)
    assert record_of(files).input_size == (3, 32, 32)
    assert "processor_config.json" in load_backbone(files, record_of(files)).files


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("ViTModel", None),
        ("CLIPModel", None),
        ("SiglipForImageClassification", None),
        ("CLIPTextModel", "its head, CLIPTextModel"),
        ("DetrForObjectDetection", "its architecture, DetrForObjectDetection"),
    ],
)
def test_what_is_converted_is_known_beforehand(architecture, said):
    record = ModelRecord(uid="a/b", framework="transformers", architecture=architecture)
    reason = obstacle(record)
    assert reason is None if said is None else said in reason
