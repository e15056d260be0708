"""The class names of a record, in the order of its logits."""

from __future__ import annotations

from catalog.errors import ConversionError
from catalog.record import ModelRecord


def labels_of(record: ModelRecord) -> tuple[str, ...]:
    """The names, spelled out in the record or by its label set; empty where none are known.

    Raises:
        ConversionError: the label set is unknown, or there is not one name for each class.
    """
    labels = record.labels or _label_set(record)
    if labels and record.num_classes is not None and len(labels) != record.num_classes:
        raise ConversionError(
            f"{record.uid} has {record.num_classes} classes but {len(labels)} labels"
        )
    for label in labels:
        if label.splitlines() != [label]:
            raise ConversionError(f"{record.uid} has a label that is not one line: {label!r}")
    return labels


def _label_set(record: ModelRecord) -> tuple[str, ...]:
    if record.label_set is None:
        return ()
    if record.label_set == "imagenet-1k":
        from torchvision.models._meta import _IMAGENET_CATEGORIES

        return tuple(_IMAGENET_CATEGORIES)
    raise ConversionError(f"{record.uid} has labels of an unknown set, {record.label_set!r}")
