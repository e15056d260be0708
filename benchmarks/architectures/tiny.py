"""The smallest network of each architecture of transformers, with random weights that are alive.

Every tensor is drawn so that what comes out depends on it, and on every place of what goes in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from catalog.record import Preprocess
from converters.evidence import sample_photos
from converters.preprocess import pixel_values
from converters.text_front import SENTENCES
from converters.vision_repository import FAMILIES

VOCABULARY = 300
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_HALF = (0.5, 0.5, 0.5)
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
    "data2vec-text": {"type_vocab_size": 1},
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


def text_network(
    model_type: str, labels: Sequence[str] = (), **more: Any
) -> transformers.PreTrainedModel:
    """A living network: an encoder, or a classifier where there are labels."""
    if labels:
        more = {"id2label": dict(enumerate(labels)), "num_labels": len(labels), **more}
    config = text_config(model_type, **more)
    mapping = (
        transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
        if labels
        else transformers.MODEL_MAPPING
    )
    with torch.random.fork_rng(devices=[]):
        model: transformers.PreTrainedModel = mapping[type(config)](config)
    _enliven_text(model)
    return model.eval()


def vision_network(
    model_type: str, labels: Sequence[str] = (), *, ending: str | None = None, **more: Any
) -> transformers.PreTrainedModel:
    """A living network: an encoder, or a classifier where there are labels."""
    if labels:
        more = {"id2label": dict(enumerate(labels)), "num_labels": len(labels), **more}
    config = vision_config(model_type, **more)
    ending = ending or ("ForImageClassification" if labels else "Model")
    class_ = getattr(transformers, f"{FAMILIES[model_type].prefix}{ending}")
    if not isinstance(config, class_.config_class):
        config = config.vision_config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: transformers.PreTrainedModel = class_(config)
        _enliven_vision(model, image_side(config))
    return model.eval()


def _enliven_text(module: torch.nn.Module) -> None:
    """Random weights large enough that every token, its place and its neighbors count."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            fresh = torch.rand(tensor.shape, generator=generator)
            if tensor.ndim > 1:
                tensor.copy_((fresh - 0.5) * 3 / tensor.shape[-1] ** 0.5)
            else:
                tensor.copy_(fresh + 0.5 if name.endswith("weight") else fresh - 0.5)


def _enliven_vision(model: torch.nn.Module, side: int) -> None:
    """Random weights large enough that every place counts.

    Convolutions before batch norms stay as they are, with the statistics of photos, but for those
    of one channel each, which are made to blur: a deep chain of random ones would make anything of
    a pixel that is rounded otherwise.
    """
    generator = torch.Generator().manual_seed(0)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            fresh = torch.rand(tensor.shape, generator=generator)
            if tensor.ndim <= 1:
                tensor.copy_(fresh + 0.5 if name.endswith("weight") else fresh - 0.5)
            elif not norms:
                inputs = tensor[0].numel() if tensor.ndim == 4 else tensor.shape[-1]
                tensor.copy_((fresh - 0.5) * 3 / inputs**0.5)
            elif tensor.ndim == 4 and tensor.shape[1] == 1:
                tensor.abs_()
        for norm in norms:
            norm.momentum = 1.0
        if norms:
            photos = [
                photo[y:, x:]
                for photo in sample_photos().values()
                for y in (0, 200)
                for x in (0, 300)
            ]
            how = Preprocess(mean=_HALF, std=_HALF, interpolation="bicubic", resize_mode="squash")
            model.train()(torch.stack([pixel_values(p, how, (side, side)) for p in photos]))


def tokenizer() -> Tokenizer:
    """WordPiece in the manner of BERT, trained on the sample sentences."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - no password
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY - 50, special_tokens=SPECIAL, show_progress=False
    )
    made.train_from_iterator(SENTENCES, trainer)
    ids = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return made


def processor_of(config: transformers.PretrainedConfig) -> dict[str, Any]:
    """What `preprocessor_config.json` says where photos are squashed to the network's size."""
    side = image_side(config)
    name = FAMILIES[config.model_type].processor
    size = {"height": side, "width": side}
    if name == "ConvNextImageProcessor":
        size = {"shortest_edge": side}
    return {"image_processor_type": name, "size": size, "do_center_crop": False}


def write(model_type: str, folder: Path) -> None:
    """A repository with the smallest network: an encoder of texts, a classifier of images."""
    labels = [f"class {n}" for n in range(12)]
    if model_type in VISION:
        model, name = vision_network(model_type, labels), "preprocessor_config.json"
        said = processor_of(model.config)
    else:
        model, name = text_network(model_type), "tokenizer_config.json"
        said = {"pad_token": "[PAD]"}
        tokenizer().save(str(folder / "tokenizer.json"))
    with _no_bars():
        model.save_pretrained(folder)
    (folder / name).write_text(json.dumps(said), encoding="utf-8")


@contextmanager
def _no_bars() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.utils.logging.enable_progress_bar()
