"""What is odd about texts."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

from finetuning.data.dataset import Example
from finetuning.data.findings import Finding

_LONG = 350  # words, of which most make more than the 512 tokens that encoders read
# UTF-8 that was read as Windows-1252: an accented letter became two characters.
_MOJIBAKE = re.compile("\u00c3[\u0080-\u00bf\u20ac-\u2122]|\u00e2\u20ac")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MARKUP = re.compile(r"</?(p|br|div|a|span|b|i)\b[^>]*>|&(amp|lt|gt|quot|nbsp|#\d+);", re.I)


def findings(examples: Sequence[Example]) -> Iterator[Finding]:
    """What is to be said of them."""
    long = [e.name for e in examples if len(e.text.split()) > _LONG]
    odd = [e.name for e in examples if _is_odd(e.text)]
    marked = [e.name for e in examples if _MARKUP.search(e.text)]
    if long:
        text = f"over {_LONG} words"
        yield Finding.of("long", text, long, "cut where the model stops reading", serious=False)
    if odd:
        text = "wrongly decoded characters or control characters"
        yield Finding.of("encoding", text, odd, "kept: mend the source")
    if marked:
        yield Finding.of("markup", "HTML in the text", marked, "kept as it is", serious=False)


def clusters(examples: Sequence[Example]) -> list[list[int]]:
    """Texts that are the same but for case, punctuation and blanks, by their places."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for n, example in enumerate(examples):
        words = re.findall(r"\w+", unicodedata.normalize("NFKC", example.text).casefold())
        if words:
            found[hashlib.blake2b(" ".join(words).encode("utf-8", "replace")).digest()].append(n)
    return [members for members in found.values() if len(members) > 1]


def _is_odd(text: str) -> bool:
    return "\ufffd" in text or bool(_MOJIBAKE.search(text) or _CONTROLS.search(text))
