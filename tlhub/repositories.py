"""What the `config.json` of a repository says of its model, as far as converters want to know it.

Sources: timm's `save_for_hf` (architecture, `pretrained_cfg`) and transformers' `PretrainedConfig`
(`architectures`, `model_type`).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from catalog.errors import DataError
from catalog.record import ModelRecord, Preprocess

LARGEST_BYTES = 4 << 20  # a configuration that is larger is none
_MODES = {"center": "shortest", "squash": "squash"}
_IMAGENET = 1000

_Text = Annotated[str, Meta(max_length=200)]
_Floats = Annotated[tuple[float, ...], Meta(max_length=16)]


class _Pretrained(msgspec.Struct, frozen=True):
    """timm's `PretrainedCfg`, as its repositories have it."""

    input_size: tuple[int, int, int]
    mean: _Floats
    std: _Floats
    interpolation: _Text = "bilinear"
    crop_pct: float = 0.875
    crop_mode: _Text = "center"
    num_classes: int | None = None
    classifier: Any = None
    first_conv: Any = None
    tag: str | None = None
    label_names: Any = None


class _Config(msgspec.Struct, frozen=True):
    architecture: _Text | None = None
    architectures: tuple[_Text, ...] | None = None
    model_type: _Text | None = None
    num_classes: int | None = None
    label_names: Any = None
    pretrained_cfg: _Pretrained | None = None


def described(record: ModelRecord, config: bytes) -> ModelRecord:
    """The record with what `config.json` says besides.

    Raises:
        DataError: it is no configuration that timm or transformers write.
    """
    try:
        said = msgspec.json.decode(config, type=_Config)
    except msgspec.DecodeError as error:
        raise DataError(f"the config.json of {record.uid} makes no sense: {error}") from error
    if said.architecture and said.pretrained_cfg:
        return _timm(record, said, said.pretrained_cfg)
    if said.model_type or said.architectures:
        name = said.architectures[0] if said.architectures else None
        return msgspec.structs.replace(
            record,
            framework=record.framework or "transformers",
            architecture=record.architecture or name,
            family=record.family or said.model_type,
        )
    return record


def _timm(record: ModelRecord, config: _Config, cfg: _Pretrained) -> ModelRecord:
    classes = cfg.num_classes if config.num_classes is None else config.num_classes
    names = config.label_names or cfg.label_names
    labels = tuple(names) if isinstance(names, list) and len(names) == classes else ()
    if not all(isinstance(label, str) and label.splitlines() == [label] for label in labels):
        labels = ()
    imagenet = not labels and classes == _IMAGENET and "in1k" in (cfg.tag or "")
    return msgspec.structs.replace(
        record,
        framework="timm",
        architecture=config.architecture,
        task=record.task or "image-classification",
        modality=record.modality or "image",
        num_classes=classes or None,
        labels=labels,
        label_set="imagenet-1k" if imagenet else None,
        input_size=cfg.input_size,
        preprocess=_preprocess(cfg),
        head=cfg.classifier if isinstance(cfg.classifier, str) else None,
        stem=cfg.first_conv if isinstance(cfg.first_conv, str) else None,
    )


def _preprocess(cfg: _Pretrained) -> Preprocess | None:
    mode = _MODES.get(cfg.crop_mode)  # `border` pads, which a `Preprocess` cannot say
    if mode is None or cfg.interpolation not in {"nearest", "bilinear", "bicubic", "lanczos"}:
        return None
    return Preprocess(
        mean=cfg.mean,
        std=cfg.std,
        interpolation=cfg.interpolation,  # type: ignore[arg-type]
        crop_pct=cfg.crop_pct,
        resize_mode=mode,  # type: ignore[arg-type]
    )
