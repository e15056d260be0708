from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from catalog.errors import ConversionError
from converters.folder import ModelFolder
from converters.graph import with_outputs
from finetuning import graph
from finetuning.heads import FittedHead
from finetuning.pools import with_stages
from finetuning.stages import LAST, stages_of


def run(model: onnx.ModelProto, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 90, 131, 3), np.uint8)


def test_the_new_head_is_on_the_old_embedding_and_the_old_head_is_gone(
    tiny: ModelFolder, photo: np.ndarray
) -> None:
    base = graph.load(tiny.onnx)
    before = run(base, photo)
    width = before["embedding"].shape[1]
    weight = np.random.default_rng(1).normal(size=(3, width))
    head = FittedHead(weight, np.array([0.0, 1.0, -1.0]))
    tuned = graph.with_head(base, [LAST], head, {"tlhub.labels": "[]", "new": "fact"})

    after = run(tuned, photo)
    np.testing.assert_array_equal(after["embedding"], before["embedding"])
    np.testing.assert_allclose(after["logits"], head.logits(before["embedding"]), rtol=1e-4)
    np.testing.assert_allclose(after["probabilities"].sum(axis=1), 1, rtol=1e-6)
    assert tuned.ByteSize() < base.ByteSize() - 7 * width * 4 + 4096
    assert not [item for item in tuned.graph.initializer if list(item.dims) == [10, width]]
    props = {item.key: item.value for item in tuned.metadata_props}
    assert (props["tlhub.labels"], props["new"], props["tlhub.task"]) == (
        "[]",
        "fact",
        "image-classification",
    )


def test_reframed_to_the_whole_photo_the_network_sees_all_of_it(
    tiny: ModelFolder, photo: np.ndarray
) -> None:
    base = graph.load(tiny.onnx)
    own = tiny.manifest.record.preprocess
    assert own is not None
    whole = msgspec.structs.replace(own, resize_mode="squash", crop_pct=1.0)
    seen = run(graph.reframe(base, whole, (64, 64)), photo[:1])["embedding"]
    # The same by PIL: squashed to 64 x 64, in a frame of 73 x 73 that the base's own way crops off.
    framed = Image.new("RGB", (73, 73))
    framed.paste(Image.fromarray(photo[0]).resize((64, 64), Image.Resampling.BICUBIC), (4, 4))
    expected = run(base, np.asarray(framed)[None])["embedding"]
    assert np.abs(seen - expected).max() < 1e-2 * np.abs(expected).max()
    cropped = run(base, photo[:1])["embedding"]
    assert np.abs(cropped - expected).max() > 5e-2 * np.abs(expected).max()


def test_a_graph_without_an_embedding_is_refused_with_its_outputs(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 3]) for n in ("x", "y")]
    node = helper.make_node("Relu", ["x"], ["y"])
    onnx.save(
        helper.make_model(helper.make_graph([node], "g", values[:1], values[1:])),
        str(tmp_path / "m.onnx"),
    )
    with pytest.raises(ConversionError, match=r"no output 'embedding' .* it has y") as caught:
        graph.load(tmp_path / "m.onnx")
    assert caught.value.hint


def test_a_cut_takes_the_layers_above_it_out_of_the_graph(
    tiny: ModelFolder, photo: np.ndarray
) -> None:
    base = graph.load(tiny.onnx)
    stages = stages_of(tiny, base)
    assert stages[-1] == LAST
    low = stages[0]
    tapped = run(with_stages(base, stages), photo)
    width = tapped[low.output].shape[1]
    head = FittedHead(np.random.default_rng(1).normal(size=(3, width)), np.zeros(3))
    tuned = graph.with_head(base, [low], head, {})

    after = run(tuned, photo)
    np.testing.assert_array_equal(after["embedding"], tapped[low.output])
    np.testing.assert_allclose(after["logits"], head.logits(after["embedding"]), rtol=1e-4)
    layer = run(with_outputs(base, [low.layer]), photo)[low.layer]
    np.testing.assert_allclose(after["embedding"], layer.mean(axis=(2, 3)), rtol=1e-4, atol=1e-6)
    made = graph.tensors_of(tuned)
    above = {stage.layer for stage in stages[:-1] if stage.share > low.share}
    assert above
    assert not above & made
    assert tuned.ByteSize() < base.ByteSize() / 2
    read = {name for node in tuned.graph.node for name in node.input}
    assert {item.name for item in tuned.graph.initializer} <= read
    listed = {item.key: item.value for item in tuned.metadata_props}["tlhub.layers"]
    names = [layer["name"] for layer in json.loads(listed)]
    assert low.layer in names
    assert not set(names) & above


def test_a_run_can_be_cut_again_and_again(tiny: ModelFolder, photo: np.ndarray) -> None:
    base = graph.load(tiny.onnx)
    *_, low, last = stages_of(tiny, base)
    for _ in range(3):
        tapped = run(with_stages(base, [low, last]), photo)
        expected = np.hstack([tapped[low.output], tapped[last.output]])
        head = FittedHead(np.ones((2, expected.shape[1])), np.zeros(2))
        base = graph.with_head(base, [low, last], head, {})
        after = run(base, photo)
        np.testing.assert_array_equal(after["embedding"], expected)
        np.testing.assert_allclose(after["logits"], head.logits(expected), rtol=1e-4)
