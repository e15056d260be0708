"""Figures that a publisher wrote down wrongly, each checked by hand; they are left out.

How they were found: parameters more than three times off, or MACs at one size more than 1.6 times
off, those of the same architecture elsewhere. Most of these are right (heads of 21,000 classes,
names that differ in a point); what is listed here contradicts the publisher's own configuration or
its other figures.
"""

from __future__ import annotations

import logging

import msgspec

from catalog.record import ModelRecord

log = logging.getLogger(__name__)

_BOTH = ("params", "gmacs", "gmacs_at")
_MACS = ("gmacs", "gmacs_at")
_OTHER = "those of the 475 px and of the 800 px stand in each other's place"
_AT_224 = "counted at 224 px, not at the size that it is used at"
_SWAPPED = "parameters and MACs stand in each other's place (timm has them the other way round)"

# uid -> the fields that are wrong, and what shows it.
SLIPS: dict[str, tuple[tuple[str, ...], str]] = {
    "mmpretrain/resnet34_8xb32_in1k": (
        ("params",),
        "2.18 M is a tenth of the 21.8 M of its configuration",
    ),
    "mmpretrain/regnetx-3.2gf_8xb64_in1k": (
        _BOTH,
        "3.21 M parameters and 1.53 G MACs are 15.3 M and 3.2 G in each other's place",
    ),
    "mmpretrain/resnet101-csra_1xb16_voc07-448px": (
        _BOTH,
        "23.55 M and 4.12 G are those of a ResNet-50; its configuration has 42.5 M",
    ),
    "mmpretrain/resnet50_spark-pre_300e_in1k": (
        _BOTH,
        "23.52 M and 1.31 G; a ResNet-50 has 25.56 M and 4.1 G, as its others say",
    ),
    "mmpretrain/efficientnet-l2_3rdparty-ra-noisystudent_in1k-475px": (_MACS, _OTHER),
    "mmpretrain/efficientnet-l2_3rdparty-ra-noisystudent_in1k-800px": (_MACS, _OTHER),
    "paddleclas/ResNeSt200": (_MACS, _AT_224),
    "paddleclas/ResNeSt269": (_MACS, _AT_224),
    "paddleclas/RepVGG_D2se": (_MACS, _AT_224),
    "openvino/mixnet-l": (
        _MACS,
        "halved as FLOPs, but 0.565 G are its MACs: timm counts 0.591",
    ),
    "mmpretrain/repvgg-B0_8xb32_in1k": (_BOTH, _SWAPPED),
    **{
        f"mmcls/repvgg-{name}_in1k": (_BOTH, _SWAPPED)
        for name in (
            *("A2_3rdparty_4xb64-coslr-120e", "B0_3rdparty_4xb64-coslr-120e"),
            *("B1_3rdparty_4xb64-coslr-120e", "B1g2_3rdparty_4xb64-coslr-120e"),
            *("B1g4_3rdparty_4xb64-coslr-120e", "B2_3rdparty_4xb64-coslr-120e"),
            *("B2g4_3rdparty_4xb64-autoaug-lbs-mixup-coslr-200e",),
            *("B3_3rdparty_4xb64-autoaug-lbs-mixup-coslr-200e",),
            *("B3g4_3rdparty_4xb64-autoaug-lbs-mixup-coslr-200e",),
        )
    },
}


def without_slips(record: ModelRecord) -> ModelRecord:
    """The record without the figures of its publisher that are known to be wrong."""
    if record.uid not in SLIPS:
        return record
    fields, reason = SLIPS[record.uid]
    log.info("%s: %s left out: %s", record.uid, ", ".join(fields), reason)
    kept = (
        msgspec.structs.replace(item, fields=tuple(f for f in item.fields if f not in fields))
        for item in record.provenance
    )
    return msgspec.structs.replace(
        record,
        provenance=tuple(item for item in kept if item.fields),
        **dict.fromkeys(fields),
    )
