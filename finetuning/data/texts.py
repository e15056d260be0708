"""Bytes of a text file to a text."""

from __future__ import annotations

import codecs

from catalog.errors import DataError

SUFFIXES = frozenset({".txt"})

_MARKS = (  # the longer first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(data: bytes, name: str) -> tuple[str, str]:
    """The text, and the encoding it was in: UTF-8, what its first bytes say, or Windows-1252.

    Raises:
        DataError: it is no text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding), encoding
            except UnicodeDecodeError as error:
                raise DataError(f"{name} is no text: {error}", hint="save it as UTF-8") from error
    if b"\0" in data:
        raise DataError(f"{name} is no text: it has zero bytes", hint="save it as UTF-8")
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), "cp1252"
