"""How names and sentences are split into words, in the index and in a query alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_WORD = re.compile(r"[a-z0-9]+")
# Letters and digits part ways; so does the `v` of a version: mobilenetv2 is mobilenet v 2.
_PART = re.compile(r"[a-z]{2,}(?=v\d)|[a-z]+|\d+")


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits: ``vit_b-16`` is ``vit``, ``b``, ``16``."""
    plain = unicodedata.normalize("NFKD", text.lower())
    return _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))


def parts(word: str) -> list[str]:
    """What a word is made of: ``resnet50`` is ``resnet``, ``50``."""
    return _PART.findall(word)


def tokens(text: str) -> Iterator[str]:
    """Every word, followed by its parts where it has more than one."""
    for word in words(text):
        yield word
        found = parts(word)
        if len(found) > 1:
            yield from found


def compact(text: str) -> str:
    """The text without separators: ``ResNet-50`` is ``resnet50``."""
    return "".join(words(text))
