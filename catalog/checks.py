"""Whether a record that somebody wrote can stand in the catalog: what its types cannot say."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from catalog.errors import UsageError
from catalog.members import leaves_folder
from catalog.record import ModelRecord
from catalog.tasks import TASKS

# As URLs and `uid@revision` can tell it apart.
_UID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9_][\w.+=-]*)+", re.ASCII)
_LONGEST_UID = 500
_LONGEST = 10_000  # characters of a text
_LARGEST = 2**53  # the last whole number of JSON that everybody reads alike
_MOST_SIDE = 2**31
_URL = re.compile(r"[a-z][a-z0-9+.-]*:.+")
_HEX = {"sha256": 64, "sha384": 96, "sha1": 40, "md5": 32, "git-sha1": 40}


def check(record: ModelRecord) -> None:
    """Nothing, for a record that can be indexed, shown and pulled.

    Raises:
        UsageError: a field cannot be what it says; the message begins with its name.
    """
    check_uid(record.uid)
    if record.task is not None and record.task not in TASKS:
        from difflib import get_close_matches

        close = get_close_matches(record.task[:_LONGEST_UID], TASKS, 1)
        raise UsageError(
            f"task: {record.task!r:.60} is no task of the Hugging Face hub",
            hint=f"did you mean {close[0]}?" if close else None,
        )
    for name in ("input_size", "gmacs_at"):
        if any(not 0 < side < _MOST_SIDE for side in getattr(record, name) or ()):
            raise UsageError(f"{name}: expected lengths over 0, got {getattr(record, name)}")
    for number, artifact in enumerate(record.artifacts):
        where = f"artifacts[{number}]"
        if leaves_folder(artifact.path) or "\\" in artifact.path:
            raise UsageError(f"{where}.path: {artifact.path!r:.80} leads out of the model's folder")
        for place, url in enumerate(artifact.urls):
            if not _URL.fullmatch(url):
                raise UsageError(f"{where}.urls[{place}]: {url!r:.80} is no URL")
        digest = artifact.digest
        if digest and not digest.prefix and len(digest.value) != _HEX[digest.algorithm]:
            raise UsageError(
                f"{where}.digest.value: {digest.value!r:.80} is no {digest.algorithm}",
                hint="write all of its digits, or `prefix: true`",
            )
    _check_values(msgspec.to_builtins(record), "")


def check_uid(uid: str) -> None:
    """Nothing, for a uid that every command takes.

    Raises:
        UsageError: it is none.
    """
    if not _UID.fullmatch(uid) or ".." in uid or len(uid) > _LONGEST_UID:
        raise UsageError(
            f"uid: expected source/name, got {uid!r:.80}",
            hint="letters, digits and . _ - in parts between slashes, such as my/resnet50-cats",
        )


def _check_values(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            _check_values(item, f"{where}.{name}" if where else name)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _check_values(item, f"{where}[{number}]")
    elif isinstance(value, str):
        if not value.isprintable() or len(value) > _LONGEST:
            raise UsageError(f"{where}: expected one printable line, got {value!r:.60}")
    elif isinstance(value, int):
        if abs(value) > _LARGEST:
            raise UsageError(f"{where}: a number of {value.bit_length()} bits is too large")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where}: expected a number, got {value}")
