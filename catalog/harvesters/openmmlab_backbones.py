"""Parameters of OpenMMLab's backbones, from their configurations."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from catalog.harvesters.openmmlab_layers import (
    Part,
    UncountableError,
    conv,
    conv_norm,
    linear,
    separable,
)

_LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_LAYERS |= {101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def resnet(part: Part) -> int:
    """ResNet with its stems, grouped (ResNeXt) and squeezed (SEResNet) blocks."""
    depth = part.get("depth")
    basic = depth < 50
    expansion = part.get("expansion") or (1 if basic else 4)
    base = part.get("base_channels", 64)
    stem = part.get("stem_channels", base) or base
    ins = part.get("in_channels", 3)
    grouped = part.type in {"ResNeXt", "SEResNeXt"}
    groups = part.get("groups", 32 if grouped else 1)
    base_width = part.get("base_width", 4)
    squeezed = part.get("se_ratio", 16) if part.type.startswith("SE") else None
    deep = part.type in {"ResNetV1c", "ResNetV1d"} or part.get("deep_stem", False)
    part.get("avg_down")
    if basic and (part.get("dcn") or part.get("plugins")):
        raise UncountableError(f"{part.type}: plugins of small blocks")
    deformed = part.get("stage_with_dcn", (False,) * 4) if part.get("dcn") else (False,) * 4
    half = stem // 2
    total = (
        conv_norm(ins, half, 3) + conv_norm(half, half, 3) + conv_norm(half, stem, 3)
        if deep
        else conv_norm(ins, stem, 7)
    )
    before = stem
    for stage, count in enumerate(_LAYERS[depth][: part.get("num_stages", 4)]):
        planes = base * 2**stage
        outs = planes * expansion
        width = planes
        if groups > 1:
            width = planes * base_width // base * groups
        for number in range(count):
            if number == 0 and (before != outs or stage > 0):
                total += conv_norm(before, outs)
            if basic:
                total += conv_norm(before, planes, 3) + conv_norm(planes, outs, 3)
            else:
                total += conv_norm(before, width) + conv_norm(width, width, 3, groups=groups)
                total += conv_norm(width, outs)
                total += _offsets(part, width) if deformed[stage] else 0
                total += sum(_plugin(said, stage, outs) for said in part.get("plugins") or ())
            if squeezed:
                small = outs // squeezed
                total += conv(outs, small, bias=True) + conv(small, outs, bias=True)
            before = outs
    return total


def _offsets(part: Part, width: int) -> int:
    dcn = Part(part.get("dcn"))
    groups = dcn.get("deform_groups", 1)
    dcn.get("fallback_on_stride")
    dcn.done()
    each = {"DCN": 2, "DCNv2": 3}[dcn.type]
    return conv(width, each * 9 * groups, 3, bias=True)


def _plugin(said: Any, stage: int, width: int) -> int:
    """GCNet's block of context after the last convolution."""
    block = said["cfg"]
    if block["type"] != "ContextBlock" or said.get("position") != "after_conv3":
        raise UncountableError(f"plugin: {block['type']}")
    if set(block) - {"type", "ratio"} or set(said) - {"cfg", "stages", "position"}:
        raise UncountableError("plugin: further settings")
    if not said.get("stages", (True,) * 4)[stage]:
        return 0
    few = int(width * block["ratio"])
    added = conv(width, few, bias=True) + 2 * few + conv(few, width, bias=True)
    return conv(width, 1, bias=True) + added


def hrnet(part: Part) -> int:
    """HRNet: branches of several resolutions that are fused after each module."""
    extra = part.get("extra")
    last = extra["stage4"].get("multiscale_output", part.get("multiscale_output", True))
    total = conv_norm(part.get("in_channels", 3), 64, 3) + conv_norm(64, 64, 3)
    before = [64]
    for number in (1, 2, 3, 4):
        stage = extra[f"stage{number}"]
        expansion = {"BOTTLENECK": 4, "BASIC": 1}[stage["block"]]
        now = [width * expansion for width in stage["num_channels"]]
        if number > 1:
            total += _transition(before, now)
            before = now
        for module in range(stage["num_modules"]):
            for branch, blocks in enumerate(stage["num_blocks"]):
                total += _branch(before[branch], stage["num_channels"][branch], expansion, blocks)
            before = now
            everywhere = number < 4 or module < stage["num_modules"] - 1 or last
            total += _fusion(now, everywhere) if len(now) > 1 else 0
    return total


def _branch(ins: int, width: int, expansion: int, blocks: int) -> int:
    outs = width * expansion
    total = conv_norm(ins, outs) if ins != outs else 0
    for _ in range(blocks):
        if expansion == 1:
            total += conv_norm(ins, width, 3) + conv_norm(width, width, 3)
        else:
            total += conv_norm(ins, width) + conv_norm(width, width, 3) + conv_norm(width, outs)
        ins = outs
    return total


def _transition(before: list[int], now: list[int]) -> int:
    total = 0
    for number, width in enumerate(now):
        if number < len(before):
            total += conv_norm(before[number], width, 3) if before[number] != width else 0
        else:
            steps = number + 1 - len(before)
            total += (steps - 1) * conv_norm(before[-1], before[-1], 3)
            total += conv_norm(before[-1], width, 3)
    return total


def _fusion(widths: list[int], everywhere: bool) -> int:
    total = 0
    for to, outs in enumerate(widths[: None if everywhere else 1]):
        for of, ins in enumerate(widths):
            if of > to:
                total += conv_norm(ins, outs)
            elif of < to:
                total += (to - of - 1) * conv_norm(ins, ins, 3) + conv_norm(ins, outs, 3)
    return total


def swin(part: Part) -> int:
    """Swin Transformer, with a norm for each output."""
    width, window = part.get("embed_dims", 96), part.get("window_size", 7)
    depths, heads = part.get("depths", (2, 2, 6, 2)), part.get("num_heads", (3, 6, 12, 24))
    ratio, bias = part.get("mlp_ratio", 4), part.get("qkv_bias", True)
    patch = part.get("patch_size", 4)
    if part.get("use_abs_pos_embed", False) or not part.get("patch_norm", True):
        raise UncountableError("Swin: positions or norm of patches")
    total = conv(part.get("in_channels", 3), width, patch, bias=True) + 2 * width
    outputs = part.get("out_indices", (0, 1, 2, 3))
    for stage, (depth, head) in enumerate(zip(depths, heads, strict=True)):
        inner = int(ratio * width)
        attention = linear(width, 3 * width, bias=bias) + linear(width, width)
        attention += (2 * window - 1) ** 2 * head
        total += depth * (4 * width + attention + linear(width, inner) + linear(inner, width))
        total += 2 * width if stage in outputs else 0
        if stage < len(depths) - 1:
            total += 8 * width + linear(4 * width, 2 * width, bias=False)
            width *= 2
    return int(total)


def mix_transformer(part: Part) -> int:
    """The encoder of SegFormer."""
    unit, ratio = part.get("embed_dims", 64), part.get("mlp_ratio", 4)
    heads, depths = part.get("num_heads", (1, 2, 4, 8)), part.get("num_layers", (3, 4, 6, 3))
    patches, reductions = part.get("patch_sizes", (7, 3, 3, 3)), part.get("sr_ratios", (8, 4, 2, 1))
    bias = part.get("qkv_bias", True)
    part.get("num_stages")
    before, total = part.get("in_channels", 3), 0
    for head, depth, patch, reduction in zip(heads, depths, patches, reductions, strict=True):
        width = unit * head
        inner = width * ratio
        block = 4 * width + linear(width, 3 * width, bias=bias) + linear(width, width)
        block += conv(width, width, reduction, bias=True) + 2 * width if reduction > 1 else 0
        block += linear(width, inner) + conv(inner, inner, 3, groups=inner, bias=True)
        block += linear(inner, width)
        total += conv(before, width, patch, bias=True) + 4 * width + depth * block
        before = width
    return total


def cspnext(part: Part) -> int:
    """CSPNeXt, the backbone of RTMDet and RTMPose."""
    if part.get("arch", "P5") != "P5":
        raise UncountableError("CSPNeXt: an architecture of six stages")
    deeper, wider = part.get("deepen_factor", 1.0), part.get("widen_factor", 1.0)
    half = part.get("expand_ratio", 0.5)
    attends = part.get("channel_attention", True)
    widths = [int(width * wider) for width in (64, 128, 256, 512, 1024)]
    small = int(64 * wider // 2)
    total = conv_norm(3, small, 3) + conv_norm(small, small, 3) + conv_norm(small, widths[0], 3)
    for stage, (ins, outs) in enumerate(pairwise(widths)):
        total += conv_norm(ins, outs, 3)
        if stage == 3:
            total += conv_norm(outs, outs // 2) + conv_norm(outs // 2 * 4, outs)
        count = max(round((3, 6, 6, 3)[stage] * deeper), 1)
        total += csp_layer(outs, outs, count, half, attends=attends)
    return total


def csp_layer(ins: int, outs: int, blocks: int, half: float, *, attends: bool) -> int:
    """Two ways through, one of them with depthwise blocks, and attention to channels."""
    middle = int(outs * half)
    total = 2 * conv_norm(ins, middle) + conv_norm(2 * middle, outs)
    total += conv(2 * middle, 2 * middle, bias=True) if attends else 0
    return total + blocks * (conv_norm(middle, middle, 3) + separable(middle, middle, 5))


def mobilenet_v2(part: Part) -> int:
    """MobileNetV2; its last layer is there where it is an output."""
    factor = part.get("widen_factor", 1.0)
    outputs = part.get("out_indices", (7,))

    def rounded(width: int) -> int:
        found = max(8, int(width * factor + 4) // 8 * 8)
        return found + 8 if found < 0.9 * width * factor else found

    before = rounded(32)
    total = conv_norm(3, before, 3)
    rows = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
    for ratio, width, count in rows:
        for _ in range(count):
            outs, inner = rounded(width), before * ratio
            total += conv_norm(before, inner) if ratio != 1 else 0
            total += conv_norm(inner, inner, 3, groups=inner) + conv_norm(inner, outs)
            before = outs
    return total + (conv_norm(before, max(1280, int(1280 * factor))) if 7 in outputs else 0)


def unet(part: Part) -> int:
    """U-Net with interpolation before the convolution that goes up."""
    base, stages = part.get("base_channels", 64), part.get("num_stages", 5)
    down, up = part.get("enc_num_convs", (2,) * stages), part.get("dec_num_convs", (2,) * stages)
    upsampled = part.get("upsample_cfg", {"type": "InterpConv"})
    part.get("downsamples"), part.get("enc_dilations"), part.get("dec_dilations")
    if upsampled.get("type") != "InterpConv" or part.get("plugins") or part.get("dcn"):
        raise UncountableError("UNet: another way up")
    before, total = part.get("in_channels", 3), 0
    for stage in range(stages):
        width = base * 2**stage
        total += conv_norm(before, width, 3) + (down[stage] - 1) * conv_norm(width, width, 3)
        if stage:
            total += conv_norm(width, before) + conv_norm(2 * before, before, 3)
            total += (up[stage - 1] - 1) * conv_norm(before, before, 3)
        before = width
    return total


def regnet(part: Part) -> int:
    """RegNetX, its stages generated from four numbers."""
    arch = part.get("arch")
    tables = {
        "regnetx_400mf": (24, 24.48, 2.54, 16, 22),
        "regnetx_800mf": (56, 35.73, 2.28, 16, 16),
        "regnetx_1.6gf": (80, 34.01, 2.25, 24, 18),
        "regnetx_3.2gf": (88, 26.31, 2.25, 48, 25),
        "regnetx_4.0gf": (96, 38.65, 2.43, 40, 23),
        "regnetx_6.4gf": (184, 60.83, 2.07, 56, 17),
        "regnetx_8.0gf": (80, 49.56, 2.88, 120, 23),
        "regnetx_12gf": (168, 73.36, 2.37, 112, 19),
    }
    if not isinstance(arch, str) or arch not in tables:
        raise UncountableError("RegNet: an architecture of its own")
    base = part.get("base_channels", 32)
    first, slope, step, group, depth = tables[arch]
    if part.get("dcn") or part.get("plugins"):
        raise UncountableError("RegNet: plugins")
    widths: list[int] = []
    for number in range(depth):
        power = round(math.log((first + slope * number) / first) / math.log(step))
        widths.append(round(first * step**power / 8) * 8)
    total, before = conv_norm(3, base, 3), base
    for number, said in enumerate(widths):
        width = round(said / min(group, said)) * min(group, said)
        groups = width // min(group, width)
        if number == 0 or said != widths[number - 1]:
            total += conv_norm(before, width)
        total += conv_norm(before, width) + conv_norm(width, width, 3, groups=groups)
        total += conv_norm(width, width)
        before = width
    return total


BACKBONES: dict[str, Callable[[Part], int]] = {
    **dict.fromkeys(("ResNet", "ResNetV1c", "ResNetV1d", "ResNeXt"), resnet),
    **dict.fromkeys(("SEResNet", "SEResNeXt"), resnet),
    "HRNet": hrnet,
    "SwinTransformer": swin,
    "MixVisionTransformer": mix_transformer,
    "CSPNeXt": cspnext,
    "MobileNetV2": mobilenet_v2,
    "UNet": unet,
    "RegNet": regnet,
}
