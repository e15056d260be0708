"""What a repository in the layout of the Hugging Face hub says of its text model.

A repository is files by name with their bytes at hand: a folder, a wheel, or what a hub lists. It
is read without any framework and nothing of it is trusted: `config.json` of transformers,
`modules.json` and what it names of sentence-transformers, the configuration of the tokenizer.

Sources: transformers' `PretrainedConfig` and `PreTrainedTokenizerBase`, sentence-transformers'
`base/modules/transformer.py` and `sentence_transformer/modules/*.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from catalog.errors import ConversionError, IntegrityError, UnsafeError
from converters.configurations import Loader, Read, check_config, labels_of, num_classes_of
from converters.interface import ATTENTION_MASK, INPUT_IDS, SCORE, TOKEN_TYPE_IDS, TOKENIZER

CONFIG, MODULES = "config.json", "modules.json"
TRANSFORMERS, SENTENCE_TRANSFORMERS = "transformers", "sentence-transformers"

# Architectures by what `model_type` calls them: how the names of their classes begin.
CLASSES = {
    "albert": "Albert",
    "bert": "Bert",
    "camembert": "Camembert",
    "data2vec-text": "Data2VecText",
    "deberta": "Deberta",
    "deberta-v2": "DebertaV2",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "modernbert": "ModernBert",
    "mpnet": "MPNet",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
}
CLASSIFIER = "ForSequenceClassification"
_ENCODERS = ("Model", "ForMaskedLM", "ForPreTraining")  # the heads of pretraining are left away
_TYPED = ("albert", "bert", "deberta", "deberta-v2", "electra")  # where there are token types
# These count positions from behind that of the padding token, 1 unless the configuration says so.
_POSITIONS_FROM_PAD = ("camembert", "data2vec-text", "mpnet", "roberta", "xlm-roberta")
_POSITIONS = {"modernbert": 8192}  # where the configuration does not say, else 512

_SENTENCE_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in (*("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"),)
)
# Of which a tokenizer can be made where there is no `tokenizer.json`.
VOCABULARIES = (
    *("vocab.txt", "vocab.json", "merges.txt", "added_tokens.json"),
    *("sentencepiece.bpe.model", "spm.model", "spiece.model"),
)
# Of photos: the new place, nested under `image_processor`, and the one of its own.
PROCESSORS = ("processor_config.json", "preprocessor_config.json")
_SMALL_FILES = (
    *(CONFIG, MODULES, "config_sentence_transformers.json", *_SENTENCE_CONFIGS),
    *("tokenizer_config.json", "special_tokens_map.json"),
    *PROCESSORS,
)
_WEIGHTS = re.compile(
    r"(model(-\d{5}-of-\d{5})?\.safetensors|pytorch_model(-\d{5}-of-\d{5})?\.bin"
    r"|(model\.safetensors|pytorch_model\.bin)\.index\.json)"
)
_MOST_MODULES = 64


@dataclass(frozen=True)
class Module:
    """A step of a sentence-transformers model, with its configuration."""

    kind: str  # the name of its class
    folder: str  # of the repository; its files are under it
    config: Mapping[str, Any]


@dataclass(frozen=True)
class TextRepository:
    """A text model as its repository describes it."""

    root: str  # the folder that it is in, empty or with a slash at the end
    encoder: str  # the folder of the transformer itself
    config: Mapping[str, Any]
    modules: tuple[Module, ...] | None  # None: it is no sentence-transformers model
    tokenizer: Mapping[str, Any]  # its configuration
    sentence: Mapping[str, Any]  # what sentence-transformers says of the transformer
    prompt: str  # what goes in front of every text

    @classmethod
    def of(cls, names: Iterable[str], read: Read) -> TextRepository:
        """What the files with these names say; ``read`` gives the bytes of one.

        Raises:
            ConversionError: it is none that can be converted; the message is half a sentence that
                says why.
            UnsafeError: it points outside itself, or its figures are absurd.
            IntegrityError: a file makes no sense.
        """
        names = set(names)
        root = root_of(names)
        load = Loader(names, read)
        listed = load.value(f"{root}{MODULES}", list[dict[str, Any]])
        modules = None if listed is None else tuple(_modules(listed, root, load))
        encoder = root
        sentence: Mapping[str, Any] = {}
        prompt = ""
        if modules is not None:
            encoder = modules[0].folder
            found = (load.object(f"{encoder}{name}") for name in _SENTENCE_CONFIGS)
            sentence = next(filter(None, found), {})
            _refuse_tasks(sentence)
            prompt = _prompt(load.object(f"{root}config_sentence_transformers.json") or {})
        config = load.object(f"{encoder}{CONFIG}")
        if config is None:
            raise ConversionError(f"it has no {encoder}{CONFIG}")
        check_config(config)
        tokenizer = {
            **(load.object(f"{encoder}special_tokens_map.json") or {}),
            **(load.object(f"{encoder}tokenizer_config.json") or {}),
        }
        made = cls(root, encoder, config, modules, tokenizer, sentence, prompt)
        made.refuse_unknown()
        if prompt and any(m.config.get("include_prompt") is False for m in modules or ()):
            raise ConversionError("its pooling leaves out its prompt, which is not converted yet")
        return made

    @property
    def framework(self) -> str:
        """What loads it."""
        return TRANSFORMERS if self.modules is None else SENTENCE_TRANSFORMERS

    @property
    def model_type(self) -> str:
        """What transformers calls its architecture."""
        return str(self.config.get("model_type"))

    @property
    def architecture(self) -> str:
        """The class of transformers that its weights were saved from."""
        named = self.config.get("architectures")
        if isinstance(named, list) and named and isinstance(named[0], str):
            return named[0]
        return f"{CLASSES.get(self.model_type, self.model_type)}Model"

    @property
    def is_classifier(self) -> bool:
        """Whether it sorts texts into classes."""
        return self.modules is None and self.architecture.endswith(CLASSIFIER)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes in the order of the logits; those that are made up are none."""
        return labels_of(self.config) or ((SCORE,) if self.is_rating else ())

    @property
    def num_classes(self) -> int:
        """How many classes it tells apart, as transformers counts them."""
        return num_classes_of(self.config)

    @property
    def activation(self) -> str:
        """What makes probabilities of its logits: `softmax`, or `sigmoid` for each on its own.

        Of one that rates texts it is what sentence-transformers' configuration says, `identity`
        where the logit itself is the score.

        Raises:
            ConversionError: that is another function.
        """
        kind = self.config.get("problem_type")
        if not self.is_rating:
            return "sigmoid" if kind == "multi_label_classification" else "softmax"
        ranker = self.config.get("sentence_transformers")
        stated = ranker.get("activation_fn") if isinstance(ranker, dict) else None
        stated = stated or self.config.get("sbert_ce_default_activation_function")
        if stated is None:
            return "identity" if kind == "regression" else "sigmoid"
        name = str(stated).rpartition(".")[2].lower()
        if name not in {"sigmoid", "identity"}:
            raise ConversionError(f"its score is made by {stated}, not converted yet")
        return name

    @property
    def is_rating(self) -> bool:
        """Whether it gives texts one score each, as a cross-encoder does, and no classes."""
        return self.is_classifier and self.num_classes == 1

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of what it takes, as transformers calls them."""
        types = self.config.get("type_vocab_size", 0 if "deberta" in self.model_type else 2)
        given = self.tokenizer.get("model_input_names")
        typed = self.model_type in _TYPED and isinstance(types, int) and types > 1
        if typed and isinstance(given, list) and TOKEN_TYPE_IDS not in given:
            typed = False
        return (INPUT_IDS, ATTENTION_MASK, *([TOKEN_TYPE_IDS] if typed else []))

    @property
    def max_length(self) -> int:
        """Of how many tokens a text is taken; the rest is cut off."""
        positions = self.config.get("max_position_embeddings")
        if not isinstance(positions, int):
            positions = _POSITIONS.get(self.model_type, 512)
        if self.model_type in _POSITIONS_FROM_PAD:
            pad = 1 if self.model_type == "mpnet" else self.config.get("pad_token_id", 1)
            positions -= (pad if isinstance(pad, int) else 1) + 1
        stated = self.sentence.get("max_seq_length") or self.tokenizer.get("model_max_length")
        # A tokenizer without a limit says 1e30.
        limits = [positions, stated] if isinstance(stated, int) and stated > 0 else [positions]
        return max(1, min(limits))

    @property
    def embed_dim(self) -> int | None:
        """How many numbers an embedding has; None where that is not said."""
        size = self.config.get("hidden_size", self.config.get("dim"))
        for module in self.modules or ():
            if module.kind == "Pooling" and isinstance(size, int):
                size *= len(pooling_modes(module.config))
            if module.kind == "Dense":
                size = module.config.get("out_features")
        return size if isinstance(size, int) else None

    def refuse_unknown(self) -> None:
        """Refuse what is not converted.

        Raises:
            ConversionError: its architecture or its head is none that is.
        """
        if self.config.get("auto_map"):
            raise ConversionError("its config.json wants code of its own (`auto_map`), never run")
        if self.config.get("quantization_config"):
            raise ConversionError("its weights are quantized")
        if not isinstance(self.config.get("model_type"), str):
            raise ConversionError(f"its {CONFIG} names no architecture")
        if self.model_type not in CLASSES:
            raise ConversionError(f"its architecture, {self.model_type}, is not converted yet")
        reason = obstacle(self.architecture)
        if reason is not None:
            raise ConversionError(reason)
        if self.architecture not in _classes_of(self.model_type):
            raise ConversionError(f"it is {self.architecture} and of type {self.model_type}")
        if self.config.get("is_decoder"):
            raise ConversionError("it is a decoder")
        if self.is_rating:
            _ = self.activation
        elif self.is_classifier and self.config.get("problem_type") == "regression":
            raise ConversionError("it rates texts in several ways, which is not converted yet")


def root_of(names: Iterable[str]) -> str:
    """The folder that holds the model, empty or with a slash at the end.

    Raises:
        ConversionError: there is none, or several.
    """
    for name in (MODULES, CONFIG):
        folders = [found[: -len(name)] for found in names if PurePosixPath(found).name == name]
        depths = [folder.count("/") for folder in folders]
        if folders:
            best = [f for f, depth in zip(folders, depths, strict=True) if depth == min(depths)]
            if len(best) > 1:
                raise ConversionError(f"it holds several models, in {', '.join(sorted(best))}")
            return best[0]
    raise ConversionError(f"it has no {CONFIG}")


def small_files(names: Iterable[str]) -> set[str]:
    """Those among the names that are read before anything is fetched; all of them are small."""
    names = set(names)
    root = root_of(names)
    return {
        name
        for name in names
        if name.startswith(root)
        and (PurePosixPath(name).name in _SMALL_FILES)
        and name.count("/") <= root.count("/") + 1
    }


def needed_files(repository: TextRepository, names: Iterable[str]) -> set[str]:
    """Those among the names that converting it takes: configuration, tokenizer, weights.

    Raises:
        ConversionError: there is no tokenizer.
    """
    names = set(names)
    vocabularies = {f"{repository.encoder}{name}" for name in (TOKENIZER, *VOCABULARIES)}
    if not names & vocabularies:
        raise ConversionError(f"it has no tokenizer: no {repository.encoder}{TOKENIZER}")
    folders = {repository.encoder, *(m.folder for m in repository.modules or () if m.config)}
    small = small_files(names) - {f"{repository.root}{name}" for name in PROCESSORS}
    return small | (names & vocabularies) | weights_in(names, folders)


def weights_in(names: Iterable[str], folders: Iterable[str]) -> set[str]:
    """Those among the names that are weights, right in one of the folders."""
    return {
        name
        for name in names
        for folder in folders
        if name.startswith(folder) and _WEIGHTS.fullmatch(name[len(folder) :])
    }


def obstacle(architecture: str | None) -> str | None:
    """Why a class of transformers is not converted, as half a sentence; None where it is."""
    known = {name for kind in CLASSES for name in _classes_of(kind)}
    if architecture in known:
        return None
    kind = next((k for k, c in CLASSES.items() if re.match(rf"{c}(For|$)", architecture or "")), "")
    if kind:
        return f"its head, {architecture}, is not converted yet"
    return f"its architecture, {architecture}, is not converted yet"


def _classes_of(model_type: str) -> set[str]:
    return {f"{CLASSES[model_type]}{suffix}" for suffix in (*_ENCODERS, CLASSIFIER)}


def pooling_modes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """How a `Pooling` makes one vector of those of the tokens; several are put side by side.

    Raises:
        ConversionError: it knows ways that are unknown here, or none.
    """
    named = config.get("pooling_mode")
    if named is None:
        named = [mode for key, mode in _POOLING_KEYS.items() if config.get(key)]
    modes = [named] if isinstance(named, str) else named
    if not isinstance(modes, list) or not modes:
        raise ConversionError(f"its pooling makes no sense: {named!r}")
    unknown = [mode for mode in modes if mode not in _POOLING_KEYS.values()]
    unknown += [k for k in config if k.startswith("pooling_mode_") and k not in _POOLING_KEYS]
    if unknown:
        raise ConversionError(f"its pooling, {unknown[0]!r}, is not converted yet")
    return tuple(modes)


# In the order in which sentence-transformers puts them side by side.
_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_KINDS = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")


def _modules(listed: list[dict[str, Any]], root: str, load: Loader) -> Iterator[Module]:
    if not 2 <= len(listed) <= _MOST_MODULES:
        raise ConversionError(f"it has {len(listed)} modules")
    kinds = []
    for entry in listed:
        type_, path = entry.get("type"), entry.get("path")
        if not isinstance(type_, str) or not isinstance(path, str):
            raise IntegrityError(f"{root}{MODULES} has a module without type or path")
        library, _, kind = type_.rpartition(".")
        if library.partition(".")[0] != "sentence_transformers":
            raise ConversionError(f"its module {type_} is code of its own, which is never run")
        if kind not in _KINDS:
            raise ConversionError(f"its module {type_} is not converted yet")
        parts = PurePosixPath(path).parts
        if ".." in parts or path.startswith("/") or "\\" in path:
            raise UnsafeError(f"{root}{MODULES} names {path!r}, which is outside of its folder")
        folder = f"{root}{'/'.join(parts)}/" if parts else root
        config = {} if kind == "Transformer" else load.object(f"{folder}{CONFIG}") or {}
        kinds.append(kind)
        yield Module(kind, folder, config)
    if kinds[:2] != ["Transformer", "Pooling"] or len({*kinds[:2]} & {*kinds[2:]}) > 0:
        raise ConversionError(f"its modules are {', '.join(kinds)}, in an order that is not known")


def _refuse_tasks(sentence: Mapping[str, Any]) -> None:
    task = sentence.get("transformer_task", "feature-extraction")
    output = sentence.get("module_output_name", "token_embeddings")
    if task != "feature-extraction" or output != "token_embeddings":
        raise ConversionError(f"its transformer is for {task} ({output}), not converted yet")


def _prompt(config: Mapping[str, Any]) -> str:
    prompts, name = config.get("prompts"), config.get("default_prompt_name")
    prompt = prompts.get(name, "") if isinstance(prompts, dict) and name is not None else ""
    return prompt if isinstance(prompt, str) else ""
