from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from converters.folder import Layer, ModelFolder
from finetuning.pools import with_stages
from finetuning.stages import LAST, shares_of, stages_of


def layer(name: str, *shape: int, gmacs: float = 1.0) -> Layer:
    return Layer(name=name, type="Block", shape=shape, params=1, gmacs=gmacs)


def network(layers: Sequence[Layer], *, text: bool = False) -> onnx.ModelProto:
    """A graph in which every layer is what goes in under its name."""
    inputs = [
        helper.make_tensor_value_info(f"in/{item.name}", TensorProto.FLOAT, ["n", *item.shape])
        for item in layers
    ]
    if text:
        inputs.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", 5]))
    nodes = [helper.make_node("Identity", [f"in/{item.name}"], [item.name]) for item in layers]
    nodes.append(helper.make_node("Identity", [layers[-1].name], ["before"]))
    nodes.append(helper.make_node("Flatten", ["before"], ["flat"], axis=1))
    nodes.append(helper.make_node("Sigmoid", ["flat"], ["embedding"]))
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", "w"])]
    return helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=10,
    )


def names(tiny: ModelFolder, layers: Sequence[Layer], *, text: bool = False) -> list[str]:
    record = msgspec.structs.replace(tiny.manifest.record, gmacs=None)
    manifest = msgspec.structs.replace(tiny.manifest, layers=tuple(layers), record=record)
    found = stages_of(ModelFolder(tiny.path, manifest), network(layers, text=text))
    assert found[-1] == LAST
    return [stage.name for stage in found[:-1]]


def test_the_last_layer_of_each_shape_stands_for_it_and_the_first_edges_for_nothing(
    tiny: ModelFolder,
) -> None:
    layers = [
        layer("stem", 8, 16, 16, gmacs=0.1),
        layer("a.0", 16, 8, 8),
        layer("a", 16, 8, 8, gmacs=2.0),
        layer("b.0", 24, 8, 8),
        layer("b.1", 24, 8, 8),
        layer("b", 24, 8, 8, gmacs=3.0),
        layer("c", 32, 4, 4),
    ]
    assert names(tiny, layers) == ["a", "b", "c"]


def test_products_counted_at_another_size_are_not_those_of_the_network(tiny: ModelFolder) -> None:
    layers, (_, *size) = [layer("a", 8, 8, 8), layer("b", 8, 4, 4)], tiny.manifest.record.input_size
    for other, last in ((size, 0.2), ([2 * side for side in size], 1.0)):
        record = msgspec.structs.replace(tiny.manifest.record, gmacs=10.0, gmacs_at=(3, *other))
        assert shares_of(layers, record)["b"] == last


def test_a_transformer_has_class_token_and_patches_at_even_distances(tiny: ModelFolder) -> None:
    blocks = [layer(f"blocks.{n}", 50, 12) for n in range(12)]
    found = names(tiny, blocks)
    places = [int(name.split()[0].split(".")[1]) for name in found[::2]]
    whats = ("class token", "patches")
    assert found == [f"blocks.{n} {what}" for n in places for what in whats]
    assert (len(places), places[-1]) == (6, 11)
    assert set(np.diff(places)) <= {1, 2}
    assert names(tiny, [layer(f"b.{n}", 49, 12) for n in range(3)]) == ["b.2 patches"]
    assert names(tiny, [layer(f"b.{n}", 100, 12) for n in range(2)], text=True) == ["b.1"]
    assert names(tiny, [layer("odd", 60, 12), layer("maps", 4, 7, 7)]) == ["maps"]  # 60 = 49 + 11


@pytest.mark.parametrize(
    ("shape", "text", "expected"),
    [
        ((6, 4, 4), False, {"x": lambda x, _: x.mean((2, 3))}),
        ((4, 4, 6), False, {"x": lambda x, _: x.mean((1, 2))}),
        (
            (18, 6),
            False,
            {"x class token": lambda x, _: x[:, 0], "x patches": lambda x, _: x[:, 2:].mean(1)},
        ),
        (
            (5, 6),
            True,
            {"x": lambda x, mask: (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)},
        ),
    ],
)
def test_stages_are_pooled_inside_the_graph(
    tiny: ModelFolder, shape: tuple[int, ...], text: bool, expected: dict
) -> None:
    layers = [layer("x", *shape)]
    manifest = msgspec.structs.replace(tiny.manifest, layers=tuple(layers))
    graph = network(layers, text=text)
    stages = stages_of(ModelFolder(tiny.path, manifest), graph)
    tapped = with_stages(graph, stages)
    session = onnxruntime.InferenceSession(
        tapped.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(0)
    x = random.normal(size=(3, *shape)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    given = {"in/x": x, **({"attention_mask": mask} if text else {})}
    seen = dict(zip([stage.name for stage in stages], session.run(None, given), strict=True))
    assert set(seen) == {*expected, "embedding"}
    for name, pooled in expected.items():
        np.testing.assert_allclose(seen[name], pooled(x, mask), rtol=1e-5, atol=1e-6)
