"""Text encoders and classifiers of transformers, from the files of a repository; images, too.

The weights go through `converters.weights` into a network that transformers builds from
`config.json`; its own loading is used for what it knows of older names of tensors. Nothing of a
repository is imported, and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from catalog.errors import ConversionError
from catalog.record import ModelRecord
from converters import pretrained, weights
from converters.backbone import Network, TorchBackbone
from converters.interface import ATTENTION_MASK, EMBEDDING, LOGITS, TOKEN_EMBEDDINGS
from converters.pooling import Pooling
from converters.repository import CLASSES, CLASSIFIER, MODULES, TextRepository, small_files
from converters.text_front import TextFront
from converters.vision_repository import VisionRepository

LIBRARIES = ("torch", "transformers", "tokenizers")

# A layer for the pretraining of some encoders that some files have not; no embedding is made of it.
_POOLER = "pooler."


class TextEncoder(Network):
    """A text encoder with two outputs.

    ``forward`` takes ``input_ids`` and what else the encoder takes, int64 (N, tokens), and returns
    ``embedding`` (N, features): what ``after`` makes of its tokens; and ``token_embeddings``
    (N, tokens, width), which are 0 where there is padding: what an encoder makes of that is noise.
    """

    outputs = (EMBEDDING, TOKEN_EMBEDDINGS)

    def __init__(
        self, model: torch.nn.Module, inputs: tuple[str, ...], after: torch.nn.Module
    ) -> None:
        super().__init__(model)
        self.inputs = inputs
        self.after = after

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The embedding of a batch, and those of its tokens."""
        given = dict(zip(self.inputs, tensors, strict=True))
        mask = given[ATTENTION_MASK]
        tokens = self.model(**given).last_hidden_state
        return self.after(tokens, mask), tokens * mask.unsqueeze(-1)


class TextClassifier(Network):
    """A text classifier with two outputs.

    ``forward`` takes what a `TextEncoder` takes, and returns ``logits`` (N, classes) and
    ``embedding`` (N, features): what the last layer, ``head``, is given.
    """

    outputs = (LOGITS, EMBEDDING)

    def __init__(
        self, model: torch.nn.Module, inputs: tuple[str, ...], head: str, activation: str
    ) -> None:
        super().__init__(model)
        self.inputs = inputs
        self.head = head
        self.activation = activation

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and embedding of a batch."""
        seen: list[torch.Tensor] = []
        hook = self.model.get_submodule(self.head).register_forward_pre_hook(
            lambda _module, arguments: seen.append(arguments[0])
        )
        try:
            logits = self.model(**dict(zip(self.inputs, tensors, strict=True))).logits
        finally:
            hook.remove()
        return logits, seen[0]


def load(files: Mapping[str, Path], record: ModelRecord, *, trust: bool) -> TorchBackbone:
    """The text or image model in a repository's ``files``, by their names in it.

    Raises:
        ConversionError: it is none that is converted, or weights are missing or left over.
        UnsafeError: reading it could run code or fill the memory.
        IntegrityError: it is corrupted.
    """
    images = VisionRepository.of(files, lambda name: files[name].read_bytes())
    if images is not None:
        from converters.frameworks import transformers_vision

        return transformers_vision.load(images, files, record, trust=trust)
    repository = TextRepository.of(files, lambda name: files[name].read_bytes())
    if repository.modules is not None:
        from converters.frameworks import sentence_transformers

        return sentence_transformers.load(files, record, trust=trust)
    model = network(repository, files, trust=trust)
    said: dict[str, Any]
    if repository.is_classifier:
        module: Network = TextClassifier(
            model, repository.inputs, _head_of(model, repository), repository.activation
        )
        said = {"activation": repository.activation}
    else:
        module = TextEncoder(model, repository.inputs, Pooling(("mean",)))
        said = {"pooling": ["mean"], "normalized": False}
    return backbone(module, repository, files, record, said)


def fresh(record: ModelRecord) -> TorchBackbone:
    """Nothing: a record does not say all that it takes to build a network.

    Raises:
        ConversionError: always.
    """
    raise ConversionError(f"{record.uid} cannot be built without its files")


def backbone(
    module: Network,
    repository: TextRepository,
    files: Mapping[str, Path],
    record: ModelRecord,
    said: Mapping[str, Any],
) -> TorchBackbone:
    """A network of a repository with its tokenizer, and the files that another loading takes."""
    vocabulary = module.model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    front = TextFront.of(repository, files, vocabulary, said)
    return TorchBackbone(module, record, front, files={**_kept(repository, files), **front.files()})


def _kept(repository: TextRepository, files: Mapping[str, Path]) -> dict[str, bytes]:
    """The configuration, under names that stand for a repository with its transformer on top."""
    kept = {}
    for name in small_files(files):
        folder = repository.encoder if name.startswith(repository.encoder) else repository.root
        kept[name.removeprefix(folder)] = files[name].read_bytes()
    if repository.encoder != repository.root:
        listed = msgspec.json.decode(kept[MODULES])
        listed[0]["path"] = ""
        kept[MODULES] = msgspec.json.encode(listed)
    return kept


def network(
    repository: TextRepository, files: Mapping[str, Path], *, trust: bool
) -> torch.nn.Module:
    """The transformer of a repository with its weights, float32, in evaluation mode.

    Raises:
        ConversionError: a tensor is missing, left over or of another shape.
        UnsafeError: the configuration wants far more than there is.
    """
    state = weights.read_folder(files, repository.encoder, trust=trust)
    config = pretrained.config_of(repository.config, repository.model_type, repository.architecture)
    model = pretrained.load(
        f"{CLASSES[repository.model_type]}{CLASSIFIER if repository.is_classifier else 'Model'}",
        config,
        state,
        architecture=repository.architecture,
        left_out=() if repository.is_classifier else _HEADS,
        random=(_POOLER,),
    )
    if not repository.is_classifier and hasattr(model, "pooler"):
        model.pooler = None  # type: ignore[assignment]
    return model


# What a file may hold besides the encoder: heads of its pretraining, and tables of positions.
_HEADS = (
    *("cls.", "lm_head.", "predictions.", "sop_classifier.", "vocab_", "head.", "decoder."),
    *("generator_", "discriminator_", "lm_predictions.", "mask_predictions.", "deberta.rel"),
    *("embeddings.position_ids", "pooler."),
)


def _head_of(model: torch.nn.Module, repository: TextRepository) -> str:
    modules: list[tuple[str, torch.nn.Module]] = list(model.named_modules())
    for name, module in reversed(modules):
        if isinstance(module, torch.nn.Linear) and module.out_features == repository.num_classes:
            return name
    raise ConversionError(
        f"{type(model).__name__} has no last layer for {repository.num_classes} classes"
    )
