"""The way from sentences to token ids: outside of the graph, by `tokenizers` on both sides."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from catalog.errors import ConversionError, IntegrityError
from converters.backbone import Given
from converters.interface import (
    ATTENTION_MASK,
    BATCH_SIZES,
    INPUT_IDS,
    TOKEN_TYPE_IDS,
    TOKENIZER,
)
from converters.repository import VOCABULARIES, TextRepository

if TYPE_CHECKING:
    import onnx
    from tokenizers import Tokenizer

# Tokens of the example; no network has a dimension of this size that it could be taken for.
EXAMPLE_TOKENS = 100
_LENGTHS = (7, 33, 128)  # in tokens, of the batches that a graph is checked with
_LONGEST = 512  # up to here the longest text is checked as well
_LARGEST_BYTES = 128 << 20

SENTENCES = (
    "A cat sleeps.",
    "The committee has not yet decided whether the bridge will be rebuilt this year.",
    "What time does the last train to the coast leave on Sundays, and does it stop at the harbor?",
    "I would not recommend this restaurant: the soup was cold, and nobody seemed to care.",
    "Best film I have seen in ages!!!",
    "E = mc², 3.14159 and 50 % of nothing are all written in one line (see page 12, note 4).",
    "Der Wagen blieb im Schnee stecken, und bis zum nächsten Dorf waren es noch zwölf Kilometer.",
    "Le marché ouvre à sept heures, mais les pêcheurs arrivent bien avant l'aube.",
    "今日はとても良い天気ですね。",
    "Сегодня в городе идёт сильный дождь.",
    "def add(a, b): return a + b",
    "",
    "Rain " * 40 + "stopped play.",
)


@dataclass(frozen=True)
class TextFront:
    """What a text encoder is given, made of sentences; nothing of it is in the graph."""

    tokenizer: Tokenizer  # cuts and pads as the model was trained
    inputs: tuple[str, ...]  # of the network: int64 (batch, sequence)
    vocabulary: int  # token ids are below this
    max_length: int
    pad_id: int
    said: Mapping[str, Any] = field(default_factory=dict)  # of what the network does besides

    @classmethod
    def of(
        cls,
        repository: TextRepository,
        files: Mapping[str, Path],
        vocabulary: int,
        said: Mapping[str, Any],
    ) -> TextFront:
        """As the files of a repository say.

        Raises:
            ConversionError: there is no tokenizer, or it is of another model.
            IntegrityError: it cannot be read.
        """
        tokenizer = _tokenizer(repository, files)
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        if size > vocabulary:
            raise ConversionError(
                f"its tokenizer has {size} tokens, the network {vocabulary}: they do not belong "
                "together"
            )
        pad, pad_id = _padding(repository, tokenizer, vocabulary)
        side = repository.tokenizer.get("padding_side", "right")
        cut = repository.tokenizer.get("truncation_side", "right")
        if {side, cut} - {"left", "right"}:
            raise ConversionError(f"its tokenizer pads {side!r} and cuts {cut!r}")
        tokenizer.enable_truncation(
            repository.max_length, strategy="longest_first", direction=str(cut)
        )
        tokenizer.enable_padding(direction=str(side), pad_id=pad_id, pad_token=pad)
        said = {"prompt": repository.prompt, **said}
        return cls(tokenizer, repository.inputs, vocabulary, repository.max_length, pad_id, said)

    @property
    def dynamic(self) -> tuple[dict[int, str], ...]:
        """Batch and sequence vary."""
        return ({0: "batch", 1: "sequence"},) * len(self.inputs)

    def example(self) -> tuple[torch.Tensor, ...]:
        """Two texts of random tokens, `EXAMPLE_TOKENS` of them where it takes so many."""
        return self.tensors(self._random(2, min(EXAMPLE_TOKENS, self.max_length), 0))

    def tensors(self, given: Given) -> tuple[torch.Tensor, ...]:
        """The arrays as they are."""
        return tuple(torch.from_numpy(given[name]) for name in self.inputs)

    def samples(self) -> list[str]:
        """Sentences in several languages, short and long, and an empty one."""
        return list(SENTENCES)

    def exact(self, samples: Sequence[str]) -> dict[str, Given]:
        """Random tokens of random length, one token, the most that it takes, and the samples."""
        sizes = [*zip(BATCH_SIZES, _LENGTHS, strict=True), (1, 1)]
        sizes.append((2, min(self.max_length, _LONGEST)))
        batches = {
            f"random-{batch}x{length}": self._random(batch, min(length, self.max_length), seed)
            for seed, (batch, length) in enumerate(sizes, 1)
        }
        return {**batches, "sentences": self.given(samples)}

    def real(self, samples: Sequence[str]) -> dict[str, Given]:  # noqa: ARG002 - a Front
        """Nothing: tokenizing is outside of the graph."""
        return {}

    def given(self, texts: Sequence[str]) -> dict[str, Any]:
        """What the graph is given for these texts, padded to the longest."""
        prompt = str(self.said.get("prompt", ""))
        found = self.tokenizer.encode_batch([f"{prompt}{text}" for text in texts])
        arrays = {
            INPUT_IDS: [item.ids for item in found],
            ATTENTION_MASK: [item.attention_mask for item in found],
            TOKEN_TYPE_IDS: [item.type_ids for item in found],
        }
        return {name: np.array(arrays[name], np.int64) for name in self.inputs}

    def attach(self, model: onnx.ModelProto) -> None:
        """Leave the graph as it is: it takes token ids."""

    def description(self) -> dict[str, Any]:
        """How texts become what the graph is given, and what it makes of its tokens."""
        return {
            "tokenizer": TOKENIZER,
            "max_length": self.max_length,
            "inputs": list(self.inputs),
            **self.said,
        }

    def files(self) -> dict[str, bytes]:
        """The tokenizer, which says itself how it cuts and pads."""
        return {TOKENIZER: self.tokenizer.to_str(pretty=False).encode()}

    def _random(self, batch: int, length: int, seed: int) -> Given:
        """Random tokens; from a random place on they are padding, but for one text."""
        random = np.random.default_rng(seed)
        ids = random.integers(0, self.vocabulary - 1, (batch, length))
        ids += ids >= self.pad_id  # any but the one for padding
        ends = random.integers(1, length + 1, batch)
        ends[-1] = length
        mask = (np.arange(length) < ends[:, None]).astype(np.int64)
        types = random.integers(0, 2, (batch, length))
        if (self.tokenizer.padding or {}).get("direction") == "left":
            mask = mask[:, ::-1].copy()
        arrays = {
            INPUT_IDS: np.where(mask == 1, ids, self.pad_id),
            ATTENTION_MASK: mask,
            TOKEN_TYPE_IDS: types * mask,
        }
        return {name: arrays[name] for name in self.inputs}


def _tokenizer(repository: TextRepository, files: Mapping[str, Path]) -> Tokenizer:
    """The tokenizer of the repository, which neither cuts nor pads yet."""
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Lowercase
    from tokenizers.normalizers import Sequence as Several

    file = files.get(f"{repository.encoder}{TOKENIZER}")
    if file is None:
        tokenizer = _built(repository, files)
    elif file.stat().st_size > _LARGEST_BYTES:
        raise IntegrityError(f"{file} has {file.stat().st_size} bytes, which no tokenizer has")
    else:
        try:
            tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises nothing more precise
            raise IntegrityError(f"{file} is no tokenizer: {error}") from error
    if repository.sentence.get("do_lower_case"):
        before = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = Several([Lowercase(), *before])
    return tokenizer


def _built(repository: TextRepository, files: Mapping[str, Path]) -> Tokenizer:
    """A tokenizer that transformers makes of a vocabulary, as it would for its own models."""
    import msgspec
    from transformers import AutoTokenizer

    there = {name: files.get(f"{repository.encoder}{name}") for name in VOCABULARIES}
    found = {name: path for name, path in there.items() if path is not None}
    if not found:
        raise ConversionError(f"it has no tokenizer: no {repository.encoder}{TOKENIZER}")
    settings = {
        key: value
        for key, value in repository.tokenizer.items()
        if key not in {"auto_map", "tokenizer_file", "name_or_path"}
    }
    with tempfile.TemporaryDirectory(prefix="tlhub-") as name:
        folder = Path(name)
        for file, path in found.items():
            (folder / file).write_bytes(path.read_bytes())
        (folder / "tokenizer_config.json").write_bytes(msgspec.json.encode(settings))
        model = {"model_type": repository.model_type}
        (folder / "config.json").write_bytes(msgspec.json.encode(model))
        try:
            made = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_fast=True
            )
            made.save_pretrained(folder / "made")
            from tokenizers import Tokenizer

            return Tokenizer.from_file(str(folder / "made" / TOKENIZER))
        except Exception as error:  # transformers raises anything over files that make no sense
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ConversionError(
                f"its tokenizer cannot be made of {', '.join(found)}: {lines[0]}"
            ) from error


def _padding(repository: TextRepository, tokenizer: Tokenizer, vocabulary: int) -> tuple[str, int]:
    """The padding token and its id, as the tokenizer says, else the network's configuration."""
    named = repository.tokenizer.get("pad_token")
    if isinstance(named, dict):
        named = named.get("content")
    number = tokenizer.token_to_id(named) if isinstance(named, str) else None
    if number is None:
        number = repository.config.get("pad_token_id", 0)
        named = tokenizer.id_to_token(number) if isinstance(number, int) and number >= 0 else None
    if not isinstance(named, str) or not 0 <= number < vocabulary:
        raise ConversionError("which token pads a text is not said")
    return named, number
