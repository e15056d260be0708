"""Text models in the layout of a repository: tiny, with random weights that are alive."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from catalog.record import ModelRecord
from converters.text_front import SENTENCES

VOCABULARY = 300
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
# What an architecture wants besides, or instead.
CONFIGS: dict[str, dict[str, Any]] = {
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


def tokenizer() -> Tokenizer:
    """WordPiece in the manner of BERT, trained on the sample sentences."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
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


def config_of(model_type: str, **more: Any) -> transformers.PretrainedConfig:
    options = {**_SMALL, **CONFIGS[model_type], **more}
    options = {key: value for key, value in options.items() if value is not None}
    return transformers.CONFIG_MAPPING[model_type](**options)


def enliven(module: torch.nn.Module) -> None:
    """Random weights large enough that every token, its place and its neighbors count."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            fresh = torch.rand(tensor.shape, generator=generator)
            if tensor.ndim > 1:
                tensor.copy_((fresh - 0.5) * 3 / tensor.shape[-1] ** 0.5)
            else:
                tensor.copy_(fresh + 0.5 if name.endswith("weight") else fresh - 0.5)


def network(model_type: str, labels: Sequence[str] = (), **more: Any) -> torch.nn.Module:
    """A living network: an encoder, or a classifier where there are labels."""
    if labels:
        more = {"id2label": dict(enumerate(labels)), "num_labels": len(labels), **more}
    config = config_of(model_type, **more)
    mapping = (
        transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
        if labels
        else transformers.MODEL_MAPPING
    )
    with torch.random.fork_rng(devices=[]):
        model = mapping[type(config)](config)
    enliven(model)
    return model.eval()


def save(
    model: torch.nn.Module,
    folder: Path,
    *,
    modules: Sequence[tuple[str, Mapping[str, Any]]] = (),
    tensors: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    **files: Any,
) -> dict[str, Path]:
    """The files of a repository; ``modules`` of sentence-transformers follow the transformer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**model.config.to_dict(), "architectures": [type(model).__name__]}
    config["id2label"] = {str(key): name for key, name in model.config.id2label.items()}
    state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(tokenizer().to_str(), encoding="utf-8")
    written = {
        "config.json": config,
        "tokenizer_config.json": {"pad_token": "[PAD]", "model_max_length": 10**30},
    }
    if modules:
        listed = [{"idx": 0, "name": "0", "path": "", "type": f"{_LIBRARY}.models.Transformer"}]
        for number, (kind, said) in enumerate(modules, 1):
            path = f"{number}_{kind}"
            listed.append({"idx": number, "path": path, "type": f"{_LIBRARY}.models.{kind}"})
            written[f"{path}/config.json"] = dict(said)
        written["modules.json"] = listed
    for name, content in {**written, **files}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")
    for path, state_ in (tensors or {}).items():
        save_file(dict(state_), folder / path / "model.safetensors")
    return files_in(folder)


_LIBRARY = "sentence_transformers"


def files_in(folder: Path) -> dict[str, Path]:
    """Every file of a folder by its name in it."""
    found = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path for path in found if path.is_file()}


def record_of(model: torch.nn.Module, labels: Sequence[str] = ()) -> ModelRecord:
    """As `tlhub.repositories` would describe it."""
    return ModelRecord(
        uid=f"test/{model.config.model_type}",
        framework="transformers",
        architecture=type(model).__name__,
        labels=tuple(labels),
        num_classes=len(labels) or None,
    )
