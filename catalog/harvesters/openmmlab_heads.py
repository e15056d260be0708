"""Parameters of OpenMMLab's heads for segmentation and key points, from their configurations."""

from __future__ import annotations

import math
from collections.abc import Callable

from catalog.harvesters.openmmlab_layers import Part, conv, conv_norm, linear, separable

_SCALES = (1, 2, 3, 6)


def _inputs(part: Part) -> tuple[list[int], int, int]:
    """Channels of the inputs, of the features, and those of the last layer with its bias."""
    said = part.get("in_channels")
    part.get("input_transform"), part.get("sampler")
    channels, classes = part.get("channels"), part.get("num_classes")
    outs = part.get("out_channels") or classes
    part.get("norm_cfg"), part.get("conv_cfg"), part.get("threshold")
    return list(said) if isinstance(said, list | tuple) else [said], channels, outs


def fcn(part: Part) -> int:
    """Convolutions, then the classes."""
    ins, channels, classes = _inputs(part)
    count, kernel = part.get("num_convs", 2), part.get("kernel_size", 3)
    part.get("dilation")
    single = separable if part.type == "DepthwiseSeparableFCNHead" else conv_norm
    part.get("dw_act_cfg")
    # A head that is fed several resolutions at once has their channels together.
    whole = sum(ins)
    total = conv(channels, classes, bias=True)
    for number in range(count):
        total += single(channels if number else whole, channels, kernel)
    if part.get("concat_input", True):
        total += single(whole + channels, channels, kernel)
    return total


def pyramid(part: Part) -> int:
    """PSPNet's pooling at several scales; with APCNet's and DMNet's adaptive ones."""
    (ins,), channels, classes = _inputs(part)
    each = channels
    if part.type == "APCHead":
        scales = part.get("pool_scales", _SCALES)
        block = [_adaptive(ins, each, scale, fused=part.get("fusion", True)) for scale in scales]
    elif part.type == "DMHead":
        scales = part.get("filter_sizes", (1, 3, 5, 7))
        one = conv(ins, each, bias=True) + conv_norm(ins, each) + 2 * each
        one += conv_norm(each, each) if part.get("fusion", False) else 0
        block = [one] * len(scales)
    else:
        block = [conv_norm(ins, each)] * len(part.get("pool_scales", _SCALES))
    merged = conv_norm(ins + len(block) * channels, channels, 3)
    return sum(block) + merged + conv(channels, classes, bias=True)


def _adaptive(ins: int, outs: int, scale: int, *, fused: bool) -> int:
    reduced = 2 * conv_norm(ins, outs)
    return reduced + conv(outs, scale**2, bias=True) + (3 if fused else 2) * conv_norm(outs, outs)


def atrous(part: Part) -> int:
    """DeepLabV3's dilated convolutions, and the decoder of V3+."""
    (ins,), channels, classes = _inputs(part)
    rates = part.get("dilations", (1, 6, 12, 18))
    light = part.type == "DepthwiseSeparableASPPHead"
    total = conv_norm(ins, channels)  # of the pooled image
    for rate in rates:
        if rate == 1:
            total += conv_norm(ins, channels)
        else:
            total += separable(ins, channels, 3) if light else conv_norm(ins, channels, 3)
    total += conv_norm((len(rates) + 1) * channels, channels, 3)
    if light:
        first, few = part.get("c1_in_channels"), part.get("c1_channels")
        total += conv_norm(first, few) if first else 0
        total += separable(channels + few, channels, 3) + separable(channels, channels, 3)
    return total + conv(channels, classes, bias=True)


def uper(part: Part) -> int:
    """UPerNet: a pooling pyramid on top of a feature pyramid."""
    ins, channels, classes = _inputs(part)
    scales = part.get("pool_scales", _SCALES)
    total = len(scales) * conv_norm(ins[-1], channels)
    total += conv_norm(ins[-1] + len(scales) * channels, channels, 3)
    for width in ins[:-1]:
        total += conv_norm(width, channels) + conv_norm(channels, channels, 3)
    total += conv_norm(len(ins) * channels, channels, 3)
    return total + conv(channels, classes, bias=True)


def feature_pyramid(part: Part) -> int:
    """Panoptic FPN's head: each level is brought to the finest resolution."""
    ins, channels, classes = _inputs(part)
    strides = part.get("feature_strides")
    total = conv(channels, classes, bias=True)
    for width, stride in zip(ins, strides, strict=True):
        steps = max(1, int(math.log2(stride) - math.log2(strides[0])))
        total += conv_norm(width, channels, 3) + (steps - 1) * conv_norm(channels, channels, 3)
    return total


def segformer(part: Part) -> int:
    """SegFormer's: every level to the same width, then fused."""
    ins, channels, classes = _inputs(part)
    total = sum(conv_norm(width, channels) for width in ins)
    return total + conv_norm(channels * len(ins), channels) + conv(channels, classes, bias=True)


def attending(part: Part) -> int:
    """The heads that are FCN's with a block of attention between the convolutions."""
    total = fcn(part)
    width = part.get("channels")
    if part.type == "CCHead":
        part.get("recurrence")
        eighth = conv(width, width // 8, bias=True)
        return total + 2 * eighth + conv(width, width, bias=True) + 1
    if part.type == "GCHead":
        part.get("pooling_type"), part.get("fusion_types")
        few = int(width * part.get("ratio", 1 / 4.0))
        added = conv(width, few, bias=True) + 2 * few + conv(few, width, bias=True)
        return total + conv(width, 1, bias=True) + added
    inner = max(width // part.get("reduction", 2), 1)
    pairwise = 1 if part.get("mode", "embedded_gaussian") == "gaussian" else 3
    total += pairwise * conv(width, inner, bias=True) + conv_norm(inner, width)
    if part.type == "DNLHead":
        part.get("temperature")
        total += conv(width, 1, bias=True)
    return total


def dual_attention(part: Part) -> int:
    """DANet: attention to places and to channels, each with classes of its own."""
    (ins,), channels, classes = _inputs(part)
    few = part.get("pam_channels")
    places = 2 * conv(channels, few, bias=True) + conv(channels, channels, bias=True) + 1
    around = 2 * (conv_norm(ins, channels, 3) + conv_norm(channels, channels, 3))
    return places + 1 + around + 3 * conv(channels, classes, bias=True)


def interlaced(part: Part) -> int:
    """ISANet: attention over far and over near places."""
    (ins,), channels, classes = _inputs(part)
    few = part.get("isa_channels")
    block = 2 * (conv_norm(channels, few) + conv_norm(few, few))
    block += conv(channels, channels, bias=True) + conv_norm(channels, channels)
    total = conv_norm(ins, channels, 3) + 2 * block + conv_norm(2 * channels, channels)
    return total + conv(channels, classes, bias=True)


def asymmetric(part: Part) -> int:
    """ANN: attention between two levels and within one, over pooled keys."""
    ins, channels, classes = _inputs(part)
    few = part.get("project_channels")
    stages = len(part.get("query_scales", (1,)))
    part.get("key_pool_scales")
    low, high = ins
    across = conv_norm(low, few) + conv_norm(high, few)
    across += conv(low, few, bias=True) + conv(few, high, bias=True)
    within = conv_norm(channels, few) + conv(channels, few, bias=True)
    within += conv(few, channels, bias=True)
    total = stages * (across + within) + conv_norm(2 * high, high)
    total += conv_norm(high, channels, 3) + conv_norm(2 * channels, channels)
    return total + conv(channels, classes, bias=True)


def pointwise(part: Part) -> int:
    """PSANet: attention that each place collects and distributes."""
    (ins,), channels, classes = _inputs(part)
    height, width = part.get("mask_size")
    ways = 2 if part.get("psa_type", "bi-direction") == "bi-direction" else 1
    if part.get("compact", False):
        raise TypeError("compact masks")
    part.get("shrink_factor")
    way = conv_norm(ins, channels) + conv_norm(channels, channels) + conv(channels, height * width)
    total = ways * way + conv_norm(ways * channels, ins) + conv_norm(2 * ins, channels, 3)
    return total + conv(channels, classes, bias=True)


def encoding(part: Part) -> int:
    """EncNet: the classes weighed by a dictionary of codes."""
    ins, channels, classes = _inputs(part)
    codes = part.get("num_codes", 32)
    total = conv_norm(ins[-1], channels, 3) + conv_norm(channels, channels)
    total += codes * channels + codes + 2 * codes + linear(channels, channels)
    if part.get("add_lateral", False):
        total += sum(conv_norm(width, channels) for width in ins[:-1])
        total += conv_norm(len(ins) * channels, channels, 3)
    total += linear(channels, classes) if part.get("use_se_loss", True) else 0
    return int(total + conv(channels, classes, bias=True))


def object_context(part: Part) -> int:
    """OCRNet: each place attends to the regions that the head before it found."""
    ins, channels, classes = _inputs(part)
    few = part.get("ocr_channels")
    part.get("scale")
    total = conv_norm(sum(ins), channels, 3) + 2 * (conv_norm(channels, few) + conv_norm(few, few))
    total += conv_norm(channels, few) + conv_norm(few, channels)
    return total + conv_norm(2 * channels, channels) + conv(channels, classes, bias=True)


def heatmap(part: Part) -> int:
    """Key points as maps: transposed convolutions, then a map for each point."""
    before, points = part.get("in_channels"), part.get("out_channels")
    if isinstance(before, list | tuple):
        raise TypeError("several inputs")
    total = 0
    widths = part.get("deconv_out_channels", (256, 256, 256)) or ()
    kernels = part.get("deconv_kernel_sizes", (4, 4, 4)) or ()
    for width, kernel in zip(widths, kernels, strict=bool(widths)):
        total += conv_norm(before, width, kernel)
        before = width
    widths, kernels = part.get("conv_out_channels") or (), part.get("conv_kernel_sizes") or ()
    for width, kernel in zip(widths, kernels, strict=True):
        total += conv(before, width, kernel, bias=True) + 2 * width
        before = width
    last = part.get("final_layer", {"kernel_size": 1})
    part.get("has_final_layer"), part.get("heatmap_size")
    return total + (conv(before, points, last["kernel_size"], bias=True) if last else 0)


def regression(part: Part) -> int:
    """Key points as numbers: one fully connected layer."""
    return linear(part.get("in_channels"), part.get("num_joints") * 2)


def coordinates(part: Part) -> int:
    """RTMPose's: key points as places on two axes, with one gated attention unit."""
    ins, points = part.get("in_channels"), part.get("out_channels")
    height, width = part.get("in_featuremap_size")
    ratio, size = part.get("simcc_split_ratio", 2.0), part.get("input_size")
    unit = part.get("gau_cfg")
    hidden, inner, keys = unit["hidden_dims"], unit["expansion_factor"], unit["s"]
    inner = int(hidden * inner)
    total = conv(ins, points, part.get("final_layer_kernel_size", 1), bias=True)
    total += 1 + linear(height * width, hidden, bias=False)
    total += linear(inner, hidden, bias=False) + linear(hidden, 2 * inner + keys, bias=False)
    total += 4 * keys + 1 + hidden + (2 * points - 1 if unit["use_rel_bias"] else 0)
    return int(total + hidden * (int(size[0] * ratio) + int(size[1] * ratio)))


HEADS: dict[str, Callable[[Part], int]] = {
    **dict.fromkeys(("FCNHead", "DepthwiseSeparableFCNHead"), fcn),
    **dict.fromkeys(("PSPHead", "APCHead", "DMHead"), pyramid),
    **dict.fromkeys(("ASPPHead", "DepthwiseSeparableASPPHead"), atrous),
    **dict.fromkeys(("NLHead", "DNLHead", "GCHead", "CCHead"), attending),
    "UPerHead": uper,
    "FPNHead": feature_pyramid,
    "SegformerHead": segformer,
    "DAHead": dual_attention,
    "ISAHead": interlaced,
    "ANNHead": asymmetric,
    "PSAHead": pointwise,
    "EncHead": encoding,
    "OCRHead": object_context,
    "HeatmapHead": heatmap,
    "RegressionHead": regression,
    "RTMCCHead": coordinates,
}
