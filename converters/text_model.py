"""`TextModel`: a text classifier or sentence encoder that runs, from sentences to numbers.

The sentences are cut and padded by the model's own `tokenizer.json`, with the library
`tokenizers`; neither torch nor transformers is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from catalog.errors import DataError, IntegrityError, NotFoundError
from catalog.record import UNREADABLE
from converters.interface import ATTENTION_MASK, INPUT_IDS, LOGITS, TOKEN_TYPE_IDS, TOKENIZER
from converters.runtime import OnnxModel, Ranking
from converters.session import run

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Text = str | tuple[str, str]  # the latter, within a list: two texts that a classifier compares

# So many texts are tokenized at a time; so many, and so many tokens with padding, are run.
_WINDOW, _BATCH, _BATCH_TOKENS = 4096, 64, 8192


class TextModel(OnnxModel[Text, Ranking]):
    """A model of texts; what is longer than it was trained for is cut off."""

    _tokenizer: Tokenizer  # without padding, so that several threads can use it
    _padding: Mapping[str, Any]
    _prompt: str = ""

    def _prepare(self, file: Path, facts: Mapping[str, str]) -> Self:
        from tokenizers import Tokenizer

        place = file.with_name(TOKENIZER)
        if not place.is_file():
            raise NotFoundError(
                f"{file} takes token ids, and there is no {TOKENIZER} beside it",
                hint="name the folder that `tlhub pull` made, or put them side by side",
            )
        try:
            self._tokenizer = Tokenizer.from_str(place.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises nothing more precise
            raise IntegrityError(f"{place} is no tokenizer: {error}") from error
        self._padding = self._tokenizer.padding or {}
        self._tokenizer.no_padding()
        try:
            said = msgspec.json.decode(facts.get("tlhub.preprocess", "{}"), type=dict[str, Any])
        except UNREADABLE as error:
            raise IntegrityError(f"{file} has metadata that cannot be read: {error}") from error
        self._prompt = str(said.get("prompt", ""))
        if said.get("activation") == "identity":
            self.scores = LOGITS
        return self

    def predict(self, given: Sequence[Text], *, top: int | None = None) -> list[Ranking]:
        """For each text its ``top`` classes, the likeliest first (5); or its numbers.

        A class without a name goes by its number. Where several labels may hold, those that do are
        given, if not ``top`` of them.

        Raises:
            UsageError: ``top`` is below 1, or the graph has no output ``probabilities``.
        """
        return self._ranked(given, top)

    @staticmethod
    def _is_one(given: Text | Sequence[Text]) -> bool:
        return isinstance(given, str)  # a tuple may be two texts as well as a pair

    def several(
        self, given: Sequence[Text], outputs: Sequence[str]
    ) -> list[list[NDArray[np.float32]]]:
        """Several outputs for each text; texts of about one length go through together."""
        rows: list[list[NDArray[np.float32]]] = []
        for start in range(0, len(given), _WINDOW):
            encoded = self._encoded(given[start : start + _WINDOW])
            found: dict[int, list[NDArray[np.float32]]] = {}
            for places in _batches(encoded):
                these = [encoded[n] for n in places]
                batch = [self._cut(output, these) for output in self._run(these, outputs)]
                found |= dict(zip(places, map(list, zip(*batch, strict=True)), strict=True))
            rows += [found[n] for n in range(len(encoded))]
        return rows

    def _cut(
        self, batch: NDArray[np.float32], encoded: Sequence[Encoding]
    ) -> list[NDArray[np.float32]]:
        """What is of tokens without the padding."""
        if batch.ndim < 3:
            return list(batch)
        left = self._padding.get("direction") == "left"
        lengths = [max(len(item), 1) for item in encoded]
        return [row[-n:] if left else row[:n] for row, n in zip(batch, lengths, strict=True)]

    def _encoded(self, texts: Sequence[Text]) -> list[Encoding]:
        for text in texts:
            pair = isinstance(text, tuple) and len(text) == 2
            if not all(isinstance(part, str) for part in (text if pair else [text])):
                raise DataError(f"a {type(text).__name__} is no text", hint="a str, or two of them")
        return self._tokenizer.encode_batch(
            [f"{self._prompt}{text}" if isinstance(text, str) else text for text in texts]
        )

    def _run(
        self, encoded: Sequence[Encoding], outputs: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        [session] = self._sessions
        padding = self._padding
        left = padding.get("direction") == "left"
        fills = {
            INPUT_IDS: ("ids", padding.get("pad_id", 0)),
            ATTENTION_MASK: ("attention_mask", 0),
            TOKEN_TYPE_IDS: ("type_ids", padding.get("pad_type_id", 0)),
        }
        width = max(len(item) for item in encoded)
        arrays: dict[str, NDArray[Any]] = {}
        for name in (item.name for item in session.get_inputs()):
            attribute, fill = fills[name]
            array = arrays[name] = np.full((len(encoded), max(width, 1)), fill, np.int64)
            for row, item in zip(array, encoded, strict=True):
                part = slice(width - len(item), None) if left else slice(len(item))
                row[part] = getattr(item, attribute)
        return run(session, outputs, arrays)


def _batches(encoded: Sequence[Encoding]) -> Iterator[list[int]]:
    """Places of texts that are run together, the longest first: what is too much fails at once."""
    batch: list[int] = []
    for place in sorted(range(len(encoded)), key=lambda n: -len(encoded[n])):
        longest = len(encoded[batch[0]]) if batch else 0
        if batch and (len(batch) == _BATCH or (len(batch) + 1) * longest > _BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
