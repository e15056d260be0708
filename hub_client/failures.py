"""Several places were tried: one error that says what each of them answered."""

from __future__ import annotations

from collections.abc import Sequence

from catalog.errors import (
    AccessError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    TlhubError,
    UnsafeError,
)
from hub_client.network import redact

# What matters most to the user comes first: a lie over a closed door over a bad line.
_RANK = (UnsafeError, IntegrityError, AccessError, NetworkError, NotFoundError)

Failure = tuple[str, TlhubError]
"""The place that was tried, and what came of it."""


def combine(what: str, failures: Sequence[Failure]) -> TlhubError:
    """The gravest of ``failures`` (not empty), with the reasons of all in its message."""
    gravest = min((error for _, error in failures), key=_rank)
    if len(failures) == 1:
        return gravest
    reasons = "\n".join(f"  {redact(place)}: {error.message}" for place, error in failures)
    return type(gravest)(
        f"{what} could not be fetched from any of {len(failures)} places:\n{reasons}",
        hint=gravest.hint,
    )


def _rank(error: TlhubError) -> int:
    return next((i for i, kind in enumerate(_RANK) if isinstance(error, kind)), len(_RANK))
