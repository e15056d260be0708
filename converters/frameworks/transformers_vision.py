"""Image encoders and classifiers of transformers, from the files of a repository."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from catalog.errors import ConversionError
from catalog.record import ModelRecord
from converters import pretrained, weights
from converters.backbone import Network, TorchBackbone
from converters.image_front import ImageFront, Photo
from converters.image_processors import ImageProcessor
from converters.interface import EMBEDDING, LOGITS, PIXEL_VALUES
from converters.pixel_front import PixelFront
from converters.repository import CONFIG, PROCESSORS
from converters.vision_repository import VisionRepository

# A layer for the pretraining of some encoders; where the embedding is a token, nothing is of it.
_POOLER = "pooler."
# What the weights of a pair of towers hold besides that of images.
_OTHER_TOWER = ("text_model.", "text_projection.", "logit_scale", "logit_bias")


class VisionEncoder(Network):
    """An image encoder.

    ``forward`` takes ``pixel_values`` float32 (N, 3, H, W) and returns ``embedding`` (N, features):
    what its publisher compares where there is such a thing (the projection of CLIP), else what the
    network pools, or its first token.
    """

    inputs = (PIXEL_VALUES,)
    outputs = (EMBEDDING,)

    def __init__(self, model: torch.nn.Module, *, pooled: bool) -> None:
        super().__init__(model)
        self.pooled = pooled

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
        """The embedding of a batch."""
        found = self.model(pixel_values)
        if not self.pooled:
            return (found.last_hidden_state[:, 0],)
        projected = getattr(found, "image_embeds", None)
        return ((found.pooler_output if projected is None else projected).flatten(1),)


class VisionClassifier(Network):
    """An image classifier.

    ``forward`` takes ``pixel_values`` float32 (N, 3, H, W) and returns ``logits`` (N, classes) and
    ``embedding`` (N, features): what its last layers, ``heads``, are given, side by side.
    """

    inputs = (PIXEL_VALUES,)
    outputs = (LOGITS, EMBEDDING)

    def __init__(self, model: torch.nn.Module, heads: tuple[str, ...], activation: str) -> None:
        super().__init__(model)
        self.heads = heads
        self.activation = activation

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and embedding of a batch."""
        seen: list[torch.Tensor] = []
        hooks = [
            self.model.get_submodule(head).register_forward_pre_hook(
                lambda _module, arguments: seen.append(arguments[0])
            )
            for head in self.heads
        ]
        try:
            logits = self.model(pixel_values).logits
        finally:
            for hook in hooks:
                hook.remove()
        return logits, torch.cat(seen, -1)


@dataclass(frozen=True, kw_only=True)
class ProcessorFront(ImageFront):
    """The way of an image processor of transformers, which is the reference for that in the graph.

    It is the one that `AutoImageProcessor` takes where torchvision is installed.
    """

    processor: Any

    @classmethod
    def like(cls, said: ImageProcessor) -> ProcessorFront:
        """As a file says.

        Raises:
            ConversionError: a graph cannot do it.
        """
        preprocess, size = said.recipe()
        processor = pretrained.image_processor(said.name, said.options)
        return cls(preprocess=preprocess, size=size, processor=processor)

    def pixel_values(self, photos: Iterable[Photo]) -> torch.Tensor:
        """Photos of any sizes as one float32 (N, 3, *size), by transformers."""
        made = [
            self.processor(photo, input_data_format="channels_last", return_tensors="pt")
            for photo in photos
        ]
        return torch.cat([one[PIXEL_VALUES] for one in made])


def load(
    repository: VisionRepository, files: Mapping[str, Path], record: ModelRecord, *, trust: bool
) -> TorchBackbone:
    """The image model in a repository's ``files``, by their names in it.

    Raises:
        ConversionError: it is none that is converted, or weights are missing or left over.
        UnsafeError: reading it could run code or fill the memory.
        IntegrityError: it is corrupted.
    """
    model = _network(repository, files, trust=trust)
    module: Network
    if repository.is_classifier:
        heads = _heads_of(model, repository.num_classes)
        module = VisionClassifier(model, heads, repository.activation)
    else:
        module = VisionEncoder(model, pooled=repository.family.pooled)
    front = _front(repository)
    with pretrained.quiet(), pretrained.explained(repository.architecture), torch.no_grad():
        module(*(tensor[:1] for tensor in front.example()))  # is it of a size that it takes?
    return TorchBackbone(module, record, front, files=_kept(repository, model, files))


def _front(repository: VisionRepository) -> ImageFront | PixelFront:
    """The way from photos, or why there is none and what the network takes without it."""
    try:
        return ProcessorFront.like(repository.processor)
    except ConversionError as error:
        return PixelFront(repository.image_size(), error.message)


def _network(
    repository: VisionRepository, files: Mapping[str, Path], *, trust: bool
) -> torch.nn.Module:
    state = weights.read_folder(files, repository.root, trust=trust)
    architecture, kind = repository.architecture, repository.model_type
    config = pretrained.config_of(repository.config, kind, architecture)
    name = architecture
    left_out: tuple[str, ...] = ()
    if not repository.is_classifier and hasattr(config, "vision_config"):
        name, left_out = _tower_of(repository)
        inner = config.vision_config
        inner.projection_dim = getattr(config, "projection_dim", None)
        config = inner
    random = () if repository.is_classifier or repository.family.pooled else (_POOLER,)
    model = pretrained.load(
        name, config, state, architecture=architecture, left_out=left_out, random=random
    )
    if random and hasattr(model, "pooler"):
        model.pooler = None  # type: ignore[assignment]
    return model


def _tower_of(repository: VisionRepository) -> tuple[str, tuple[str, ...]]:
    """The class of the tower for images, and what it leaves out of the weights of both."""
    prefix, own = repository.family.prefix, repository.architecture
    if own != f"{prefix}Model":
        return own, ()
    projected = f"{prefix}VisionModelWithProjection"
    whole = projected if projected in repository.classes else f"{prefix}VisionModel"
    return whole, _OTHER_TOWER


def _heads_of(model: torch.nn.Module, classes: int) -> tuple[str, ...]:
    """The last layers, by their names: `classifier`, of a distilled network two.

    Raises:
        ConversionError: there are none.
    """
    heads = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module.out_features == classes
        and "classifier" in name.split(".")[0]
    ]
    if not heads:
        raise ConversionError(f"{type(model).__name__} has no last layer for {classes} classes")
    return tuple(heads)


def _kept(
    repository: VisionRepository, model: torch.nn.Module, files: Mapping[str, Path]
) -> dict[str, bytes]:
    """The configuration, of the tower alone where the weights of another were left out."""
    kept = {
        name: files[f"{repository.root}{name}"].read_bytes()
        for name in (CONFIG, *PROCESSORS)
        if f"{repository.root}{name}" in files
    }
    if type(model).__name__ != repository.architecture:
        said = model.config.to_dict()  # type: ignore[operator, union-attr]
        said["architectures"] = [type(model).__name__]
        kept[CONFIG] = msgspec.json.encode(said)
    return kept
