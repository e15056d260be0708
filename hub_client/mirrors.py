"""Mirrors: other places for what begins with a prefix, tried before the publisher's own.

A mirror is never trusted more than the place it stands for: the digest is that of the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from catalog.errors import UsageError
from catalog.record import Artifact
from hub_client.sources.registry import scheme_of, schemes

Mirrors = Sequence[tuple[str, str]]
"""Pairs of a prefix and what takes its place, the longest prefix first."""


def mirrored(artifacts: Iterable[Artifact], mirrors: Mirrors) -> list[Artifact]:
    """The artifacts with the addresses on the mirrors before their own."""
    return [
        msgspec.structs.replace(artifact, urls=tuple(places(artifact.urls, mirrors)))
        for artifact in artifacts
    ]


def places(urls: Iterable[str], mirrors: Mirrors) -> list[str]:
    """Where to look, in turn: each URL behind what the mirrors make of it."""
    found: dict[str, None] = {}
    for url in urls:
        fitting = [mirror for mirror in mirrors if url.startswith(mirror[0])]
        found |= dict.fromkeys(on(url, *mirror) for mirror in fitting)
        found[url] = None
    return list(found)


def on(url: str, prefix: str, replacement: str) -> str:
    """The URL with another beginning; as it is where it does not begin so."""
    return replacement + url.removeprefix(prefix) if url.startswith(prefix) else url


def read_mirrors(table: Mapping[str, object], where: str) -> tuple[tuple[str, str], ...]:
    """The mirrors of a table: prefix to replacement, or to a list of them.

    Raises:
        UsageError: a value is not a URL of a kind that can be fetched; ``where`` says whose.
    """
    pairs = []
    for prefix in sorted(table, key=lambda p: (-len(p), p)):
        said = table[prefix]
        for replacement in said if isinstance(said, list) else [said]:
            if not isinstance(replacement, str) or scheme_of(replacement) not in schemes():
                raise UsageError(
                    f"{where}: the mirror of {prefix!r} is {replacement!r}, which is no address",
                    hint=f"write a URL that begins with one of {', '.join(schemes())}",
                )
            pairs.append((prefix, replacement))
    return tuple(pairs)


def parse_mirrors(text: str, where: str) -> tuple[tuple[str, str], ...]:
    """The mirrors of an environment variable: ``prefix=replacement``, separated by blanks.

    Raises:
        UsageError: a part is not of this form.
    """
    table: dict[str, object] = {}
    for part in text.split():
        prefix, equals, replacement = part.partition("=")
        if not equals or not prefix:
            raise UsageError(
                f"{where}: {part!r} is no mirror", hint="write https://from/=https://to/"
            )
        known = table.setdefault(prefix, [])
        if isinstance(known, list):
            known.append(replacement)
    return read_mirrors(table, where)
