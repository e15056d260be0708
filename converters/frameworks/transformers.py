"""Text encoders and classifiers of transformers, from the files of a repository.

The weights go through `converters.weights` into a network that transformers builds from
`config.json`; its own loading is used for what it knows of older names of tensors. Nothing of a
repository is imported, and nothing is fetched.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch

from catalog.errors import ConversionError, UnsafeError
from catalog.record import ModelRecord
from converters import weights
from converters.backbone import Network, TorchBackbone
from converters.interface import ATTENTION_MASK, EMBEDDING, LOGITS, TOKEN_EMBEDDINGS
from converters.pooling import Pooling
from converters.repository import CONFIG, MODULES, TextRepository, small_files
from converters.text_front import TextFront
from converters.weights import StateDict

try:
    import transformers
except ImportError as missing:
    raise ConversionError(
        "models of transformers are converted by transformers, which is not installed",
        hint="pip install 'transformers>=5.0'",
    ) from missing

LIBRARIES = ("torch", "transformers", "tokenizers")

_SLACK_BYTES = 64 << 20  # of tensors that a network has and its file has not
# What a configuration could say of how to compute: code fetched from a hub, or another compiler.
_NOT_TAKEN = (
    *("attn_implementation", "experts_implementation", "quantization_config", "auto_map"),
    *("reference_compile", "torch_dtype", "dtype", "gradient_checkpointing", "use_kernels"),
)
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
    """The text model in a repository's ``files``, by their names in it.

    Raises:
        ConversionError: it is none that is converted, or weights are missing or left over.
        UnsafeError: reading it could run code or fill the memory.
        IntegrityError: it is corrupted.
    """
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
    """Nothing: a record does not say all that it takes to build a text encoder.

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
    config = _config(repository)
    class_ = _class_of(repository, config)
    with _quiet(), _explained(repository), torch.device("meta"):
        empty = class_(config)
    _check_size(empty, state)
    attention = "sdpa" if getattr(empty, "_supports_sdpa", False) else "eager"
    with _quiet(), _explained(repository):
        model, report = class_.from_pretrained(
            None,
            config=config,
            state_dict=state,
            attn_implementation=attention,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    _check_loaded(model, report, repository)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _config(repository: TextRepository) -> Any:
    said = {
        key: value
        for key, value in repository.config.items()
        if key not in _NOT_TAKEN and not key.startswith("_")
    }
    with _quiet(), _explained(repository):
        return transformers.CONFIG_MAPPING[repository.model_type].from_dict(said)


def _class_of(repository: TextRepository, config: Any) -> Any:
    classifiers = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    mapping = classifiers if repository.is_classifier else transformers.MODEL_MAPPING
    return mapping[type(config)]


def _check_size(empty: torch.nn.Module, state: StateDict) -> None:
    """Refuse a network that is far larger than its file before memory is taken for it."""
    tensors = [*empty.parameters(), *empty.buffers()]
    wanted = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    there = sum(tensor.numel() * 4 for tensor in state.values())
    if wanted > 2 * there + _SLACK_BYTES:
        raise UnsafeError(
            f"{CONFIG} describes a network of {wanted} bytes, but there are weights of {there}"
        )


def _check_loaded(
    model: torch.nn.Module, report: Mapping[str, Any], repository: TextRepository
) -> None:
    """Nothing of the network may be random, and nothing of the file unused but known heads."""
    for name, theirs, ours in sorted(report["mismatched_keys"]):
        raise ConversionError(f"{name} has shape {tuple(theirs)}, {CONFIG} describes {tuple(ours)}")
    missing = sorted(n for n in report["missing_keys"] if not n.startswith(_POOLER))
    if missing:
        raise ConversionError(
            f"the weights lack {_named(missing)} of {type(model).__name__}: they would be random"
        )
    if not repository.is_classifier and hasattr(model, "pooler"):
        model.pooler = None  # type: ignore[assignment]
    heads = _HEADS[repository.is_classifier]
    left = sorted(n for n in report["unexpected_keys"] if not n.startswith(heads))
    if left:
        raise ConversionError(
            f"the weights hold {_named(left)}, which {type(model).__name__} has no place for"
        )


# What a file may hold besides the encoder: heads of its pretraining, and tables of positions.
_HEADS = {
    False: (
        *("cls.", "lm_head.", "predictions.", "sop_classifier.", "vocab_", "head.", "decoder."),
        *("generator_", "discriminator_", "lm_predictions.", "mask_predictions.", "deberta.rel"),
        *("embeddings.position_ids", "pooler."),
    ),
    True: (),
}


def _named(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


def _head_of(model: torch.nn.Module, repository: TextRepository) -> str:
    modules: list[tuple[str, torch.nn.Module]] = list(model.named_modules())
    for name, module in reversed(modules):
        if isinstance(module, torch.nn.Linear) and module.out_features == repository.num_classes:
            return name
    raise ConversionError(
        f"{type(model).__name__} has no last layer for {repository.num_classes} classes"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers; what goes wrong it raises, and what is missing it returns."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.CRITICAL)
    theirs.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _explained(repository: TextRepository) -> Iterator[None]:
    """Say of a configuration that makes no sense to transformers whose it is."""
    try:
        yield
    except (MemoryError, OSError):
        raise
    except Exception as error:  # transformers raises anything over it
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConversionError(
            f"transformers {transformers.__version__} cannot build {repository.architecture}: "
            f"{lines[0]}"
        ) from error
