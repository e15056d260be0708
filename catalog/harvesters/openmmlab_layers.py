"""Parameters of the layers of OpenMMLab's modules, and how a module's configuration is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.harvesters.openmmlab_configs import UNKNOWN

# What a part may say without having more or fewer parameters for it.
HARMLESS = frozenset(
    """
    type _scope_ init_cfg pretrained norm_cfg norm_eval frozen_stages style with_cp strides stride
    dilations contract_dilation multi_grid align_corners train_cfg test_cfg dropout_ratio act_cfg
    in_index bbox_coder sampler zero_init_residual drop_path_rate drop_rate attn_drop_rate loss
    decoder relu_before_extra_convs loss_decode loss_cls loss_bbox loss_mask loss_centerness
    loss_dfl loss_se_decode loss_ld loss_kd pretrain_img_size convert_weights ignore_index
    out_indices norm_on_bbox centerness_on_reg center_sampling center_sample_radius psa_softmax
    normalization_factor roi_layer topk score_voting covariance_type reg_decoded_bbox use_scale
    stage_loss_weights qk_scale down_factor interpolate_mode concat scale_factor apply_relu
    select_index conv_cfg enc_dilations dec_dilations downsamples
    """.split()  # noqa: SIM905 - one a line would be no easier to read
)


class UncountableError(Exception):
    """A module is, or is configured as, something whose parameters are not known here."""


class Part:
    """What a configuration says of one module; every argument must be read or be harmless."""

    def __init__(self, said: Any, **defaults: Any) -> None:
        if not isinstance(said, Mapping) or not isinstance(said.get("type"), str):
            raise UncountableError("no module")
        self.type = said["type"].rpartition(".")[2]
        self._said = {**defaults, **said}
        self._read: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """An argument, or its default where it is left out."""
        self._read.add(name)
        value = self._said.get(name, default)
        if value is UNKNOWN:
            raise UncountableError(f"{self.type}: {name} is not known")
        return value

    def done(self) -> None:
        """Nothing, if every argument was read or does not matter.

        Raises:
            UncountableError: there is one that may.
        """
        left = {name for name in self._said if name not in self._read} - HARMLESS
        if left:
            raise UncountableError(f"{self.type}: {', '.join(sorted(left))}")


def conv(ins: int, outs: int, kernel: int = 1, *, groups: int = 1, bias: bool = False) -> int:
    """A convolution with a square kernel."""
    return ins // groups * outs * kernel * kernel + (outs if bias else 0)


def conv_norm(ins: int, outs: int, kernel: int = 1, *, groups: int = 1) -> int:
    """A convolution without bias and the scale and shift that follow it."""
    return conv(ins, outs, kernel, groups=groups) + 2 * outs


def separable(ins: int, outs: int, kernel: int) -> int:
    """A convolution of each channel and one of all, both normalized."""
    return conv_norm(ins, ins, kernel, groups=ins) + conv_norm(ins, outs)


def linear(ins: int, outs: int, *, bias: bool = True) -> int:
    """A fully connected layer."""
    return ins * outs + (outs if bias else 0)


def conv_of(part: Part, ins: int, outs: int, kernel: int, *, norm: Any = None) -> int:
    """A convolution with a bias, unless the part (or ``norm``) says to normalize it."""
    if part.get("norm_cfg", norm) is not None:
        return conv_norm(ins, outs, kernel)
    return conv(ins, outs, kernel, bias=True)
