"""Configurations of transformers that make the smallest network of each architecture."""

from __future__ import annotations

from typing import Any

import transformers

VOCABULARY = 300
_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
# What an architecture of text wants besides, or instead.
TEXT: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": {
        "dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4, "hidden_size": None,
        "num_hidden_layers": None, "num_attention_heads": None, "intermediate_size": None,
    },
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
    "camembert": {"type_vocab_size": 1},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16, "num_hidden_groups": 1},
    "mpnet": {},
    "deberta": {
        "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": -1,
        "position_biased_input": False,
    },
    "deberta-v2": {
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16,
        "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
        "max_relative_positions": -1, "type_vocab_size": 0,
    },
    "modernbert": {
        "global_attn_every_n_layers": 2, "local_attention": 16, "cls_token_id": 2,
        "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3,
    },
}  # fmt: skip
_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
_DINO = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "mlp_ratio": 2,
    "image_size": 56, "patch_size": 14,
}  # fmt: skip
_SWIN = {
    "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2],
    "window_size": 4,
}  # fmt: skip
_CONVNEXT = {"hidden_sizes": [16, 24, 32, 32], "depths": [1, 1, 2, 1], "image_size": 64}
_RESNET = {"embedding_size": 8, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1]}
_TOWERS = {
    "vision_config": _VIT,
    "text_config": {**_TEXT, "num_hidden_layers": 1, "bos_token_id": 1, "eos_token_id": 2},
}
# Architectures of images.
VISION: dict[str, dict[str, Any]] = {
    "vit": _VIT,
    "deit": _VIT,
    "beit": {**_VIT, "use_relative_position_bias": True},
    "swin": _SWIN,
    "swinv2": _SWIN,
    "convnext": _CONVNEXT,
    "convnextv2": _CONVNEXT,
    "dinov2": _DINO,
    "dinov2_with_registers": _DINO,
    "resnet": _RESNET,
    "regnet": {**_RESNET, "groups_width": 8},
    "mobilenet_v2": {"depth_multiplier": 0.35, "image_size": 64},
    "clip": {**_TOWERS, "projection_dim": 24},
    "siglip": _TOWERS,
}


def text_config(model_type: str, **more: Any) -> transformers.PretrainedConfig:
    """The configuration of a text model, with ``more`` besides or instead."""
    options = {**_TEXT, **TEXT[model_type], **more}
    options = {key: value for key, value in options.items() if value is not None}
    return transformers.CONFIG_MAPPING[model_type](**options)


def vision_config(model_type: str, **more: Any) -> transformers.PretrainedConfig:
    """The configuration of an image model, with ``more`` besides or instead."""
    return transformers.CONFIG_MAPPING[model_type](**{**VISION[model_type], **more})


def image_side(config: transformers.PretrainedConfig) -> int:
    """Of the pictures that it is for."""
    return int(getattr(getattr(config, "vision_config", config), "image_size", 64))
