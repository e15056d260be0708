"""Parameters of a model of OpenMMLab, added up from what its configuration says.

Every part must be of a kind that is known here, with no argument that may matter left over; else
there is no figure. What is only there to train, an auxiliary head, is in the file and counts.
"""

from __future__ import annotations

from typing import Any

from catalog.harvesters.openmmlab_backbones import BACKBONES
from catalog.harvesters.openmmlab_configs import Config
from catalog.harvesters.openmmlab_detectors import DETECTION_HEADS, NECKS, roi
from catalog.harvesters.openmmlab_heads import HEADS
from catalog.harvesters.openmmlab_layers import Part, UncountableError

_PARTS = {**BACKBONES, **NECKS, **HEADS, **DETECTION_HEADS}
_POSE = {"TopdownPoseEstimator", "BottomupPoseEstimator"}
_STAGED = {"StandardRoIHead", "CascadeRoIHead", "DoubleHeadRoIHead", "PISARoIHead"}
# Kinds of models that are no more than their parts.
_MODELS = frozenset(
    {
        *("EncoderDecoder", "CascadeEncoderDecoder", *_POSE),
        *("FasterRCNN", "MaskRCNN", "CascadeRCNN", "FastRCNN", "RPN", "RetinaNet", "FCOS", "ATSS"),
        *("PAA", "GFL", "RotatedRetinaNet", "FreeAnchor"),
    }
)
_SETTINGS = {"type", "_scope_", "data_preprocessor", "train_cfg", "test_cfg", "init_cfg"}
_SETTINGS |= {"pretrained", "metainfo", "num_stages"}


def params_of(config: Config) -> int | None:
    """The parameters of the model; None where some part of it is not known here."""
    try:
        return _model(config.get("model"))
    except (UncountableError, ArithmeticError, AttributeError, LookupError):
        return None
    except (TypeError, ValueError):  # a value of another kind than the part takes
        return None


def _model(said: Any) -> int:
    model = Part(said)
    if model.type not in _MODELS:
        raise UncountableError(model.type)
    total = 0
    for name, part in said.items():
        if name in _SETTINGS or part is None:
            continue
        for each in part if isinstance(part, list | tuple) else [part]:
            pose = name == "backbone" and model.type in _POSE and each["type"] == "HRNet"
            # There its last module fuses to the finest branch alone.
            total += _part({"multiscale_output": False, **each} if pose else each)
    if total <= 0:
        raise UncountableError(f"{model.type}: no parts")
    return total


def _part(said: Any) -> int:
    part = Part(said)
    if part.type in _STAGED:
        total = roi(part, _part)
    elif part.type in _PARTS:
        total = _PARTS[part.type](part)
    else:
        raise UncountableError(part.type)
    part.done()
    return total
