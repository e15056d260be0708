"""Every error tlhub raises on purpose, and the exit code the command gives it.

TlhubError                     1   it could not be done
├── DataError                  1   the user's data cannot be used as they are
├── StorageError               1   a disk is full or a folder cannot be written
├── ConversionError            1   a model could not be loaded, exported or proven equal
├── UsageError                 2   the request itself makes no sense
├── NotFoundError              3   no such model, file or revision
├── AccessError                4   a permission, a gate or a license stands in the way
├── NetworkError               5   the network failed
│   └── OfflineError           5   the network is needed and was ruled out
└── IntegrityError             6   bytes are not the bytes they should be
    └── UnsafeError            6   loading it could run code, or write outside its folder

A message says what failed and the value seen; ``hint`` is the next step the user can take.
"""

from __future__ import annotations

from typing import ClassVar


class TlhubError(Exception):
    """Base of all errors raised on purpose; anything else is a bug."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class DataError(TlhubError):
    """The user's data cannot be used as they are."""

    code = "data"


class StorageError(TlhubError):
    """A disk is full, or a folder cannot be written."""

    code = "storage"


class ConversionError(TlhubError):
    """A model could not be loaded, exported, or proven equal to its source."""

    code = "conversion"


class UsageError(TlhubError):
    """The request itself makes no sense."""

    exit_code = 2
    code = "usage"


class NotFoundError(TlhubError):
    """There is no such model, file or revision."""

    exit_code = 3
    code = "not-found"


class AccessError(TlhubError):
    """A permission, a gate or a license stands in the way."""

    exit_code = 4
    code = "access"


class NetworkError(TlhubError):
    """The network failed."""

    exit_code = 5
    code = "network"


class OfflineError(NetworkError):
    """The network is needed and was ruled out."""

    code = "offline"


class IntegrityError(TlhubError):
    """Bytes are not the bytes they should be."""

    exit_code = 6
    code = "integrity"


class UnsafeError(IntegrityError):
    """Loading it could run code, or write outside its folder."""

    code = "unsafe"
