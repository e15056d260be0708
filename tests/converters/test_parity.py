"""The check is checked: every one of these mutations must be caught."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from catalog.errors import ConversionError
from converters import parity
from converters.registry import load_backbone


@pytest.fixture(scope="module")
def backbone(tiny_model):
    files = {"model.safetensors": tiny_model.path / "model.safetensors"}
    return load_backbone(files, tiny_model.manifest.record)


def _tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    [tensor] = [item for item in model.graph.initializer if item.name.endswith(name)]
    return tensor


def _change(model, name, change) -> None:
    tensor = _tensor(model, name)
    array = np.array(change(numpy_helper.to_array(tensor)))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    [node] = [item for item in model.graph.node if item.name == name]
    return node


def _negated_weight(model):
    _change(model, "blocks.1.0.conv_pwl.weight", np.negative)


def _one_channel_negated(model):
    def change(weight):
        weight = weight.copy()
        weight[3] *= -1
        return weight

    _change(model, "conv_stem.weight", change)


def _reversed_classifier(model):
    _change(model, "classifier.weight", lambda weight: weight[::-1])


def _wrong_mean(model):
    _change(model, "preprocess/mean", lambda mean: mean + np.float32(0.02))


def _wrong_std(model):
    _change(model, "preprocess/std", lambda std: std * np.float32(1.02))


def _swapped_channels(model):
    _node(model, "preprocess/Transpose_chw")
    reverse = numpy_helper.from_array(np.array([2, 1, 0], np.int64), "reverse")
    model.graph.initializer.append(reverse)
    for node in model.graph.node:
        node.input[:] = ["bgr" if name == "preprocess/chw" else name for name in node.input]
    model.graph.node.insert(
        1, helper.make_node("Gather", ["preprocess/chw", "reverse"], ["bgr"], axis=1)
    )


def _swapped_height_and_width(model):
    _node(model, "preprocess/Transpose_chw").attribute[0].ints[:] = [0, 3, 2, 1]


def _shifted_crop(model):
    _change(model, "preprocess/half", lambda half: half - np.float32(0.1))


def _other_cubic(model):
    for attribute in _node(model, "preprocess/Resize_resized").attribute:
        if attribute.name == "cubic_coeff_a":
            attribute.f = -0.75


def _corners_aligned(model):
    for attribute in _node(model, "preprocess/Resize_resized").attribute:
        if attribute.name == "coordinate_transformation_mode":
            attribute.s = b"align_corners"


def _constant_output(model):
    _change(model, "classifier.weight", np.zeros_like)


def _not_finite(model):
    _change(model, "classifier.bias", lambda bias: bias * np.float32("nan"))


def _softmax_over_the_batch(model):
    _node(model, "probabilities").attribute[0].i = 0


def _embedding_after_the_classifier(model):
    outputs = model.graph.output
    outputs[2].name = "pixel_values"


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (_negated_weight, r"(logits|embedding) differs from torch .* by \d"),
        (_one_channel_negated, r"(logits|embedding) differs"),
        (_reversed_classifier, "logits differs"),
        (_wrong_mean, "differs from torch"),
        (_wrong_std, "differs from torch"),
        (_swapped_channels, "differs from torch"),
        (_swapped_height_and_width, "differs from torch"),
        (_shifted_crop, "differs from torch"),
        (_other_cubic, "prepares photos otherwise"),
        (_corners_aligned, "prepares photos otherwise"),
        (_constant_output, "logits differs"),
        (_not_finite, "logits is not finite"),
        (_softmax_over_the_batch, "probabilities differs"),
        (_embedding_after_the_classifier, "embedding is absent"),
    ],
)
def test_a_mutated_graph_is_caught(mutate, message, tiny_model, backbone, tmp_path):
    model = onnx.load(tiny_model.onnx)
    mutate(model)
    onnx.save(model, tmp_path / "mutant.onnx")
    with pytest.raises(ConversionError, match=message):
        parity.check(tmp_path / "mutant.onnx", backbone, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mutant.onnx"]


def test_a_fixed_batch_is_caught(tiny_model, backbone, tmp_path):
    model = onnx.load(tiny_model.onnx)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "mutant.onnx")
    with pytest.raises(ConversionError, match=r"could not run .* Got: 2 Expected: 1"):
        parity.check(tmp_path / "mutant.onnx", backbone, tmp_path)


def test_the_unchanged_graph_passes(tiny_model, backbone, tmp_path):
    figures = parity.check(tiny_model.onnx, backbone, tmp_path)
    assert figures.max_rel_diff <= 5e-6
    assert set(figures.outputs) == {"logits", "probabilities", "embedding"}
    assert figures.photos == 6


def test_weights_that_ignore_the_image_prove_nothing(tiny_model, tmp_path):
    files = {"model.safetensors": tiny_model.path / "model.safetensors"}
    backbone = load_backbone(files, tiny_model.manifest.record)
    with_mute = backbone.module.model.get_submodule("conv_stem").weight
    with_mute.data.zero_()
    model = onnx.load(tiny_model.onnx)
    _change(model, "conv_stem.weight", np.zeros_like)
    onnx.save(model, tmp_path / "mute.onnx")
    with pytest.raises(ConversionError, match="hardly depends on the input"):
        parity.check(tmp_path / "mute.onnx", backbone, tmp_path)


def test_ties_are_agreement_and_other_orders_are_not():
    logits = np.array([[5.0, 4.999, 3.0, 2.0, 1.0, 0.0]], np.float32)
    swapped = {"logits": logits[:, [1, 0, 2, 3, 4, 5]]}
    wrong = {"logits": logits[:, [0, 2, 1, 3, 4, 5]]}
    reference = {"logits": logits}
    tie = parity.TIE
    assert parity._agreement([(reference, swapped)], 5, tie) == 1
    assert parity._agreement([(reference, wrong)], 1, tie) == 1
    assert parity._agreement([(reference, wrong), (reference, reference)], 5, tie) == 0.5
    assert parity._agreement([(reference, wrong)], 5, 0.5) == 1


def test_the_child_process_imports_neither_torch_nor_ours(tiny_model, tmp_path):
    worker = Path(parity.__file__).with_name("worker.py")
    np.savez(tmp_path / "in.npz", **{"one/image": np.zeros((1, 8, 8, 3), np.uint8)})
    script = f"""
import runpy, sys
sys.argv[0] = "worker"
runpy.run_path({str(worker)!r}, run_name="__main__")
print(sorted({{"torch", "timm", "onnx", "converters", "catalog"}} & set(sys.modules)))
"""
    paths = tiny_model.onnx, tmp_path / "in.npz", tmp_path / "out.npz"
    command = [sys.executable, "-P", "-c", script, *paths]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")
    assert set(np.load(tmp_path / "out.npz")) == {
        "one/logits",
        "one/probabilities",
        "one/embedding",
    }


def test_a_process_that_may_use_less_memory_than_there_is_runs_graphs():
    code = (
        "import os, resource\n"
        "from converters import worker\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 34, 1 << 34))\n"
        "if not os.getuid():\n"
        "    os.setuid(65534)\n"  # root may raise any limit
        "worker._limit(1 << 36)\n"
        "assert resource.getrlimit(resource.RLIMIT_AS) == (1 << 34, 1 << 34)\n"
        "worker._limit(1 << 33)\n"
        "assert resource.getrlimit(resource.RLIMIT_AS) == (1 << 33, 1 << 33)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_network_that_rounds_badly_is_measured_by_its_own_rounding(
    tiny_model, backbone, tmp_path, monkeypatch
):
    """With a tolerance below the rounding of any graph, what float64 says decides."""
    monkeypatch.setattr(parity, "TOLERANCE", 3e-7)
    own = backbone.rounding(backbone.front.exact(backbone.front.samples()))
    assert 1e-8 < own["logits"] < 5e-6
    assert 1e-8 < own["embedding"] < 5e-6
    monkeypatch.setattr(parity, "OF_ROUNDING", 50)
    allowed = parity.check(tiny_model.onnx, backbone, tmp_path).tolerance
    assert 3e-7 < allowed <= parity.MOST_OF_ROUNDING
    monkeypatch.setattr(parity, "OF_ROUNDING", 0)
    with pytest.raises(ConversionError, match="differs from torch"):
        parity.check(tiny_model.onnx, backbone, tmp_path)
