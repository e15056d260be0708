"""Parameters of OpenMMLab's necks and heads for detection, from their configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from catalog.harvesters.openmmlab_layers import (
    Part,
    UncountableError,
    conv,
    conv_of,
    linear,
)

_GROUPS = {"type": "GN"}


def fpn(part: Part) -> int:
    """A feature pyramid: levels from above are added, more levels may follow the last."""
    ins, width, levels = part.get("in_channels"), part.get("out_channels"), part.get("num_outs")
    start, end = part.get("start_level", 0), part.get("end_level", -1)
    ins = ins[start : len(ins) if end in (-1, len(ins) - 1) else end + 1]
    extra = part.get("add_extra_convs", False)
    plain = part.get("no_norm_on_lateral", False)
    if part.get("conv_cfg") and part.get("conv_cfg")["type"] not in {"Conv2d", "ConvWS"}:
        raise UncountableError("FPN: another kind of convolution")
    total = 0
    for each in ins:
        total += conv(each, width, bias=True) if plain else conv_of(part, each, width, 1)
        total += conv_of(part, width, width, 3)
    if extra:
        for number in range(levels - len(ins)):
            first = number == 0 and extra in (True, "on_input")
            total += conv_of(part, ins[-1] if first else width, width, 3)
    return total


def hrfpn(part: Part) -> int:
    """HRNet's pyramid: all branches together, then pooled."""
    width = part.get("out_channels")
    total = conv(sum(part.get("in_channels")), width, bias=True)
    return total + int(part.get("num_outs", 5)) * conv(width, width, 3, bias=True)


def _anchors(part: Part) -> int:
    """Anchors at each place."""
    said = part.get("anchor_generator")
    scales = said.get("scales")
    per_octave = said.get("scales_per_octave")
    return len(said["ratios"]) * (len(scales) if scales is not None else per_octave)


def _classes(part: Part, classes: int, loss: str = "loss_cls") -> int:
    """Outputs for the classes: with a softmax one more, for the background."""
    said = part.get(loss)
    default = part.type != "RPNHead"
    sigmoid = said.get("use_sigmoid", False) if isinstance(said, dict) else default
    return classes if sigmoid else classes + 1


def rpn(part: Part) -> int:
    """The head that proposes regions."""
    ins, width = part.get("in_channels"), part.get("feat_channels", 256)
    if part.get("num_convs", 1) != 1:
        raise UncountableError("RPNHead: several convolutions")
    anchors, classes = _anchors(part), _classes(part, 1)
    total = conv(ins, width, 3, bias=True)
    return total + conv(width, anchors * classes, bias=True) + conv(width, anchors * 4, bias=True)


def dense(part: Part) -> int:
    """The heads with two towers of convolutions: RetinaNet, FCOS, ATSS, PAA, GFL."""
    ins, width = part.get("in_channels"), part.get("feat_channels", 256)
    classes, deep = part.get("num_classes"), part.get("stacked_convs", 4)
    grouped = part.type in {"FCOSHead", "ATSSHead", "PAAHead", "GFLHead"}
    norm = _GROUPS if grouped else None
    part.get("norm_cfg", norm), part.get("conv_cfg"), part.get("strides"), part.get("angle_version")
    part.get("regress_ranges"), part.get("assign_by_circumhbbox"), part.get("reg_decoded_bbox")
    if part.get("dcn_on_last_conv", False) or part.get("conv_bias", "auto") not in ("auto", True):
        raise UncountableError(f"{part.type}: deformed or without bias")
    total = 0
    for number in range(deep):
        one = conv_of(part, width if number else ins, width, 3, norm=norm)
        if part.get("conv_bias") is True and part.get("norm_cfg", norm) is not None:
            one += width
        total += 2 * one
    if part.type == "FCOSHead":
        outputs = _classes(part, classes) + 4 + 1
        return total + conv(width, outputs, 3, bias=True) + 5
    levels = len((part.get("anchor_generator") or {}).get("strides", ()))
    anchors = _anchors(part)
    outputs = anchors * _classes(part, classes)
    if part.type in {"ATSSHead", "PAAHead"}:
        return total + conv(width, outputs + 5 * anchors, 3, bias=True) + levels
    if part.type == "GFLHead":
        outputs += 4 * (part.get("reg_max", 16) + 1)
        return total + conv(width, outputs, 3, bias=True) + levels
    box = 5 if part.type == "RotatedRetinaHead" else 4
    return total + conv(width, outputs + box * anchors, 3, bias=True)


def box(part: Part) -> int:
    """The head that classifies and refines a region."""
    ins, side = part.get("in_channels", 256), part.get("roi_feat_size", 7)
    classes, hidden = part.get("num_classes", 80), part.get("fc_out_channels", 1024)
    shared = {"Shared2FCBBoxHead": (0, 2), "Shared4Conv1FCBBoxHead": (4, 1)}
    convs, layers = shared.get(part.type, (0, 0))
    convs, layers = part.get("num_shared_convs", convs), part.get("num_shared_fcs", layers)
    apart = ("num_cls_convs", "num_cls_fcs", "num_reg_convs", "num_reg_fcs", "with_avg_pool")
    if any(part.get(name, 0) for name in apart) or not part.get("with_reg", True):
        raise UncountableError(f"{part.type}: layers for one of its tasks")
    if part.get("cls_predictor_cfg") or part.get("reg_predictor_cfg"):
        raise UncountableError(f"{part.type}: other last layers")
    width, total = part.get("conv_out_channels", 256), 0
    part.get("conv_cfg")
    for _ in range(convs):
        total += conv_of(part, ins, width, 3)
        ins = width
    part.get("norm_cfg")
    ins *= side * side
    for _ in range(layers):
        total += linear(ins, hidden)
        ins = hidden
    outputs = classes + 1 + 4 * (1 if part.get("reg_class_agnostic", False) else classes)
    return total + linear(ins, outputs)


def mask(part: Part) -> int:
    """The head that draws the mask of a region."""
    ins, width = part.get("in_channels", 256), part.get("conv_out_channels", 256)
    classes = 1 if part.get("class_agnostic", False) else part.get("num_classes", 80)
    upsample = part.get("upsample_cfg", {"type": "deconv", "scale_factor": 2})
    part.get("roi_feat_size"), part.get("conv_cfg"), part.get("norm_cfg")
    if part.get("predictor_cfg", {"type": "Conv"})["type"] != "Conv":
        raise UncountableError("FCNMaskHead: another last layer")
    if upsample["type"] != "deconv" or part.get("conv_kernel_size", 3) != 3:
        raise UncountableError("FCNMaskHead: another way up")
    total = 0
    for number in range(part.get("num_convs", 4)):
        total += conv_of(part, width if number else ins, width, 3)
    return total + conv(width, width, 2, bias=True) + conv(width, classes, bias=True)


def nothing(part: Part) -> int:
    """What has no parameters of its own."""
    del part
    return 0


def channel_mapper(part: Part) -> int:
    """Each level to the same width."""
    ins, width = part.get("in_channels"), part.get("out_channels")
    kernel = part.get("kernel_size", 3)
    total = sum(conv_of(part, each, width, kernel) for each in ins)
    for number in range(part.get("num_outs", len(ins)) - len(ins)):
        total += conv_of(part, width if number else ins[-1], width, 3)
    return total


def roi(part: Part, counted: Callable[[Any], int]) -> int:
    """The second stage of a detector, or its several."""
    stages = part.get("num_stages", 1)
    for name in ("bbox_roi_extractor", "mask_roi_extractor"):
        extractor = part.get(name)
        kinds = [extractor] if isinstance(extractor, dict) else extractor or []
        if any(each.get("type") != "SingleRoIExtractor" for each in kinds):
            raise UncountableError(f"{part.type}: {name}")
    total = 0
    for name in ("bbox_head", "mask_head"):
        said = part.get(name)
        if isinstance(said, list | tuple):
            total += sum(map(counted, said))
        elif said is not None:
            total += stages * counted(said)
    return total


NECKS: dict[str, Callable[[Part], int]] = {
    "FPN": fpn,
    "HRFPN": hrfpn,
    "ChannelMapper": channel_mapper,
    **dict.fromkeys(("GlobalAveragePooling", "FeatureMapProcessor"), nothing),
}
DETECTION_HEADS: dict[str, Callable[[Part], int]] = {
    "RPNHead": rpn,
    **dict.fromkeys(("RetinaHead", "RotatedRetinaHead", "FCOSHead"), dense),
    **dict.fromkeys(("ATSSHead", "PAAHead", "GFLHead"), dense),
    **dict.fromkeys(("FreeAnchorRetinaHead", "PISARetinaHead", "LDHead"), dense),
    **dict.fromkeys(("BBoxHead", "ConvFCBBoxHead", "Shared2FCBBoxHead"), box),
    "Shared4Conv1FCBBoxHead": box,
    "FCNMaskHead": mask,
}
