from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from catalog.errors import (
    DataError,
    IntegrityError,
    NotFoundError,
    TlhubError,
    UsageError,
)
from converters import session
from converters.image_model import ImageModel
from converters.runtime import OnnxModel, Prediction


@pytest.fixture(scope="module")
def model(tiny_model) -> OnnxModel:
    return OnnxModel.open(tiny_model.path, device="cpu", threads=1)


def test_paths_arrays_and_pil_images_of_any_size_in_order(model, photos, tmp_path):
    Image.fromarray(photos["coffee.png"]).save(tmp_path / "coffee.png")
    many = [
        photos["china.jpg"],
        tmp_path / "coffee.png",
        str(tmp_path / "coffee.png"),
        Image.fromarray(photos["97x61"]),
        *[photos["flower.jpg"], photos["one pixel"]] * 9,
    ]
    together = model.predict(many, top=12)
    alone = [model.predict([image], top=12)[0] for image in many]
    for one, other in zip(together, alone, strict=True):
        assert [p.label for p in one] == [p.label for p in other]
        np.testing.assert_allclose([p.score for p in one], [p.score for p in other], atol=1e-6)
    assert together[1] == together[2] != together[0]
    scores = [prediction.score for prediction in together[0]]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)


def test_calling_with_one_and_with_many(model, photos):
    china = photos["china.jpg"]
    assert model(china, top=1) == model([china], top=1)[0] == model.predict([china], top=1)[0]
    assert isinstance(model(china)[0], Prediction)
    assert model([]) == []
    with pytest.raises(UsageError, match="top is 0"):
        model(china, top=0)
    with pytest.raises(NotFoundError):
        model("nowhere.jpg")
    with pytest.raises(DataError):
        model(china / 255)


def test_large_photos_go_through_a_few_at_a_time(tiny_model, monkeypatch):
    """Sixteen photos of 12 megapixels are 576 MB decoded, and several times that inside."""
    model = OnnxModel.open(tiny_model.path, device="cpu")
    seen = []

    def ran(images, _output):
        seen.append(len(images))
        return [np.zeros((len(images), 12), np.float32)]

    monkeypatch.setattr(model, "_run", ran)
    small, large = np.zeros((10, 10, 3), np.uint8), np.zeros((3000, 4000, 3), np.uint8)
    huge = np.zeros((6000, 6000, 3), np.uint8)
    assert len(model.predict([large] * 5 + [huge] + [small] * 20)) == 26
    assert seen == [2, 2, 1, 1, 16, 4]


def test_features_are_the_embedding(model, tiny_model, photos):
    embedding = model.features(photos["china.jpg"])
    assert (embedding.shape, embedding.dtype) == ((256,), np.float32)
    assert np.abs(embedding - model.features(photos["flower.jpg"])).max() > 1e-3


def test_a_lone_file_knows_its_labels_and_uid(model, tiny_model, photos):
    lone = OnnxModel.open(tiny_model.onnx)
    assert (lone.uid, lone.labels) == ("test/test_efficientnet", tiny_model.labels)
    assert lone(photos["china.jpg"])[0].label == model(photos["china.jpg"])[0].label


def test_without_labels_a_class_goes_by_its_number(tiny_model, photos, tmp_path):
    graph = onnx.load(tiny_model.onnx)
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "bare.onnx")
    bare = OnnxModel.open(tmp_path / "bare.onnx")
    assert bare.uid == "bare"
    named = OnnxModel.open(tiny_model.onnx)
    for nameless, name in zip(bare(photos["china.jpg"]), named(photos["china.jpg"]), strict=True):
        assert name.label == f"class {nameless.label}"


def test_running_needs_neither_torch_nor_onnx(tiny_model, tmp_path, photos):
    Image.fromarray(photos["china.jpg"]).save(tmp_path / "china.png")
    script = f"""
import sys
import converters.runtime
heavy = {{"torch", "torchvision", "timm", "onnx", "onnxscript", "sklearn"}}
assert not (heavy | {{"onnxruntime"}}) & set(sys.modules), "import"
from converters.runtime import OnnxModel
model = OnnxModel.open({str(tiny_model.path)!r})
model({str(tmp_path / "china.png")!r})
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.skipif(session.cuda_driver(), reason="this machine has a CUDA device")
def test_cuda_that_is_not_there_is_an_error_and_auto_is_silent(tiny_model, capfd):
    with pytest.raises(UsageError, match="no CUDA device") as caught:
        OnnxModel.open(tiny_model.path, device="cuda")
    assert "onnxruntime-gpu" in caught.value.hint
    assert OnnxModel.open(tiny_model.path, device="auto").device == "cpu"
    assert capfd.readouterr() == ("", "")


def test_onnx_runtime_falling_back_to_the_cpu_is_not_taken_for_cuda(tiny_model, monkeypatch):
    """A driver is there, but ONNX Runtime cannot use it: it runs on the CPU and raises nothing."""
    monkeypatch.setattr(session, "cuda_driver", lambda: True)
    opened = session._open

    def fallen_back(file, model, _provider, threads):
        return opened(file, model, "CPUExecutionProvider", threads)

    monkeypatch.setattr(session, "_open", fallen_back)
    with pytest.raises(UsageError, match="cannot use the CUDA device"):
        OnnxModel.open(tiny_model.path, device="cuda")
    assert OnnxModel.open(tiny_model.path, device="auto").device == "cpu"


def test_a_graph_that_cannot_be_split_runs_on_the_cpu_unless_cuda_is_asked_for(
    tiny_model, photos, tmp_path, monkeypatch
):
    graph = onnx.load(tiny_model.onnx)
    for node in graph.graph.node:
        for names in (node.input, node.output):
            names[:] = ["x" if name == "pixel_values" else name for name in names]
    del graph.graph.value_info[:]
    onnx.save(graph, tmp_path / "lone.onnx")
    monkeypatch.setattr(session, "cuda_driver", lambda: True)
    lone = OnnxModel.open(tmp_path / "lone.onnx")
    assert lone.device == "cpu"
    assert lone(photos["china.jpg"])
    with pytest.raises(UsageError, match="no tensor `pixel_values`"):
        OnnxModel.open(tmp_path / "lone.onnx", device="cuda")


def test_on_cuda_nothing_goes_to_stdout_falls_back_later_or_rounds_to_tf32(
    tiny_model, monkeypatch, capsys
):
    """As far as it can be told without a GPU: what ONNX Runtime is asked for."""
    asked = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, model, options, providers):
            sys.stdout.write("*************** EP Error ***************")
            asked.append(providers)
            super().__init__(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(session, "cuda_driver", lambda: True)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write("no libcudnn"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    opened, device = session.open_sessions(tiny_model.onnx, "auto", 1)
    assert device == "cpu"
    assert asked[1] == [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
    assert not opened[0]._enable_fallback
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "libcudnn" in captured.err


def test_a_run_that_fails_is_said_with_what_it_was_given(model, monkeypatch):
    with pytest.raises(TlhubError, match=r"fails on the CPU, given uint8 \(1, 0, 4, 3\)"):
        model._run(np.zeros((1, 0, 4, 3), np.uint8), ["probabilities"])


@pytest.mark.parametrize("inline", [session.MAX_INLINE_BYTES, 0])
def test_in_two_halves_it_computes_the_same(inline, tiny_model, model, photos, monkeypatch):
    """As on a GPU, where the preprocessing stays on the CPU; over 2 GB from files."""
    monkeypatch.setattr(session, "MAX_INLINE_BYTES", inline)
    halves = [
        session._open_part(tiny_model.onnx, part, "CPUExecutionProvider", 1)
        for part in session.split(tiny_model.onnx)
    ]
    split = ImageModel(halves, uid=model.uid, labels=model.labels, device="cuda", file=model.file)
    for photo in photos.values():
        np.testing.assert_allclose(split.features(photo), model.features(photo), atol=1e-5)


def test_a_half_has_what_only_a_branch_reads(tmp_path):
    """As exported detectors of two stages have it; `pixel_values` has no shape that is known."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        g (uint8[1, height, width, 3] image) => (float[1, n] embedding)
        <float[1] weight = {3.0}, float zero = {0.0}> {
          pixel_values = Cast<to = 1>(image)
          scaled = Mul(pixel_values, weight)
          largest = ReduceMax<keepdims = 0>(pixel_values)
          bright = Greater(largest, zero)
          chosen = If(bright) <
            then_branch = one () => (float[a, b, c, d] x) { x = Add(scaled, weight) },
            else_branch = other () => (float[a, b, c, d] y) { y = Neg(pixel_values) }
          >
          embedding = Flatten<axis = 1>(chosen)
        }
    """)
    file = tmp_path / "graph.onnx"
    onnx.save(model, file)
    front, back = (
        session._open_part(file, part, "CPUExecutionProvider", 1) for part in session.split(file)
    )
    for image in (np.full((1, 2, 2, 3), 5, np.uint8), np.zeros((1, 2, 2, 3), np.uint8)):
        [pixels] = front.run(None, {"image": image})
        [seen] = back.run(None, {"pixel_values": pixels})
        [whole] = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(
            None, {"image": image}
        )
        np.testing.assert_array_equal(seen, whole)


def test_what_cannot_be_run_is_said(tiny_model, tmp_path):
    with pytest.raises(NotFoundError, match="no model at"):
        OnnxModel.open(tmp_path / "nothing.onnx")
    with pytest.raises(NotFoundError, match="not a model folder"):
        OnnxModel.open(tmp_path)
    with pytest.raises(UsageError, match="no device 'tpu'"):
        OnnxModel.open(tiny_model.path, device="tpu")
    with pytest.raises(UsageError, match="threads is 0"):
        OnnxModel.open(tiny_model.path, threads=0)
    front, back = session.split(tiny_model.onnx)
    onnx.save(back, tmp_path / "back.onnx")
    onnx.save(front, tmp_path / "front.onnx")
    for half in ("back.onnx", "front.onnx"):
        with pytest.raises(UsageError, match="no image or text model"):
            OnnxModel.open(tmp_path / half)


def test_labels_that_are_not_one_for_each_class(tiny_model, tmp_path):
    graph = onnx.load(tiny_model.onnx)
    for item in graph.metadata_props:
        if item.key == "tlhub.labels":
            item.value = '["only one"]'
    onnx.save(graph, tmp_path / "odd.onnx")
    with pytest.raises(IntegrityError, match="1 labels for 12 classes"):
        OnnxModel.open(tmp_path / "odd.onnx")
