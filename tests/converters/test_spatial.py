"""Segmentation networks and detectors of torchvision, with random weights that are alive."""

from __future__ import annotations

import io

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torchvision import models
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.transforms import functional as transforms

from benchmarks.architectures.alive import enliven_spatial
from benchmarks.architectures.page import REASONS
from catalog.errors import ConversionError, UsageError
from catalog.record import Artifact, License, ModelRecord, Preprocess
from converters import parity, precision, weights
from converters.convert import WEIGHTS, Options, convert
from converters.detection import _resized
from converters.detection_model import DetectionModel, mask_in
from converters.evidence import sample_photos
from converters.frameworks.torchvision import _others
from converters.registry import load_backbone, obstacle, random_backbone
from converters.runtime import OnnxModel
from converters.segmentation_model import SegmentationModel

LABELS = ("__background__", "cat", "dog", "bus", "cup")
# With random weights rounding decides what they find.
BY_CHANCE = {name.removeprefix("torchvision/") for name in REASONS}
SEGMENTER, DETECTOR = "lraspp_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large"


def record_of(architecture: str, **known: object) -> ModelRecord:
    task = "object-detection"
    if architecture in models.list_models(module=models.segmentation):
        task = "image-segmentation"
        how = Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), interpolation="bilinear")
        known = {"preprocess": how, "input_size": (3, 96, 96), **known}
    return ModelRecord(
        uid=f"test/{architecture}",
        task=task,
        modality="image",
        framework="torchvision",
        architecture=architecture,
        num_classes=len(LABELS),
        labels=LABELS,
        license=License(scope="weights", spdx="BSD-3-Clause"),
        **known,
    )


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    made = {}

    def get(architecture: str):
        if architecture not in made:
            place = tmp_path_factory.mktemp("spatial")
            record = record_of(architecture)
            backbone = random_backbone(record, 0)
            enliven_spatial(backbone)
            weights.write(backbone.module.model.state_dict(), place / WEIGHTS)
            folder = convert(record, {WEIGHTS: place / WEIGHTS}, place / "out")
            made[architecture] = folder, load_backbone({WEIGHTS: place / WEIGHTS}, record)
        return made[architecture]

    return get


def test_a_segmentation_network_gives_a_class_for_each_pixel(converted, tmp_path):
    folder, backbone = converted(SEGMENTER)
    figures = folder.manifest.parity
    assert figures.max_rel_diff <= figures.tolerance <= 1e-4
    assert figures.batch_sizes == (1, 2, 5)
    assert figures.top1_agreement > 0.99
    assert folder.manifest.exporter == "torch.onnx, dynamo=True"
    model = OnnxModel.open(folder.path, device="cpu")
    assert isinstance(model, SegmentationModel)
    photo = sample_photos()["china.jpg"][:301, :203]
    answer = model(photo)
    assert answer.class_map.shape == (301, 203)
    assert sum(share.score for share in model.predict([photo], top=99)[0].shares) == pytest.approx(
        1
    )
    # By torchvision's own transforms and network, each pixel of the photo from where it lies.
    resized = transforms.resize(Image.fromarray(photo), [96])
    tensor = transforms.normalize(transforms.to_tensor(resized), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    with torch.no_grad():
        logits = backbone.module.model(tensor[None])["out"]
    classes = logits.argmax(1)[None].float()
    expected = torch.nn.functional.interpolate(classes, (301, 203), mode="nearest-exact")[0, 0]
    assert len(np.unique(answer.class_map)) > 1
    assert (answer.class_map == expected.numpy()).mean() > 0.99
    answer.save(tmp_path / "map.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "map.png")), answer.class_map)
    with pytest.raises(UsageError, match=r"no \.png"):
        answer.save(tmp_path / "map.jpg")
    several = model([photo, photo[:, ::-1], photo[:90]])
    assert [one.class_map.shape for one in several] == [(301, 203), (301, 203), (90, 203)]
    with pytest.raises(UsageError, match="no output `embedding`"):
        model.features(photo)


def test_a_detector_finds_what_torchvision_finds(converted):
    folder, backbone = converted(DETECTOR)
    assert folder.manifest.parity.batch_sizes == (1,)
    assert "dynamo=False: torch.export cannot follow" in folder.manifest.exporter
    facts = {p.key: p.value for p in onnx.load(folder.onnx).metadata_props}
    assert facts["tlhub.exporter"] == folder.manifest.exporter
    assert msgspec.json.decode(facts["tlhub.labels"]) == list(LABELS)
    model = OnnxModel.open(folder.path, device="cpu")
    assert isinstance(model, DetectionModel)
    for photo in (*sample_photos().values(), sample_photos()["china.jpg"][:61, :97]):
        found = model.predict([photo], top=20, min_score=0.1)[0]
        with torch.no_grad():
            [expected] = backbone.module.model([transforms.to_tensor(photo)])
        assert len(found) == 20
        known = [*zip(*(expected[k].tolist() for k in ("labels", "scores", "boxes")), strict=True)]
        for thing in found:  # rounding decides the order of what is tied
            assert any(
                thing.label == LABELS[label]
                and thing.score == pytest.approx(score, abs=1e-3)
                and thing.box == pytest.approx(box, abs=0.2)
                for label, score, box in known
            )
        scores = [thing.score for thing in found]
        assert scores == pytest.approx(sorted(scores, reverse=True))
        assert scores == pytest.approx(expected["scores"][:20].tolist(), abs=1e-3)
    assert model.predict([photo], min_score=0.9999) == [[]]
    assert len(model([photo, photo[::2]], top=3)) == 2


@pytest.mark.parametrize("architecture", [SEGMENTER, DETECTOR])
def test_another_precision_is_refused(architecture, converted, tmp_path):
    folder, _ = converted(architecture)
    with pytest.raises(UsageError, match="a detector or a segmentation network"):
        precision.add(folder, ["fp16"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("architecture", [SEGMENTER, DETECTOR])
def test_other_weights_are_told_apart(architecture, converted, tmp_path):
    folder, backbone = converted(architecture)
    weight = next(p for n, p in backbone.module.model.named_parameters() if p.ndim == 4)
    with torch.no_grad():
        weight.neg_()
    try:
        with pytest.raises(ConversionError, match="is the first part that differs"):
            parity.check(folder.onnx, backbone, tmp_path)
    finally:
        with torch.no_grad():
            weight.neg_()


def test_another_class_map_is_told_apart(converted, tmp_path):
    folder, backbone = converted(SEGMENTER)
    graph = onnx.load(folder.onnx)
    [gather] = [node for node in graph.graph.node if "class_map" in node.output]
    gather.attribute[0].i = 1  # the width by the height's places
    gather.input[1] = gather.input[1].replace("width", "height")
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(ConversionError, match="class_map"):
        parity.check(tmp_path / "model.onnx", backbone, tmp_path)


@pytest.mark.slow
def test_the_bare_network_takes_any_size(converted, tmp_path):
    folder, _ = converted(SEGMENTER)
    files, bare = {WEIGHTS: folder.path / WEIGHTS}, Options(preprocess=False)
    made = convert(record_of(SEGMENTER), files, tmp_path / "out", options=bare)
    session = onnxruntime.InferenceSession(made.onnx, providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_outputs()] == ["logits"]
    [logits] = session.run(None, {"pixel_values": np.zeros((3, 3, 77, 130), np.float32)})
    assert logits.shape == (3, len(LABELS), 77, 130)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_the_photos_new_size_is_torchvisions_to_the_pixel():
    class Resizes(torch.nn.Module):
        def forward(self, image):
            return _resized(320, 640, image)[0]

    stream = io.BytesIO()
    axes = {"x": {1: "h", 2: "w"}}
    example = (torch.zeros(3, 50, 60),)
    torch.onnx.export(
        Resizes(), example, stream, input_names=["x"], dynamic_axes=axes, dynamo=False
    )
    session = onnxruntime.InferenceSession(stream.getvalue(), providers=["CPUExecutionProvider"])
    for height in range(40, 90):
        for width in (height, 97, 333):
            [seen] = session.run(None, {"x": np.zeros((3, height, width), np.float32)})
            scale = min(320 / min(height, width), 640 / max(height, width))
            assert seen.shape[1:] == (int(height * scale), int(width * scale)), (height, width)


def test_masks_are_laid_over_the_photo_as_torchvision_lays_them():
    random = torch.Generator().manual_seed(0)
    masks = torch.rand(12, 1, 28, 28, generator=random)
    corners = torch.rand(12, 4, generator=random) * torch.tensor([90, 60, 90, 60])
    one, other = corners[:, :2], corners[:, 2:]
    boxes = torch.cat([torch.minimum(one, other), torch.maximum(one, other)], 1)
    expected = paste_masks_in_image(masks, boxes, (60, 90))[:, 0] > 0.5
    for mask, box, whole in zip(masks, boxes, expected, strict=True):
        seen = mask_in(mask[0].numpy(), box.numpy(), 60, 90)
        assert (seen != whole.numpy()).sum() <= 1, box  # a tie at 0.5


def test_what_torchvision_has_besides_is_refused_with_the_reason():
    record = record_of("quantized_resnet50")
    record = msgspec.structs.replace(record, task="image-classification")
    assert "torch's own kernels" in obstacle(record)
    video = msgspec.structs.replace(record, architecture="r3d_18", modality="video", task=None)
    assert "video clips" in obstacle(video)
    assert obstacle(record_of(DETECTOR)) is None
    assert obstacle(msgspec.structs.replace(record_of(SEGMENTER), preprocess=None)) is None


def test_the_first_weights_of_torchvision_have_no_epsilon():
    name = "fasterrcnn_resnet50_fpn"
    file = "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    artifact = Artifact(path=file, format="pytorch", urls=("https://example.com",))
    for artifacts, epsilon in (((artifact,), 0.0), ((), 1e-5)):
        model = random_backbone(record_of(name, artifacts=artifacts), 0).module.model
        assert model.backbone.body.layer1[0].bn1.eps == epsilon


def test_training_only_weights_are_left_out_and_other_names_are_said(tmp_path):
    record = record_of(SEGMENTER)
    state = random_backbone(record, 0).module.model.state_dict()
    state["aux_classifier.0.weight"] = torch.zeros(3)
    weights.write(state, tmp_path / WEIGHTS)
    load_backbone({WEIGHTS: tmp_path / WEIGHTS}, record)
    state["other"] = torch.zeros(3)
    weights.write(state, tmp_path / WEIGHTS)
    with pytest.raises(ConversionError, match="other names"):
        load_backbone({WEIGHTS: tmp_path / WEIGHTS}, record)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted({*_others()} - {SEGMENTER, DETECTOR} - BY_CHANCE))
def test_all_others_convert(architecture, converted):
    folder, _ = converted(architecture)
    model = OnnxModel.open(folder.path, device="cpu")
    assert model(np.zeros((90, 70, 3), np.uint8)) is not None
    assert model(sample_photos()["china.jpg"])
