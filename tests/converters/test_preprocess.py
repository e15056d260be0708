from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from torchvision import transforms

from catalog.record import Preprocess
from converters import preprocess as subject

SIDE = 224


def _graph(preprocess: Preprocess) -> onnxruntime.InferenceSession:
    nodes, constants = subject.onnx_nodes(
        preprocess, (SIDE, SIDE), source="image", target="pixel_values"
    )
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    graph = helper.make_graph(nodes, "front", [image], [pixels], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def _levels(interpolation: str, **options: object) -> Preprocess:
    """A recipe whose tensor is in levels of 0..255."""
    return Preprocess(mean=(0.0,) * 3, std=(1 / 255,) * 3, interpolation=interpolation, **options)


@pytest.mark.parametrize(
    ("how", "most"),
    [
        (_levels("bicubic", crop_pct=0.875), 1e-3),
        (_levels("bicubic", crop_pct=0.95), 1e-3),
        (_levels("bicubic", resize_mode="squash"), 1e-3),
        (_levels("bicubic", crop_pct=0.9, resize_mode="squash"), 1e-3),
        (_levels("bilinear", crop_pct=224 / 232), 2.5e-2),
        (_levels("bilinear", resize_mode="squash"), 2.5e-2),
    ],
)
def test_pixels_are_those_of_pil(how, most, photos):
    """At most one level apart, and that in at most one pixel of a thousand (bicubic)."""
    graph = _graph(how)
    for name, photo in photos.items():
        [[ours]] = graph.run(None, {"image": photo[None]})
        theirs = subject.pixel_values(photo, how, (SIDE, SIDE)).numpy()
        apart = np.abs(ours - theirs)
        assert apart.max() < 1.01, name
        assert (apart > 0.5).mean() <= most, name


def test_the_reference_is_torchvision(photos):
    """On photos whose passes Pillow takes in the old order; see the module's docstring."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    how = Preprocess(mean=mean, std=std, interpolation="bicubic", crop_pct=0.875)
    theirs = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    for photo in photos.values():
        expected = theirs(Image.fromarray(photo))
        ours = subject.pixel_values(photo, how, (SIDE, SIDE))
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)


def test_after_the_resize_nothing_differs_by_a_bit():
    how = Preprocess(
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        interpolation="bicubic",
        crop_pct=0.875,
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 256, 291, 3), np.uint8)
    [ours] = _graph(how).run(None, {"image": images})
    theirs = [subject.pixel_values(image, how, (SIDE, SIDE)).numpy() for image in images]
    np.testing.assert_array_equal(ours, np.stack(theirs))


def test_a_fraction_of_whole_numbers_gives_the_whole_number_back():
    for side, resized in [(224, 232), (224, 256), (299, 342), (384, 384), (518, 518)]:
        how = _levels("bicubic", crop_pct=side / resized)
        assert subject.resized_side(side, how) == resized
    assert subject.resized_side(224, _levels("bicubic", crop_pct=0.95)) == 235
