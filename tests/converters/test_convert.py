from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from catalog.errors import ConversionError, StorageError, UsageError
from converters import export, parity, weights
from converters.convert import Options, convert
from converters.folder import ModelFolder
from converters.registry import load_backbone, random_backbone
from converters.runtime import OnnxModel


def test_a_folder_is_whole_and_says_what_it_is(tiny_model):
    folder = ModelFolder.open(tiny_model.path)
    folder.verify()
    manifest = folder.manifest
    assert set(manifest.files) == {"model.onnx", "model.safetensors", "labels.txt"}
    assert {path.name for path in folder.path.iterdir()} == {*manifest.files, "tlhub.json"}
    assert {"torch", "timm", "onnx", "onnxscript", "tlhub"} < set(manifest.tools)
    assert manifest.parity.max_rel_diff <= 1e-5
    assert manifest.parity.top1_agreement == manifest.parity.top5_agreement == 1
    assert manifest.parity.batch_sizes == (1, 2, 5)
    assert folder.labels[3] == "class 3"
    mode = (folder.path / "model.safetensors").stat().st_mode
    assert mode == (folder.path / "model.onnx").stat().st_mode


def test_the_safetensors_load_again_by_name(tiny_model, weights_of):
    record = tiny_model.manifest.record
    again = load_backbone({"model.safetensors": tiny_model.path / "model.safetensors"}, record)
    assert again.evidence is None
    original = weights.read(weights_of(record)["weights.safetensors"])
    for name, tensor in again.module.model.state_dict().items():
        torch.testing.assert_close(tensor, original[name], rtol=0, atol=0)


def test_the_graph_has_the_agreed_interface_and_metadata(tiny_model):
    model = onnx.load(tiny_model.onnx)
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]
    }
    assert [value.name for value in model.graph.input] == ["image"]
    assert [o.name for o in model.graph.output] == ["logits", "probabilities", "embedding"]
    assert shapes["image"] == ["batch", "height", "width", 3]
    assert shapes["pixel_values"] == ["batch", 3, 96, 96]
    assert shapes["logits"] == shapes["probabilities"] == ["batch", 12]
    assert shapes["embedding"] == ["batch", 256]
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    facts = {item.key: item.value for item in model.metadata_props}
    assert facts["tlhub.uid"] == "test/test_efficientnet"
    assert msgspec.json.decode(facts["tlhub.labels"])[11] == "class 11"
    assert msgspec.json.decode(facts["tlhub.preprocess"])["resized_to"] == [109, 109]
    [source] = msgspec.json.decode(facts["tlhub.source"]).items()
    assert re.fullmatch("[0-9a-f]{64}", source[1])


def test_the_graph_keeps_no_path_of_this_machine(tiny_model):
    content = tiny_model.onnx.read_bytes()
    for trace in (b"site-packages", b".py", os.fsencode(Path.home()), os.fsencode(Path.cwd())):
        assert trace not in content


def test_another_process_makes_the_same_bytes(tiny_model, tmp_path):
    """With another hash seed and from the safetensors of the first."""
    (tmp_path / "record.json").write_bytes(msgspec.json.encode(tiny_model.manifest.record))
    script = f"""
import sys
from pathlib import Path
from catalog.record import decode
from converters import export
from converters.registry import load_backbone, random_backbone
record = decode(Path({str(tmp_path / "record.json")!r}).read_bytes())
files = {{"model.safetensors": Path({str(tiny_model.path / "model.safetensors")!r})}}
backbone = load_backbone(files, record)
model = export.export(backbone)
export.set_metadata(model, backbone, record.labels, (), {{}}, "0")
export.save(model, Path({str(tmp_path)!r}, sys.argv[1]))
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, f"{seed}.onnx"],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for seed in ("1", "2")
    ]
    for process in running:
        said, _ = process.communicate()
        assert (process.returncode, said) == (0, "")  # and the exporter is silent
    assert (tmp_path / "1.onnx").read_bytes() == (tmp_path / "2.onnx").read_bytes()


@pytest.mark.parametrize(
    ("framework", "architecture", "side", "options"),
    [
        ("timm", "test_vit", 160, {"resize_mode": "squash", "crop_pct": 1.0}),
        ("timm", "mobilenetv3_small_050", 96, {"interpolation": "bilinear"}),
        ("torchvision", "resnet18", 64, {"interpolation": "bilinear", "crop_pct": 224 / 232}),
        ("torchvision", "squeezenet1_1", 64, {"interpolation": "bilinear"}),
    ],
)
def test_architectures_convert_and_run(
    framework, architecture, side, options, record_of, weights_of, photos, tmp_path
):
    record = record_of(architecture, framework=framework, side=side, **options)
    files = weights_of(record)
    folder = convert(record, files, tmp_path / "out")
    images = [photos["coffee.png"], photos["97x61"]]
    model = OnnxModel.open(folder.path, device="cpu", threads=1)
    reference = load_backbone(files, record).features(images)
    ours = np.stack([model.features(image) for image in images])
    assert np.abs(ours - reference).max() <= parity.PHOTO_TOLERANCE * np.abs(reference).max()


def test_an_existing_folder_is_kept_unless_replaced(tiny_model, weights_of, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        convert(tiny_model.manifest.record, {}, tmp_path / "out")


def test_failure_leaves_nothing(tiny_model, weights_of, tmp_path, monkeypatch):
    """Here the exported graph is broken on its way to the disk."""
    record = tiny_model.manifest.record
    whole = export.save

    def broken(model, file, **options):
        _negate(model, "conv_stem.weight")
        whole(model, file, **options)

    monkeypatch.setattr(export, "save", broken)
    with pytest.raises(ConversionError, match=r"differs from torch .* by \d"):
        convert(record, weights_of(record), tmp_path / "models" / "out")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(tiny_model, weights_of, tmp_path):
    files = weights_of(tiny_model.manifest.record)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
        with pytest.raises(StorageError, match="no space left"):
            convert(tiny_model.manifest.record, files, tmp_path / "models" / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "models").iterdir()) == []


def test_what_cannot_be_converted_is_said(tiny_model, weights_of, tmp_path):
    record = tiny_model.manifest.record
    files = weights_of(record)
    replaced = msgspec.structs.replace
    bad_labels = replaced(record, labels=("one", "two"))
    torn_label = replaced(record, labels=(*record.labels[1:], "one\ntwo"))
    how = replaced(record.preprocess, interpolation="lanczos")
    for wrong, message in [
        (replaced(record, framework="paddle"), "framework 'paddle', which cannot be converted"),
        (replaced(record, architecture="resnet51"), "no architecture 'resnet51'"),
        (replaced(record, num_classes=None), "holds more than weights|tensors"),
        (replaced(record, architecture="test_resnet"), "wrong architecture|tensors"),
        (replaced(record, head="nowhere"), "no module 'nowhere'"),
        (replaced(record, preprocess=None), "does not say how to prepare"),
        (replaced(record, preprocess=how), "lanczos"),
        (replaced(record, input_size=(3, 96, 128)), "shorter side"),
        (bad_labels, "12 classes but 2 labels"),
        (torn_label, "not one line"),
    ]:
        with pytest.raises(ConversionError, match=message):
            convert(wrong, files, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def _negate(model: onnx.ModelProto, name: str) -> None:
    [tensor] = [t for t in model.graph.initializer if t.name.endswith(name)]
    tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), tensor.name))


def test_a_network_without_a_classifier_gives_embeddings(record_of, weights_of, photos, tmp_path):
    record = record_of("test_vit", side=160, resize_mode="squash", crop_pct=1.0)
    record = msgspec.structs.replace(
        record, num_classes=None, labels=(), task="image-feature-extraction", modality="image"
    )
    files = weights_of(record)
    folder = convert(record, files, tmp_path / "out")
    assert set(folder.manifest.parity.outputs) == {"embedding"}
    assert folder.manifest.parity.top1_agreement is None
    session = onnxruntime.InferenceSession(folder.onnx, providers=["CPUExecutionProvider"])
    [ours] = session.run(None, {"image": photos["coffee.png"][None]})
    reference = load_backbone(files, record).features([photos["coffee.png"]])
    assert ours.shape == reference.shape == (1, 64)
    assert np.abs(ours - reference).max() <= parity.PHOTO_TOLERANCE * np.abs(reference).max()


def test_attention_is_spelt_out_in_the_graph_and_as_it_was_in_the_module(record_of):
    """BEiT's fused attention does not export; the module is afterwards what it was."""
    record = record_of("beit_base_patch16_224", side=224, resize_mode="squash", crop_pct=1.0)
    backbone = random_backbone(record, 0)
    backbone.module.model.blocks = backbone.module.model.blocks[:1]
    graph = export.export(backbone).graph
    assert "Softmax" in {node.op_type for node in graph.node if node.name != "probabilities"}
    [attention] = [m for m in backbone.module.modules() if hasattr(m, "fused_attn")]
    assert attention.fused_attn is True


@pytest.mark.parametrize("architecture", ["test_byobnet", "test_vit"])
def test_pictures_of_another_size(architecture, record_of, weights_of, tmp_path):
    record = record_of(architecture, side=160)
    folder = convert(record, weights_of(record), tmp_path / "out", options=Options(side=96))
    assert folder.manifest.record.input_size == (3, 96, 96)
    assert folder.manifest.preprocess["crop"] == [96, 96]
    assert folder.manifest.parity.max_rel_diff <= 1e-5
    # What it keeps is whole: the same network from its own weights.
    again = load_backbone(
        {"model.safetensors": folder.path / "model.safetensors"}, folder.manifest.record
    )
    assert parity.check(folder.onnx, again, tmp_path).max_rel_diff <= 1e-5


def test_pictures_of_a_size_that_cannot_be(record_of, weights_of, tmp_path):
    record = record_of("test_vit", side=160)
    files = weights_of(record)
    with pytest.raises(ConversionError, match="test_vit takes no pictures of 97 by 97 pixels"):
        convert(record, files, tmp_path / "bad", options=Options(side=97))
    with pytest.raises(UsageError, match="from 16 to 2048 pixels"):
        convert(record, files, tmp_path / "bad", options=Options(side=3))
    assert not (tmp_path / "bad").exists()


def test_what_is_padded_before_a_pooling_counts_in_it():
    """ONNX Runtime alone takes the pooling's own padding for it, which is less than anything."""
    tensor, node = helper.make_tensor_value_info, helper.make_node
    shape = [1, 1, 3, 3]
    pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads")
    graph = helper.make_graph(
        [
            node("Pad", ["x", "pads"], ["padded"]),
            node("MaxPool", ["padded"], ["y"], kernel_shape=[2, 2]),
        ],
        *("test", [tensor("x", TensorProto.FLOAT, shape)]),
        *([tensor("y", TensorProto.FLOAT, [1, 1, 4, 4])], [pads]),
    )
    export._part_pads_from_pools(graph)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [y] = session.run(None, {"x": np.full(shape, -1, np.float32)})
    np.testing.assert_array_equal(y[0, 0, 1:3, 1:3], -1)
    assert not y[0, 0, 0].any()


class _Clamped(torch.nn.Module):
    """Clamps one tensor twice, between other bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bounds", torch.tensor([-1.0, 1.0, -2.0, 0.5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low, high, lower, less = self.bounds
        x = x * 3
        return torch.clamp(x, low, high) + 10 * torch.clamp(x, lower, less)


def test_two_clamps_of_one_tensor_keep_their_own_bounds():
    module, x = _Clamped().eval(), torch.linspace(-1, 1, 10)
    program = torch.onnx.export(module, (x,), dynamo=True, opset_version=20, verbose=False)
    export._keep_constants(program.model.graph)
    model = program.model_proto
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [y] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(y, module(x).numpy(), rtol=1e-6)
