"""What a repository in the layout of the Hugging Face hub says of its image model.

As `converters.repository` does of text models: without any framework, and trusting nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from catalog.errors import ConversionError
from catalog.record import Preprocess
from converters import repository
from converters.configurations import Loader, Read, check_config, labels_of, num_classes_of
from converters.image_processors import ImageProcessor, Size
from converters.repository import CONFIG, PROCESSORS

_LARGEST_SIDE = 4096
_CLASSIFIER = "ForImageClassification"


@dataclass(frozen=True)
class Family:
    """An architecture: how the names of its classes begin, and what is made of its tokens."""

    prefix: str
    processor: str  # its class of image processor, where a file names none
    pooled: bool = True  # False: its embedding is the first token
    towers: tuple[str, ...] = ("Model",)  # what its encoders are called behind the prefix
    classifiers: tuple[str, ...] = (_CLASSIFIER,)


_CLIP_TOWERS = ("VisionModel", "VisionModelWithProjection")
# By what `model_type` calls them.
FAMILIES = {
    "beit": Family("Beit", "BeitImageProcessor"),
    "clip": Family("CLIP", "CLIPImageProcessor", towers=("Model", *_CLIP_TOWERS)),
    "clip_vision_model": Family(
        "CLIP", "CLIPImageProcessor", towers=_CLIP_TOWERS, classifiers=()
    ),
    "convnext": Family("ConvNext", "ConvNextImageProcessor"),
    "convnextv2": Family("ConvNextV2", "ConvNextImageProcessor"),
    "deit": Family(
        "DeiT",
        "DeiTImageProcessor",
        pooled=False,
        classifiers=(_CLASSIFIER, f"{_CLASSIFIER}WithTeacher"),
    ),
    "dinov2": Family("Dinov2", "BitImageProcessor"),
    "dinov2_with_registers": Family("Dinov2WithRegisters", "BitImageProcessor"),
    "mobilenet_v2": Family("MobileNetV2", "MobileNetV2ImageProcessor"),
    "regnet": Family("RegNet", "ConvNextImageProcessor"),
    "resnet": Family("ResNet", "ConvNextImageProcessor"),
    "siglip": Family("Siglip", "SiglipImageProcessor", towers=("Model", "VisionModel")),
    "siglip_vision_model": Family(
        "Siglip", "SiglipImageProcessor", towers=("VisionModel",), classifiers=()
    ),
    "swin": Family("Swin", "ViTImageProcessor"),
    "swinv2": Family("Swinv2", "ViTImageProcessor"),
    "vit": Family("ViT", "ViTImageProcessor", pooled=False),
}  # fmt: skip


@dataclass(frozen=True)
class VisionRepository:
    """An image model as its repository describes it."""

    root: str  # the folder that it is in, empty or with a slash at the end
    config: Mapping[str, Any]
    processing: Mapping[str, Any] | None  # of photos; None where no file says

    @classmethod
    def of(cls, names: Iterable[str], read: Read) -> VisionRepository | None:
        """What the files with these names say; None where it is no image model that is known.

        Raises:
            ConversionError: it is none that can be converted; the message is half a sentence.
            UnsafeError: its figures are absurd. IntegrityError: a file makes no sense.
        """
        names = set(names)
        root = repository.root_of(names)
        if f"{root}{repository.MODULES}" in names:
            return None
        load = Loader(names, read)
        config = load.object(f"{root}{CONFIG}") or {}
        kind = config.get("model_type")
        if not isinstance(kind, str) or kind not in FAMILIES:
            return None
        check_config(config)
        nested = (load.object(f"{root}{PROCESSORS[0]}") or {}).get("image_processor")
        own = load.object(f"{root}{PROCESSORS[1]}")
        made = cls(root, config, nested if isinstance(nested, dict) else own)
        made.refuse_unknown()
        return made

    @property
    def family(self) -> Family:
        """Its architecture."""
        return FAMILIES[self.model_type]

    @property
    def model_type(self) -> str:
        """What transformers calls its architecture."""
        return str(self.config["model_type"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of transformers that are converted, of its architecture."""
        return classes_of(self.model_type)

    @property
    def architecture(self) -> str:
        """The class of transformers that its weights were saved from."""
        named = self.config.get("architectures")
        if isinstance(named, list) and named and isinstance(named[0], str):
            return named[0]
        return f"{self.family.prefix}{self.family.towers[0]}"

    @property
    def is_classifier(self) -> bool:
        """Whether it sorts images into classes."""
        return _CLASSIFIER in self.architecture

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes in the order of the logits; those that are made up are none."""
        return labels_of(self.config)

    @property
    def num_classes(self) -> int:
        """How many classes it tells apart, as transformers counts them."""
        return num_classes_of(self.config)

    @property
    def activation(self) -> str:
        """What makes probabilities of its logits: `softmax`, or `sigmoid` for each on its own."""
        several = self.config.get("problem_type") == "multi_label_classification"
        return "sigmoid" if several or self.num_classes == 1 else "softmax"

    @property
    def processor(self) -> ImageProcessor:
        """What is done to a photo.

        Raises:
            ConversionError: no file says, or it is not known how.
        """
        if self.processing is None:
            raise ConversionError(f"it has no {PROCESSORS[1]}: how its photos are prepared")
        return ImageProcessor.of(self.processing, self.family.processor)

    def recipe(self) -> tuple[Preprocess, Size]:
        """How photos become the network's tensor, and (height, width) of that.

        Raises:
            ConversionError: as `processor`, or a graph cannot do it.
        """
        return self.processor.recipe()

    def image_size(self) -> Size:
        """(height, width) that the network is made for, as its own configuration says.

        Raises:
            ConversionError: it does not say, or absurdly.
        """
        said = self.config.get("vision_config")
        size = (said if isinstance(said, dict) else self.config).get("image_size", 224)
        sides = tuple(size) if isinstance(size, list) else (size, size)
        if len(sides) != 2 or not all(isinstance(n, int) and 0 < n <= _LARGEST_SIDE for n in sides):
            raise ConversionError(f"its image_size makes no sense: {size!r}")
        return sides

    def refuse_unknown(self) -> None:
        """Refuse what is not converted.

        Raises:
            ConversionError: it wants code of its own, or its head is none that is converted.
        """
        if self.config.get("auto_map"):
            raise ConversionError("its config.json wants code of its own (`auto_map`), never run")
        if self.config.get("quantization_config"):
            raise ConversionError("its weights are quantized")
        if self.architecture not in self.classes:
            reason = obstacle(self.architecture)
            raise ConversionError(
                reason or f"it is {self.architecture} and of type {self.model_type}"
            )


def classes_of(model_type: str) -> tuple[str, ...]:
    """The classes of transformers that are converted, of an architecture."""
    family = FAMILIES[model_type]
    return tuple(f"{family.prefix}{name}" for name in (*family.towers, *family.classifiers))


def obstacle(architecture: str | None) -> str | None:
    """Why a class of transformers is not converted, as half a sentence; None where it is."""
    if any(architecture in classes_of(kind) for kind in FAMILIES):
        return None
    prefixes = "|".join(family.prefix for family in FAMILIES.values())
    if re.match(rf"({prefixes})(For|Vision|Text|Backbone)", architecture or ""):
        return f"its head, {architecture}, is not converted yet"
    return repository.obstacle(architecture)


def needed_files(found: VisionRepository, names: Iterable[str]) -> set[str]:
    """Those among the names that converting it takes: configuration and weights."""
    names = set(names)
    small = {f"{found.root}{name}" for name in (CONFIG, *PROCESSORS)}
    return (small & names) | repository.weights_in(names, {found.root})
