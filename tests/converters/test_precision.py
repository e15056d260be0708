"""Precisions of tiny networks: what they keep, what they refuse, and what a failure leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from catalog.errors import ConversionError, DataError, StorageError, UsageError
from converters import halving, loss, precision, quantize
from converters.folder import ModelFolder
from converters.interface import IMAGE, PIXEL_VALUES
from converters.mixing import mixed
from converters.network import answers, distance, front_of, network_of, parts_of
from converters.rounding import rounded
from converters.samples import labelled_photos_in, photos_in
from converters.session import open_sessions


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:
    """Nothing here is about how long a variant takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "_ROUNDS", 1)
        patch.setattr(precision, "_SECONDS", 0.01)
        yield


@pytest.fixture(scope="module")
def variants(
    tiny_model: ModelFolder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ModelFolder, dict[str, str]]:
    """The tiny model in fp16 and int8; random weights are harder on int8 than trained ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(precision.TOLERANCE, "int8", 0.2)
        patch.setattr(loss, "SANE_TOP1", 0.3)
        return precision.add(
            tiny_model,
            ["fp16", "int8", "int8-dynamic"],
            tmp_path_factory.mktemp("variants") / "tiny",
        )


@pytest.fixture
def photo_folder(tmp_path: Path, photos: dict[str, np.ndarray]) -> Path:
    folder = tmp_path / "photos"
    (folder / "class 3").mkdir(parents=True)
    (folder / "class 5").mkdir()
    Image.fromarray(photos["china.jpg"]).save(folder / "class 3" / "a.png")
    Image.fromarray(photos["chelsea.png"]).save(folder / "class 5" / "b.png")
    return folder


def network(name: str, folder: ModelFolder) -> onnx.ModelProto:
    return onnx.load(folder.path / name)


def test_variants_lie_beside_fp32_with_what_they_lose(
    variants: tuple[ModelFolder, dict[str, str]], tiny_model: ModelFolder
) -> None:
    folder, _ = variants
    found = ModelFolder.open(folder.path)
    found.verify()
    assert set(found.manifest.variants) == {"fp16", "int8"}
    assert {"model.onnx", "model.fp16.onnx", "model.int8.onnx"} < set(found.manifest.files)
    assert found.onnx.read_bytes() == tiny_model.onnx.read_bytes()
    half = found.manifest.variants["fp16"]
    assert not half.verified
    assert half.samples < loss.ENOUGH
    assert half.max_rel_diff <= 2e-2
    assert half.cosine is not None
    assert half.cosine >= 0.999
    assert half.size_bytes < 0.75 * half.fp32_size_bytes
    whole = found.manifest.variants["int8"]
    assert not whole.verified  # it was measured on what it was calibrated on
    assert whole.calibration_sha256
    assert min(whole.median_ms, whole.fp32_median_ms, half.median_ms) > 0


def test_only_enough_real_inputs_verify() -> None:
    figures = {"max_rel_diff": 1e-3, "cosine": 1.0, "top1_agreement": 1.0}
    for name in ("fp16", "int8"):
        for samples, independent in ((19, True), (20, False), (20, True)):
            found = loss.judge(name, {**figures, "samples": samples}, independent=independent)
            assert found == (samples == 20 and independent)
    with pytest.raises(ConversionError, match="differs from fp32"):
        loss.judge("fp16", {"max_rel_diff": 1.0, "samples": 20}, independent=True)


def test_dynamic_int8_of_a_cnn_is_refused_with_the_reason(
    variants: tuple[ModelFolder, dict[str, str]],
) -> None:
    folder, failures = variants
    assert "int8 is for those" in failures["int8-dynamic"]
    assert not (folder.path / "model.int8-dynamic.onnx").exists()


def test_preprocessing_inputs_and_outputs_are_untouched(
    variants: tuple[ModelFolder, dict[str, str]],
) -> None:
    folder, _ = variants
    plain = onnx.load(folder.onnx)
    before = front_of(plain)
    assert before is not None
    for name in ("model.fp16.onnx", "model.int8.onnx"):
        model = onnx.load(folder.path / name)
        onnx.checker.check_model(model, full_check=True)
        front = front_of(model)
        assert front is not None
        assert list(front.graph.node) == list(before.graph.node)
        assert sorted(i.SerializeToString() for i in front.graph.initializer) == sorted(
            i.SerializeToString() for i in before.graph.initializer
        )
        for have, want in (
            (model.graph.input, plain.graph.input),
            (model.graph.output, plain.graph.output),
        ):
            assert [(i.name, i.type.tensor_type.elem_type) for i in have] == [
                (i.name, i.type.tensor_type.elem_type) for i in want
            ]
        facts = {p.key: p.value for p in model.metadata_props}
        assert facts["tlhub.precision"] == name.split(".")[1]
        assert facts["tlhub.labels"] == next(
            p.value for p in plain.metadata_props if p.key == "tlhub.labels"
        )
        open_sessions(folder.path / name, "cpu", 1)


def test_weights_are_in_the_precision_that_the_name_says(
    variants: tuple[ModelFolder, dict[str, str]],
) -> None:
    folder, _ = variants
    half = onnx.load(folder.path / "model.fp16.onnx")
    kinds = [i.data_type for i in network_of(half).graph.initializer if len(i.dims) == 4]
    assert kinds
    assert set(kinds) == {TensorProto.FLOAT16}
    whole = onnx.load(folder.path / "model.int8.onnx")
    kinds = [i.data_type for i in whole.graph.initializer if len(i.dims) == 4]
    assert TensorProto.INT8 in kinds


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_the_same_input_gives_the_same_bytes(
    name: str,
    variants: tuple[ModelFolder, dict[str, str]],
    tiny_model: ModelFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(precision.TOLERANCE, "int8", 0.2)
    monkeypatch.setattr(loss, "SANE_TOP1", 0.3)
    again, _ = precision.add(tiny_model, [name], tmp_path / "again")
    file = precision.file_of(name)
    assert (again.path / file).read_bytes() == (variants[0].path / file).read_bytes()


def test_a_variant_that_is_too_far_off_leaves_nothing(
    tiny_model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(network: onnx.ModelProto, floats: object) -> onnx.ModelProto:
        changed = onnx.ModelProto()
        changed.CopyFrom(network)
        for item in changed.graph.initializer:
            if len(item.dims) == 4:
                item.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(item), item.name))
        return changed

    monkeypatch.setattr(halving, "halved", broken)
    monkeypatch.setitem(precision.TOLERANCE, "fp16", 1e9)
    with pytest.raises(ConversionError, match="fp16: it differs from fp32 by"):
        precision.add(tiny_model, ["fp16"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setitem(precision.TOLERANCE, "fp16", 1e-2)
    with pytest.raises(ConversionError, match="layers in float"):
        precision.add(tiny_model, ["fp16"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_folder_as_it_was(
    tiny_model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "tiny"
    shutil.copytree(tiny_model.path, place)
    before = {p.name: p.read_bytes() for p in place.iterdir()}

    def full(model: onnx.ModelProto, file: Path) -> None:
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(precision, "_save", full)
    with pytest.raises(StorageError):
        precision.add(ModelFolder.open(place), ["fp16"], place, replace=True)
    assert {p.name: p.read_bytes() for p in place.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_calibration_needs_photos_that_can_be_read(tmp_path: Path, photo_folder: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        photos_in(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no photos"):
        photos_in(tmp_path / "empty")
    (photo_folder / "broken.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match="1 of 3 photos cannot be read"):
        photos_in(photo_folder)
    for n in range(3):
        shutil.copy(photo_folder / "class 3" / "a.png", photo_folder / f"{n}.png")
    assert len(photos_in(photo_folder)) == 5  # the broken one is left out, with a warning


def test_labelled_photos_have_the_names_of_labels(photo_folder: Path) -> None:
    labels = [f"class {n}" for n in range(12)]
    assert labelled_photos_in(photo_folder, labels).labels == (3, 5)
    with pytest.raises(DataError, match="'class 5' is no label"):
        labelled_photos_in(photo_folder, labels[:5])


def test_accuracy_is_measured_where_labels_are_given(
    tiny_model: ModelFolder, photo_folder: Path, tmp_path: Path
) -> None:
    folder, _ = precision.add(tiny_model, ["fp16"], tmp_path / "out", data=photo_folder)
    half = folder.manifest.variants["fp16"]
    assert half.samples == 2
    assert half.accuracy in {0.0, 0.5, 1.0}
    assert half.accuracy == half.fp32_accuracy
    assert half.samples_of == str(photo_folder)


def test_a_precision_that_is_none_is_refused(tiny_model: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no precision 'int4'"):
        precision.add(tiny_model, ["int4"], tmp_path / "out")


def test_a_variant_that_is_there_is_not_made_again(
    variants: tuple[ModelFolder, dict[str, str]], photo_folder: Path
) -> None:
    folder, _ = variants
    assert precision.missing(folder, ["fp16", "int8", "fp32"], None) == ()
    assert precision.missing(folder, ["fp16", "int8"], photo_folder) == ("int8",)
    assert precision.missing(folder, ["int8-dynamic"], None) == ("int8-dynamic",)


def test_what_overflows_stays_in_float() -> None:
    """A product beyond 65504 that is scaled down again: no list of operators would know."""
    nodes = [
        helper.make_node("Mul", ["x", "large"], ["y"], name="up"),
        helper.make_node("Mul", ["y", "small"], ["z"], name="down"),
        helper.make_node("Add", ["z", "one"], ["logits"], name="add"),
    ]
    constants = {"large": 1e6, "small": 1e-6, "one": 1.0}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4])],
            [numpy_helper.from_array(np.float32(v), n) for n, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    model = network_of(model)
    batch = {"x": np.array([[1, 2, 3, 4]], np.float32)}
    unsafe = halving.unsafe_nodes(model, [batch])
    assert unsafe == {"up", "down"}
    reference = answers(model, [batch])
    assert distance(answers(halving.halved(model, unsafe), [batch]), reference) < 1e-3
    assert distance(answers(halving.halved(model, ()), [batch]), reference) > 0.1


def test_the_layer_that_hurts_is_the_one_left_in_float() -> None:
    parts = {"a": ["1"], "b": ["2"], "c": ["3"], "d": ["4"]}
    costs = {"1": 0.01, "2": 0.5, "3": 0.02, "4": 0.0}
    built: list[frozenset[str]] = []

    def build(floats: object) -> onnx.ModelProto:
        built.append(frozenset(floats))  # type: ignore[call-overload]
        return onnx.ModelProto()

    def error(_: onnx.ModelProto) -> float:
        return sum(cost for name, cost in costs.items() if name not in built[-1])

    found = mixed(parts, build, error, tolerance=0.1, budget_s=60)
    assert found.float_layers == ("b",)
    with pytest.raises(ConversionError, match="2 of 4 layers in float"):
        mixed(parts, build, error, tolerance=0.001, budget_s=60)


def test_every_node_of_the_network_belongs_to_one_layer(tiny_model: ModelFolder) -> None:
    model = onnx.load(tiny_model.onnx)
    inner = network_of(model)
    parts = parts_of(model, inner)
    assert sorted(n for names in parts.values() for n in names) == sorted(
        node.name for node in inner.graph.node
    )
    assert {layer.name for layer in tiny_model.manifest.layers} <= set(parts)


def test_a_doubled_opset_is_taken_once(tiny_model: ModelFolder) -> None:
    model = onnx.load(tiny_model.onnx)
    model.opset_import.extend(list(model.opset_import))
    inner = network_of(model)
    assert len(inner.opset_import) == 1
    batch = {PIXEL_VALUES: np.random.default_rng(0).normal(size=(1, 3, 96, 96)).astype(np.float32)}
    quantize.Quantizer(inner, [batch]).build(())


@pytest.mark.parametrize("group", [1, 8])
def test_rounding_by_moments_beats_rounding_to_the_nearest(group: int) -> None:
    """Inputs that go together, as neighboring pixels do, on a convolution with a stride."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(8, 8 // group, 3, 3)).astype(np.float32)
    bias = random.normal(size=8).astype(np.float32)
    flat = random.normal(size=(16, 8, 1, 1)) + 0.2 * random.normal(size=(16, 8, 14, 14)) + 1
    batches = [{"x": flat[n : n + 4].astype(np.float32)} for n in range(0, 16, 4)]
    node = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], name="n", group=group, pads=[1, 1, 1, 1], strides=[2, 2]
    )

    def model(w: np.ndarray, b: np.ndarray) -> onnx.ModelProto:
        return helper.make_model(
            helper.make_graph(
                [node],
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 14, 14])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")],
            ),
            opset_imports=[helper.make_opsetid("", 20)],
            ir_version=10,
        )

    plain = model(weight, bias)
    scale = np.abs(weight).max((1, 2, 3)) / 7  # coarse, so that it shows
    ours = rounded(plain, {"w": scale}, batches)["n"]
    assert ours.values.dtype == np.int8
    shape = (-1, 1, 1, 1)
    nearest = np.rint(weight / scale.reshape(shape)) * scale.reshape(shape)
    better = ours.values.astype(np.float32) * scale.reshape(shape)
    reference = answers(plain, batches)
    off = distance(answers(model(nearest.astype(np.float32), bias), batches), reference)
    less = distance(answers(model(better.astype(np.float32), ours.biases), batches), reference)
    assert less < 0.7 * off


def test_a_graph_without_preprocessing_is_told_to_have_it(
    record_of: Callable[..., object],
    weights_of: Callable[..., dict[str, Path]],
    tmp_path: Path,
) -> None:
    from converters.convert import Options, convert

    record = record_of()
    folder = convert(
        record,  # type: ignore[arg-type]
        weights_of(record),
        tmp_path / "bare",
        options=Options(preprocess=False),
    )
    with pytest.raises(UsageError, match="takes pixel_values") as caught:
        precision.add(folder, ["fp16"], tmp_path / "out")
    assert caught.value.hint == "convert it with its preprocessing"


def test_a_variant_predicts_as_fp32_does(
    variants: tuple[ModelFolder, dict[str, str]], photos: dict[str, np.ndarray]
) -> None:
    folder, _ = variants
    model = onnx.load(folder.path / "model.fp16.onnx")
    batches = [{IMAGE: photos[name][None]} for name in ("chelsea.png", "coffee.png")]
    ours = answers(model, batches)
    theirs = answers(onnx.load(folder.onnx), batches)
    assert distance(ours, theirs) < 1e-2
    assert json.loads((folder.path / "tlhub.json").read_text())["variants"]["fp16"]["file"]
