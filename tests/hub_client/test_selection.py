"""What is needed of a repository, by the names that its files have."""

from __future__ import annotations

import pytest

from catalog.errors import NotFoundError
from catalog.record import Artifact
from hub_client.formats import kind_of
from hub_client.selection import of_record, of_repository

CONFIG = ["config.json", "tokenizer.json", "README.md"]


def artifacts(*paths: str) -> list[Artifact]:
    return [Artifact(path=p, format=kind_of(p).format, urls=(f"file:///{p}",)) for p in paths]


@pytest.mark.parametrize(
    ("others", "needed"),
    [
        # safetensors before pickles, and neither TensorFlow, Flax, Rust, ONNX nor OpenVINO
        (
            ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot",
             "onnx/model.onnx", "onnx/model.onnx_data", "openvino/openvino_model.xml",
             "openvino/openvino_model.bin", "coreml/model.mlpackage/Data/w.bin",
             ".gitattributes", "training_args.bin", "optimizer.pt",
             "checkpoint-500/model.safetensors",             "runs/events.out.tfevents.1"],
            ["model.safetensors"],
        ),
        # one precision: the publisher's own
        (["model.fp16.safetensors", "model.fp16-00001-of-00002.safetensors",
          "pytorch_model.fp16.bin"], ["model.safetensors"]),
        # parts of a sentence-transformers model, one of them pickled alone
        (["2_Dense/config.json"], ["model.safetensors", "2_Dense/pytorch_model.bin"]),
        (["original/consolidated.00.pth", "consolidated.safetensors"], ["model.safetensors"]),
        (["pytorch_model.bin"], ["open_clip_model.safetensors", "model.safetensors"]),
    ],
)  # fmt: skip
def test_duplicates_are_left_out(others: list[str], needed: list[str]) -> None:
    kept = {a.path for a in of_repository(artifacts(*CONFIG, *others, *needed))}
    extra = {path for path in others if path.endswith("config.json")}
    assert kept == {*CONFIG, *needed, *extra}


def test_shards_come_whole_with_their_index() -> None:
    shards = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    pickled = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    index = "model.safetensors.index.json"
    every = artifacts(*CONFIG, *shards, index, *pickled, "pytorch_model.bin.index.json")
    assert {a.path for a in of_repository(every)} == {*CONFIG, *shards, index}
    with pytest.raises(NotFoundError, match="number 2 of them is not there"):
        of_repository([a for a in every if a.path != shards[1]])


def test_where_there_is_nothing_for_torch_the_first_other_format_is_taken() -> None:
    kept = of_repository(artifacts("model.onnx", "model_quantized.onnx", "model.tflite", "a.gguf"))
    assert [a.path for a in kept] == ["model.onnx"]
    quantized = artifacts("m.Q4_K_M.gguf", "m.Q8_0.gguf", "m.Q2_K.gguf", "config.json")
    assert {a.path for a in of_repository(quantized)} == {"m.Q8_0.gguf", "config.json"}


def test_a_pipeline_of_parts_leaves_what_lies_beside_them() -> None:
    parts = ["unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"]
    every = artifacts(
        "model_index.json", "unet/config.json", *parts, "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors", "sd-v1.safetensors", "sd-v1.ckpt",
    )  # fmt: skip
    kept = {a.path for a in of_repository(every)}
    assert kept == {"model_index.json", "unet/config.json", *parts}
    halves = {a.path for a in of_repository(every, precision="fp16")}
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in halves
    assert parts[0] not in halves
    assert parts[1] in halves  # the part that has no such variant


def test_patterns_take_the_place_of_the_choice_or_take_away() -> None:
    every = artifacts(*CONFIG, "model.safetensors", "onnx/model.onnx", "onnx/model_fp16.onnx")
    assert {a.path for a in of_repository(every, include=["onnx/"], exclude=["*_fp16*"])} == {
        "onnx/model.onnx"
    }
    assert "README.md" not in {a.path for a in of_repository(every, exclude=["*.md"])}
    with pytest.raises(NotFoundError, match="no file is left"):
        of_repository(every, include=["*.bin"])
    with pytest.raises(NotFoundError, match="no weights in int8"):
        of_repository(every, precision="int8")


def test_of_a_record_one_format_in_one_precision_is_taken() -> None:
    def made(path: str, format_: str, precision: str | None = None) -> Artifact:
        return Artifact(path=path, format=format_, urls=(f"file:///{path}",), precision=precision)

    both = [made("a.pth", "pytorch"), made("model.safetensors", "safetensors")]
    assert [a.path for a in of_record(both)] == ["model.safetensors"]
    several = [
        made(f"{folder}/m.{end}", "openvino", precision)
        for folder, precision in (("FP16", "fp16"), ("FP32", "fp32"))
        for end in ("xml", "bin")
    ]
    assert [a.path for a in of_record(several)] == ["FP32/m.xml", "FP32/m.bin"]
    assert [a.path for a in of_record(several, precision="fp16")] == ["FP16/m.xml", "FP16/m.bin"]
    assert of_record([]) == ()


@pytest.mark.parametrize(
    ("path", "format_", "precision", "shard", "safe"),
    [
        ("model.safetensors", "safetensors", None, None, True),
        ("a/pytorch_model-00002-of-00010.bin", "pytorch", None, (2, 10), False),
        ("model.fp16-00001-of-00002.safetensors", "safetensors", "fp16", (1, 2), True),
        ("model.safetensors.index.fp16.json", "safetensors", "fp16", None, True),
        ("llama.Q4_K_M.gguf", "gguf", "q4_k_m", None, True),
        ("onnx/model_quantized.onnx", "onnx", "int8", None, True),
        ("model.onnx.data", "onnx", None, None, True),
        ("tokenizer.json", "json", None, None, None),
        ("LICENSE", "file", None, None, None),
        ("vocab.txt", "txt", None, None, None),
    ],
)
def test_names_say_what_files_are(
    path: str, format_: str, precision: str | None, shard: tuple[int, int] | None, safe: bool | None
) -> None:
    kind = kind_of(path)
    assert (kind.format, kind.precision, kind.shard, kind.safe) == (format_, precision, shard, safe)
