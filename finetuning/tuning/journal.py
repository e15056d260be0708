"""What of a training is known already, beside the run to come: an interrupted one goes on from it.

Whatever a clock decided (how many steps), whatever took long (a way that was tried) is written down
when it is known, and the state of the way that is under way every few seconds.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from catalog.disk import replacing, writing
from catalog.errors import TlhubError, UsageError
from finetuning.ranks import ALONE, Ranks

_log = logging.getLogger(__name__)

_REQUEST = "request.json"

T = TypeVar("T")


class _Request(msgspec.Struct, frozen=True):
    """What is being trained."""

    key: str  # of all that its course depends on
    command: str


@dataclass(frozen=True)
class Journal:
    """A folder of what is known; without one nothing is kept."""

    folder: Path | None = None
    ranks: Ranks = ALONE

    @classmethod
    def beside(cls, run: Path, ranks: Ranks = ALONE) -> Journal:
        """That of the run folder to be made at ``run``."""
        run = run.absolute()
        return cls(run.with_name(f".{run.name}.tlhub-unfinished"), ranks)

    @property
    def began(self) -> str | None:
        """The command of the interrupted run, where there was one."""
        request = self._request()
        return None if request is None else request.command

    @contextlib.contextmanager
    def begun(self, key: str, command: str) -> Iterator[None]:
        """Start, or go on where ``key`` is that of the interrupted run.

        What is refused before anything is known of it leaves nothing behind.

        Raises:
            UsageError: it is not.
            StorageError: nothing can be written.
        """
        self._begin(key, command)
        try:
            yield
        except TlhubError:
            if self.folder and {file.name for file in self.folder.glob("*")} == {_REQUEST}:
                self.forget()
            raise

    def _begin(self, key: str, command: str) -> None:
        if self.folder is None or not self.ranks.first:
            return
        known = self._request()
        if known is None:
            self.forget()
            with writing(self.folder):
                self.folder.mkdir(parents=True)
            self._write(_REQUEST, msgspec.json.encode(_Request(key, command)))
        elif known.key != key:
            raise UsageError(
                "the model, the data or the options are not those of the run that was interrupted: "
                f"{known.command}",
                hint="resume it with what it was started with; --force alone starts anew",
            )

    def once(self, name: str, kind: Any, make: Callable[[], T]) -> T:
        """What ``make`` gives, of the type ``kind``: now, or when it was first asked for."""
        known = self.ranks.agreed(self._read(f"{name}.json", kind))
        if known:
            found: T = known[0]
            return found
        value = self.ranks.agreed(make())
        if self.ranks.first:
            self._write(f"{name}.json", msgspec.json.encode(value))
        return value

    def checkpoint(self, name: str) -> Path | None:
        """Where the state of a training is kept."""
        return None if self.folder is None else self.folder / f"{name}.pt"

    def clear(self, name: str) -> None:
        """The training is over, and what came of it known."""
        file = self.checkpoint(name)
        if file is not None and self.ranks.first:
            file.unlink(missing_ok=True)

    def forget(self) -> None:
        """The run is whole, or is to start anew."""
        if self.folder is not None and self.ranks.first:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _request(self) -> _Request | None:
        found = self._read(_REQUEST, _Request)
        return found[0] if found else None

    def _read(self, name: str, kind: Any) -> list[Any]:
        """What was written under a name, if anything."""
        if self.folder is None or not self.ranks.first:
            return []
        file = self.folder / name
        try:
            return [msgspec.json.decode(file.read_bytes(), type=kind)]
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("doing again what %s held: %s", file, error)
            return []

    def _write(self, name: str, data: bytes) -> None:
        if self.folder is not None:
            with replacing(self.folder / name) as stream:
                stream.write(data)
