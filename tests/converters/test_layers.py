"""Layers have the same names in the network, in the listing and in the graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from catalog.errors import ConversionError, UsageError
from converters import parity
from converters.backbone import ImageClassifier
from converters.convert import Options, convert
from converters.graph import with_outputs
from converters.layers import Tapped, layers_of, names_of
from converters.registry import load_backbone, random_backbone

PHOTO = np.random.default_rng(0).integers(0, 256, (2, 130, 170, 3), np.uint8)


@pytest.fixture(scope="module")
def backbone(tiny_model):
    files = {"model.safetensors": tiny_model.path / "model.safetensors"}
    return load_backbone(files, tiny_model.manifest.record)


@pytest.mark.parametrize(
    ("framework", "architecture", "some"),
    [
        ("timm", "resnet18", {"layer1.0", "layer1", "layer4"}),
        ("timm", "test_vit", {"patch_embed", "blocks.0", "blocks.5"}),
        ("timm", "convnext_atto", {"stem", "stages.0", "stages.3"}),
        ("torchvision", "alexnet", {"features.1", "features.12", "classifier.2"}),
        ("torchvision", "vgg11_bn", {"features.2", "features.28"}),  # never features.0, a bare conv
        ("torchvision", "mobilenet_v2", {"features.0", "features.1", "features.17"}),
    ],
)
def test_stages_and_blocks_are_named(framework, architecture, some, record_of):
    side = {"test_vit": 160}.get(architecture, 96)
    backbone = random_backbone(record_of(architecture, framework=framework, side=side), 0)
    names = names_of(backbone.module, backbone.front.example())
    assert some <= set(names)
    assert len(names) == len(set(names))
    modules = dict(backbone.module.model.named_modules())
    assert not any(isinstance(modules[n], torch.nn.Conv2d | torch.nn.Linear) for n in names)


def test_a_layer_says_what_it_costs(record_of):
    """The figures of a ResNet-18 whose arithmetic fits on paper."""
    backbone = random_backbone(record_of("resnet18", side=64), 0)
    [layer] = [
        x for x in layers_of(backbone.module, backbone.front.example()) if x.name == "layer1"
    ]
    assert layer.shape == (64, 16, 16)
    assert layer.params == 4 * (64 * 64 * 9 + 2 * 64)
    assert layer.gmacs == pytest.approx(4 * 64 * 64 * 9 * 16 * 16 / 1e9)
    assert layer.type == "Sequential"


def test_every_layer_of_the_graph_is_that_of_the_network(tiny_model, backbone):
    manifest = tiny_model.manifest
    names = [layer.name for layer in manifest.layers]
    assert names == list(names_of(backbone.module, backbone.front.example()))
    model = with_outputs(onnx.load(tiny_model.onnx), names)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    exact = backbone.front.exact(backbone.front.samples())["noise-2"]
    seen = dict(zip(names, session.run(names, exact), strict=True))
    with torch.inference_mode():
        tensors = Tapped(backbone.module, names)(*backbone.front.tensors(exact))[-len(names) :]
    for layer, tensor in zip(manifest.layers, tensors, strict=True):
        assert seen[layer.name].shape == (2, *layer.shape)
        difference = np.abs(seen[layer.name] - tensor.numpy()).max() / tensor.abs().max()
        assert difference <= 1e-5, layer.name


def test_layers_that_are_not_asked_for_are_no_outputs(tiny_model):
    session = onnxruntime.InferenceSession(tiny_model.onnx, providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == ["logits", "probabilities", "embedding"]


def test_layers_can_be_outputs_and_are_checked(tiny_model, weights_of, tmp_path):
    record = tiny_model.manifest.record
    options = Options(layers=("blocks.1", "blocks.4"))
    folder = convert(record, weights_of(record), tmp_path / "out", options=options)
    session = onnxruntime.InferenceSession(folder.onnx, providers=["CPUExecutionProvider"])
    outputs = [o.name for o in session.get_outputs()]
    assert outputs == ["logits", "probabilities", "embedding", "blocks.1", "blocks.4"]
    assert set(folder.manifest.parity.outputs) == set(outputs)


def test_the_graph_without_preprocessing_takes_tensors(tiny_model, weights_of, tmp_path):
    record = tiny_model.manifest.record
    options = Options(preprocess=False)
    folder = convert(record, weights_of(record), tmp_path / "out", options=options)
    session = onnxruntime.InferenceSession(folder.onnx, providers=["CPUExecutionProvider"])
    [taken] = session.get_inputs()
    assert (taken.name, taken.type, taken.shape) == (
        "pixel_values",
        "tensor(float)",
        ["batch", 3, 96, 96],
    )
    assert folder.manifest.parity.photo_max_rel_diff is None
    assert folder.manifest.parity.max_rel_diff <= 1e-5


def test_an_unknown_layer_is_named_with_those_there_are(tiny_model, weights_of, tmp_path):
    record = tiny_model.manifest.record
    with pytest.raises(UsageError, match=r"no layer 'blocks\.9'") as caught:
        convert(record, weights_of(record), tmp_path / "o", options=Options(layers=("blocks.9",)))
    assert "did you mean blocks." in caught.value.hint
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match=r"no layer 'blocks\.9'"):
        with_outputs(onnx.load(tiny_model.onnx), ["blocks.9"])


def test_a_module_that_runs_twice_is_no_layer():
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.ReLU())
            self.stages = torch.nn.Sequential(
                *(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.ReLU()) for _ in range(5))
            )
            self.head = torch.nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.stages(self.block(self.block(x))).mean((2, 3)))

    names = names_of(ImageClassifier(Twice(), "head"), [torch.rand(2, 3, 4, 4)])
    assert names == tuple(f"stages.{n}" for n in range(5))


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ("blocks.1.0.conv_pwl.weight", "layer blocks.1 is the first part that differs"),
        ("conv_stem.weight", "layer bn1 is the first part that differs"),
        ("preprocess/mean", "the preprocessing is the first part that differs"),
        ("classifier.weight", "what comes after the last of them differs"),
    ],
)
def test_the_first_layer_that_differs_is_named(tensor, said, tiny_model, backbone, tmp_path):
    model = onnx.load(tiny_model.onnx)
    [found] = [item for item in model.graph.initializer if item.name.endswith(tensor)]
    negated = -onnx.numpy_helper.to_array(found)
    found.CopyFrom(onnx.numpy_helper.from_array(negated, found.name))
    onnx.save(model, tmp_path / "mutant.onnx")
    with pytest.raises(ConversionError, match=said):
        parity.check(tmp_path / "mutant.onnx", backbone, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mutant.onnx"]
