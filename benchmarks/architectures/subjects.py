"""What is converted: of every family of a framework the member with the least to compute.

Of transformers it is a network made small, since the architecture is all that there is to try.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import msgspec

from catalog import snapshot
from catalog.record import ModelRecord, Preprocess

# A dozen that differ in what they ask of an exporter; CI converts them.
SLICE = (
    *("timm/resnet", "timm/efficientnet", "timm/vision_transformer", "timm/convnext"),
    *("timm/swin_transformer", "timm/levit", "timm/xcit", "timm/fastvit"),
    *("torchvision/alexnet", "torchvision/squeezenet", "torchvision/shufflenetv2"),
    "torchvision/mobilenetv3",
)

# Keras' applications of 2018, and the side of the photos that they are tried with.
APPLICATIONS = {
    "Xception": 96,
    "VGG16": 64,
    "VGG19": 64,
    "ResNet50": 64,
    "InceptionV3": 96,
    "InceptionResNetV2": 96,
    "MobileNet": 64,
    "DenseNet121": 64,
    "NASNetMobile": 64,
}


@dataclass(frozen=True)
class Subject:
    """One architecture, by the name `framework/family`."""

    name: str
    record: ModelRecord


@cache
def all_subjects() -> dict[str, Subject]:
    """Every subject by its name."""
    subjects = [*_timm(), *_torchvision(), *_spatial(), *_keras(), *_transformers()]
    return {subject.name: subject for subject in subjects}


def _timm() -> Iterator[Subject]:
    """The families are timm's modules."""
    import timm

    known = _records("timm")
    for family in timm.list_modules():
        members = [known[name] for name in timm.list_models(module=family) if name in known]
        if members:
            yield Subject(f"timm/{family}", min(members, key=_cost))


def _torchvision() -> Iterator[Subject]:
    """The families are torchvision's modules."""
    from torchvision import models

    known = _records("torchvision")
    families: dict[str, list[ModelRecord]] = defaultdict(list)
    for name in models.list_models(module=models):
        if name in known:
            builder = models.get_model_builder(name)
            families[builder.__module__.rpartition(".")[2]].append(known[name])
    for family, members in sorted(families.items()):
        yield Subject(f"torchvision/{family}", min(members, key=_cost))


def _spatial() -> Iterator[Subject]:
    """Each of torchvision's segmentation networks and detectors."""
    from torchvision import models

    how = Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), interpolation="bilinear")
    tasks = {
        "image-segmentation": (models.segmentation, how, (3, 96, 96)),
        "object-detection": (models.detection, None, None),
    }
    for task, (module, preprocess, size) in tasks.items():
        for name in models.list_models(module=module):
            record = ModelRecord(
                uid=f"test/{name}",
                task=task,
                modality="image",
                framework="torchvision",
                architecture=name,
                num_classes=5,
                preprocess=preprocess,
                input_size=size,
            )
            yield Subject(f"torchvision/{name}", record)


def _keras() -> Iterator[Subject]:
    """The applications of 2018."""
    for name, side in APPLICATIONS.items():
        yield Subject(f"keras/{name}", keras_record(name, side))


def keras_record(
    architecture: str, side: int, uid: str | None = None, classes: int = 7
) -> ModelRecord:
    """What is known of an application that takes photos of ``side`` by ``side`` pixels."""
    return ModelRecord(
        uid=f"keras/{uid or architecture}",
        framework="keras",
        architecture=architecture,
        num_classes=classes,
        input_size=(3, side, side),
    )


def _transformers() -> Iterator[Subject]:
    """What is known of them, the files say that `benchmarks.architectures.tiny` writes."""
    from benchmarks.architectures.tiny import TEXT, VISION

    for kind in (*TEXT, *VISION):
        name = f"transformers/{kind}"
        yield Subject(name, ModelRecord(uid=name, framework="transformers", family=kind))


def _records(framework: str) -> dict[str, ModelRecord]:
    """A record of each architecture, without its files: weights are drawn at random."""
    found: dict[str, ModelRecord] = {}
    for record in snapshot.read():
        if record.framework == framework and record.architecture and record.preprocess:
            known = found.get(record.architecture)
            if known is None or _cost(record) < _cost(known):
                found[record.architecture] = msgspec.structs.replace(record, artifacts=(), also=())
    return found


def _cost(record: ModelRecord) -> tuple[float, str]:
    return record.gmacs or float("inf"), record.uid
