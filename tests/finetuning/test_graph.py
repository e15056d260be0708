from __future__ import annotations

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
from finetuning import graph
from finetuning.heads import LinearHead


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
    head = LinearHead(weight, np.array([0.0, 1.0, -1.0]), 1.0, {})
    tuned = graph.with_head(base, head, {"tlhub.labels": "[]", "new": "fact"})

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
