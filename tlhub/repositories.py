"""What the files of a repository say of its model, as far as converters want to know it.

Sources: timm's `save_for_hf` (architecture, `pretrained_cfg`) and transformers' `PretrainedConfig`
(`architectures`, `model_type`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from catalog.errors import ConversionError, DataError, IntegrityError, UnsafeError
from catalog.record import UNREADABLE, ModelRecord, Preprocess

if TYPE_CHECKING:
    from converters.repository import TextRepository
    from converters.vision_repository import VisionRepository

LARGEST_BYTES = 4 << 20  # a configuration that is larger is none
_OF_TEXT = ("transformers", "sentence-transformers")
FRAMEWORKS = (None, "timm", *_OF_TEXT)  # whose repositories say more than the catalog may know
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


@dataclass(frozen=True)
class Said:
    """What the files of a repository say of its model."""

    record: ModelRecord
    obstacle: str | None = None  # why it is not converted, as half a sentence
    needed: frozenset[str] | None = None  # files that converting takes; None: the weights alone


def small_files(names: Iterable[str]) -> set[str]:
    """Those among the files of a repository that `described` reads."""
    from converters import repository

    try:
        return repository.small_files(names)
    except ConversionError:
        return set()


def look(
    record: ModelRecord, files: Mapping[str, Path], names: Iterable[str], *, preprocess: bool = True
) -> Said:
    """The record with what ``files`` say besides; ``names`` are those of all files there are.

    Without ``preprocess`` it does not matter how photos become tensors.

    Raises:
        UnsafeError: they point outside of their folder, or their figures are absurd.
    """
    from converters import vision_repository
    from converters.repository import CONFIG, TextRepository, needed_files, root_of

    if not files:
        return Said(record)
    config = files.get(f"{root_of(files)}{CONFIG}")
    if record.framework in {None, "timm"} and config is not None:
        try:
            record = described(record, config.read_bytes())
        except DataError as error:
            return Said(record, error.message)
    if record.framework not in {None, *_OF_TEXT}:
        return Said(record)
    try:
        images = vision_repository.VisionRepository.of(files, lambda name: files[name].read_bytes())
        if images is not None:
            needed = vision_repository.needed_files(images, names)
            return Said(_image(record, images, preprocess=preprocess), needed=frozenset(needed))
        found = TextRepository.of(files, lambda name: files[name].read_bytes())
        needed = needed_files(found, names)
    except UnsafeError:
        raise
    except (ConversionError, IntegrityError) as error:
        return Said(record, error.message)
    return Said(_text(record, found), needed=frozenset(needed))


def _text(record: ModelRecord, found: TextRepository) -> ModelRecord:
    if found.is_classifier:
        ranks = "sentence_transformers" in found.config or record.task == "text-ranking"
        task = "text-ranking" if found.is_rating and ranks else "text-classification"
    else:
        plain = found.modules is None
        task = record.task or ("feature-extraction" if plain else "sentence-similarity")
    return msgspec.structs.replace(
        record,
        framework=found.framework,
        architecture=found.architecture,
        family=record.family or found.model_type,
        task=task,
        modality="text",
        num_classes=found.num_classes if found.is_classifier else None,
        labels=found.labels if found.is_classifier else (),
        label_set=None,
        input_size=(found.max_length,),
        embed_dim=found.embed_dim,
    )


def _image(record: ModelRecord, found: VisionRepository, *, preprocess: bool) -> ModelRecord:
    try:
        how, size = found.recipe() if preprocess else (None, found.image_size())
    except ConversionError as error:
        raise ConversionError(
            f"{error.message}; `tlhub convert --no-preprocess` makes a graph of the network alone"
        ) from error
    return msgspec.structs.replace(
        record,
        framework="transformers",
        architecture=found.architecture,
        family=record.family or found.model_type,
        task="image-classification" if found.is_classifier else "image-feature-extraction",
        modality="image",
        num_classes=found.num_classes if found.is_classifier else None,
        labels=found.labels if found.is_classifier else (),
        label_set=None,
        input_size=(3, *size),
        preprocess=how,
    )


def described(record: ModelRecord, config: bytes) -> ModelRecord:
    """The record with what `config.json` says besides.

    Raises:
        DataError: it is no configuration that timm or transformers write.
    """
    try:
        said = msgspec.json.decode(config, type=_Config)
    except UNREADABLE as error:
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
