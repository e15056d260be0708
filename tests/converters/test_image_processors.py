"""How photos are prepared by transformers, and by the nodes in front of a graph of ours."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import transformers
from onnx import TensorProto, helper

from catalog.errors import ConversionError
from converters.image_processors import CLASSES, ImageProcessor
from converters.preprocess import onnx_nodes

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
# As they are on the hub, old and new: the class, and what its file says.
FILES = {
    "vit, old": ("ViT", {"do_normalize": True, "do_resize": True, "size": 48,
                         "image_mean": [0.5] * 3, "image_std": [0.5] * 3}),
    "vit, new": ("ViT", {"image_processor_type": "ViTImageProcessorFast", "resample": 3,
                         "size": {"height": 48, "width": 64}, "rescale_factor": 1 / 255}),
    "swin": ("ViT", {"feature_extractor_type": "ViTFeatureExtractor", **_IMAGENET, "resample": 3,
                     "size": 56}),
    "deit": ("DeiT", {"feature_extractor_type": "DeiTFeatureExtractor", **_IMAGENET, "size": 64,
                      "crop_size": 55, "do_center_crop": True, "resample": 3}),
    "clip, old": ("CLIP", {"feature_extractor_type": "CLIPFeatureExtractor", "size": 48,
                           "crop_size": 48, "resample": 3}),
    "clip, new": ("CLIP", {"image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True,
                           "size": {"shortest_edge": 49},
                           "crop_size": {"height": 46, "width": 46}}),
    "siglip": ("Siglip", {"image_processor_type": "SiglipImageProcessor", "resample": 3,
                          "size": {"height": 48, "width": 48}}),
    "dinov2": ("Bit", {"image_processor_type": "BitImageProcessor", **_IMAGENET,
                       "size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}}),
    "convnext": ("ConvNext", {"feature_extractor_type": "ConvNextFeatureExtractor", **_IMAGENET,
                              "crop_pct": 0.95, "resample": 3, "size": 56}),
    "convnext, large": ("ConvNext", {"image_processor_type": "ConvNextImageProcessor",
                                     "size": {"shortest_edge": 384}}),
    "resnet": ("ConvNext", {"image_processor_type": "ConvNextFeatureExtractor", **_IMAGENET,
                            "crop_pct": 0.875, "resample": 2, "size": {"shortest_edge": 64}}),
    "beit": ("Beit", {"size": 48, "do_center_crop": False, "crop_size": 48}),
    "mobilenet": ("MobileNetV2", {"size": {"shortest_edge": 64}, "crop_size": 56}),
    "not normalized": ("ViT", {"size": 48, "do_normalize": False}),
    "of 0 to 255": ("ViT", {"size": 48, "do_rescale": False, "do_normalize": False}),
    "another scale": ("ViT", {"size": 48, "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3,
                              "image_std": [1.0, 2.0, 0.5]}),
}  # fmt: skip


def _front(said: ImageProcessor) -> onnxruntime.InferenceSession:
    how, size = said.recipe()
    nodes, constants = onnx_nodes(how, size, source="image", target="pixel_values")
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, *size])
    graph = helper.make_graph(nodes, "front", [image], [pixels], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def _levels(said: ImageProcessor) -> np.ndarray:
    """How much of its range one of 256 levels is, by channel."""
    how, _ = said.recipe()
    return 1 / 255 / np.array(how.std).reshape(3, 1, 1)


@pytest.mark.parametrize(
    ("backend", "most", "levels"),
    [
        ("", 0.013, 2),  # on torchvision, as `AutoImageProcessor` gives it
        ("Pil", 0.002, 1),  # on Pillow, as it was before transformers 5
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_the_front_does_what_the_image_processor_does(name, backend, most, levels, photos):
    """Few pixels differ, by a level of 256; that on torchvision rounds a few twice.

    Pillow 13 begins vertically with photos that are tall, and is up to 9 levels from itself before:
    see `converters.preprocess`.
    """
    kind, file = FILES[name]
    said = ImageProcessor.of(file, f"{kind}ImageProcessor")
    assert said.name == f"{kind}ImageProcessor"
    theirs = getattr(transformers, f"{said.name}{backend}").from_dict(dict(file))
    graph, level = _front(said), _levels(said)
    for shown, photo in photos.items():
        if backend == "Pil" and shown in {"tall", "portrait"}:
            continue
        [[ours]] = graph.run(None, {"image": photo[None]})
        [expected] = theirs(photo, input_data_format="channels_last").pixel_values
        apart = np.abs(ours - np.asarray(expected)) / level
        assert apart.max() < levels + 0.01, shown
        assert (apart > 0.5).mean() <= most, shown


@pytest.mark.parametrize("name", FILES)
def test_after_the_resize_nothing_differs(name):
    """On photos that have the size already: the crop, the scale and the normalization alone."""
    kind, file = FILES[name]
    said = ImageProcessor.of(file, f"{kind}ImageProcessor")
    theirs = getattr(transformers, said.name).from_dict(dict(file))
    how, size = said.recipe()
    height, width = (int(side / how.crop_pct + 1e-6) for side in size)
    shapes = [(height, width)]
    if how.resize_mode == "shortest":
        shapes += [(height, width + n) for n in (1, 2, 3)] + [(height + 31, width)]
    random = np.random.default_rng(0)
    for shape in shapes:
        photo = random.integers(0, 256, (*shape, 3), np.uint8)
        [[ours]] = _front(said).run(None, {"image": photo[None]})
        [expected] = theirs(photo, input_data_format="channels_last").pixel_values
        apart = np.abs(ours - np.asarray(expected)) / _levels(said)
        assert apart.max() < 1e-4


@pytest.mark.parametrize("kind", CLASSES)
def test_what_a_file_leaves_out_is_as_the_class_has_it(kind):
    theirs = getattr(transformers, kind)()
    ours = ImageProcessor.of({}, kind).options
    for key, value in ours.items():
        said = getattr(theirs, key)
        if key == "crop_size" and not ours["do_center_crop"]:
            continue
        if isinstance(value, dict):
            assert {k: v for k, v in dict(said).items() if v is not None} == value
        elif isinstance(value, bool):
            assert bool(said) == value
        else:
            assert (tuple(said) if isinstance(said, list) else said) == value


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ({"image_processor_type": "NewImageProcessor"}, "NewImageProcessor, is not known"),
        ({"auto_map": {"AutoImageProcessor": "x.Y"}}, "code of its own"),
        ({"image_processor_type": ["x"]}, "makes no sense"),
        ({"do_resize": False}, "not resized"),
        ({"resample": 1}, "resized by lanczos"),
        ({"resample": 0}, "resized by nearest"),
        ({"resample": "cubic"}, "resized by cubic"),
        ({"do_pad": True}, "do_pad"),
        ({"size": {"shortest_edge": 48}}, "not cropped"),
        ({"size": {"longest_edge": 48}}, "resized to longest_edge"),
        ({"size": {"shortest_edge": 48, "longest_edge": 60}, "do_center_crop": True},
         "resized to shortest_edge, longest_edge"),
        ({"size": 48, "do_center_crop": True, "crop_size": 56}, "padded"),
        ({"size": {"shortest_edge": 60}, "do_center_crop": True,
          "crop_size": {"height": 48, "width": 56}}, "cropped to"),
        ({"size": {"height": 50, "width": 60}, "do_center_crop": True, "crop_size": 48},
         "cropped to"),
        ({"size": 10**9}, "size makes no sense"),
        ({"size": -5}, "size makes no sense"),
        ({"size": True}, "size makes no sense"),
        ({"size": {"height": "x"}}, "size makes no sense"),
        ({"size": {}}, "size makes no sense"),
        ({"crop_size": {"shortest_edge": 5}}, "no height and width"),
        ({"do_normalize": "no"}, "do_normalize makes no sense"),
        ({"rescale_factor": 0}, "rescale_factor makes no sense"),
        ({"image_mean": [0.5]}, "image_mean makes no sense"),
        ({"image_std": [0, 0, 0]}, "image_std makes no sense"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"height": 9, "width": 9}},
         "wants a shortest_edge"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": 64, "crop_pct": 1.5},
         "crop_pct makes no sense"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": 64, "do_center_crop": True},
         "cropped twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_in_a_graph_is_refused(file, said):
    with pytest.raises(ConversionError, match=said):
        ImageProcessor.of(file, "ViTImageProcessor").recipe()
