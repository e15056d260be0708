"""What a file of a repository is, told by its name alone: format, precision, and which shard."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

# Formats that hold weights, in the order in which one of them is taken.
WEIGHTS = (
    "safetensors",
    "pytorch",
    "keras",
    "tensorflow",
    "flax",
    "numpy",
    "onnx",
    "nemo",
    "openvino",
    "tflite",
    "gguf",
    "coreml",
    "rust",
    "darknet",
    "archive",
)
TORCH = frozenset({"safetensors", "pytorch"})
# Beside weights for torch, files of these are the same weights again.
AGAIN = frozenset(
    {"keras", "tensorflow", "flax", "onnx", "openvino", "tflite", "gguf", "coreml", "rust"}
)
_CAN_RUN_CODE = frozenset({"pytorch", "keras", "tensorflow", "nemo", "archive"})

_SUFFIXES = {
    ".safetensors": "safetensors",
    ".bin": "pytorch",
    ".ckpt": "pytorch",
    ".pkl": "pytorch",
    ".pt": "pytorch",
    ".pth": "pytorch",
    ".h5": "keras",
    ".hdf5": "keras",
    ".keras": "keras",
    ".pb": "tensorflow",
    ".npy": "numpy",
    ".npz": "numpy",
    ".onnx": "onnx",
    ".onnx_data": "onnx",
    ".nemo": "nemo",
    ".tflite": "tflite",
    ".gguf": "gguf",
    ".mlmodel": "coreml",
    ".ot": "rust",
    ".weights": "darknet",
    ".gz": "archive",
    ".tar": "archive",
    ".tgz": "archive",
    ".zip": "archive",
}
# Where the suffix alone would mislead.
_NAMES = (
    (re.compile(r"(^|/)openvino(_[^/]*|/.*)\.(xml|bin)$"), "openvino"),
    (re.compile(r"flax[^/]*\.msgpack(\.index\.json)?$"), "flax"),
    (re.compile(r"(^|/)tf_model[^/]*\.h5$|(^|/)variables/variables\."), "tensorflow"),
    (re.compile(r"\.mlpackage/|\.mlmodelc/"), "coreml"),
    (re.compile(r"\.onnx[._]data(_\d+)?$"), "onnx"),
)
_INDEX = re.compile(r"(.+)\.(safetensors|bin)\.index(\.\w+)?\.json")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")
_PRECISION = re.compile(
    r"[._-](fp32|f32|bf16|fp16|f16|fp8|int8|uint8|qint8\w*|quint8\w*|int4|uint4|quantized|"
    r"q4f16|bnb4|non_ema|ema|o[1-4]|i?q\d(?:_[0-9a-z]+)*)(?=[._-]|$)",
    re.IGNORECASE,
)
_SAID_OTHERWISE = {"f32": "fp32", "f16": "fp16", "quantized": "int8"}


@dataclass(frozen=True)
class Kind:
    """What a name says of a file."""

    format: str  # of `WEIGHTS`, or the suffix of any other file
    group: tuple[str, str] = ("", "")  # folder and stem: the same weights in any format
    precision: str | None = None  # None: the publisher's own
    shard: tuple[int, int] | None = None  # its number, and of how many

    @property
    def is_weights(self) -> bool:
        """Whether it holds weights, or lists the shards that do."""
        return self.format in WEIGHTS

    @property
    def safe(self) -> bool | None:
        """Whether loading it can run no code; None where nothing is loaded."""
        return self.format not in _CAN_RUN_CODE if self.is_weights else None


def kind_of(path: str) -> Kind:
    """What the file at ``path`` in a repository is."""
    place = PurePosixPath(path)
    folder, name = str(place.parent), place.name
    index = _INDEX.fullmatch(name)
    if index:
        format_ = _SUFFIXES[f".{index[2]}"]
        stem = f"{index[1]}{index[3] or ''}"
    else:
        named = (found for pattern, found in _NAMES if pattern.search(path))
        format_ = next(named, None) or _SUFFIXES.get(place.suffix.lower(), "")
        if not format_:
            return Kind(place.suffix.lower().lstrip(".") or "file")
        stem = re.sub(r"\.onnx[._]data(_\d+)?$", "", name)
        stem = stem.removesuffix(place.suffix)
    shard = _SHARD.search(stem)
    stem = _SHARD.sub("", stem)
    # Only the last: `model.v2.fp16` is fp16, and what a quantization is called ends the name.
    found = list(_PRECISION.finditer(stem))
    precision = None
    if found:
        last = found[-1]
        stem = stem[: last.start()] + stem[last.end() :]
        precision = last[1].lower()
        precision = _SAID_OTHERWISE.get(precision, precision)
    return Kind(
        format_,
        (folder, stem.replace("pytorch_", "")),
        precision,
        (int(shard[1]), int(shard[2])) if shard else None,
    )
