"""The runs in a folder, and how two of them compare."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from catalog.errors import NotFoundError, TlhubError
from converters.folder import MANIFEST, ONNX, ModelFolder
from finetuning.data.splits import SPLIT

METRICS = "metrics.json"
_DRAWS = 2000  # of the bootstrap


class _Wrong(msgspec.Struct, frozen=True):
    """A held-out example that a run is wrong about."""

    file: str


class _Sides(msgspec.Struct, frozen=True):
    test: tuple[str, ...] = ()


class _Known(msgspec.Struct, frozen=True):
    """Of `metrics.json` what a comparison needs; of whatever version it is."""

    mistakes: tuple[_Wrong, ...] | None = None  # None: it is not said which ones are wrong
    split: _Sides = _Sides()


@dataclass(frozen=True)
class Run:
    """A run folder, with what its manifest says of it."""

    folder: ModelFolder

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.folder.path

    @property
    def created(self) -> str:
        """ISO 8601, UTC."""
        return self.folder.manifest.created

    @property
    def facts(self) -> Mapping[str, Any]:
        """Data, command, seed and seconds."""
        return self.folder.manifest.run or {}

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The figures that the manifest repeats."""
        found: Mapping[str, Any] = self.facts.get("metrics") or {}
        return found

    @property
    def data(self) -> str:
        """The data that it learned from, as they were named."""
        return str((self.facts.get("data") or {}).get("folder", ""))

    @property
    def strategy(self) -> str:
        """The head and what it is on, or how far down the network was trained."""
        metrics = self.metrics
        stages = " + ".join(metrics.get("stages") or ())
        return f"{metrics.get('head', '?')} on {stages}" if stages else str(metrics.get("head", ""))

    @property
    def baseline(self) -> tuple[str, float] | None:
        """The best of what it was measured against."""
        known = {
            name: float(value)
            for name, value in (self.metrics.get("baselines") or {}).items()
            if value is not None
        }
        return max(known.items(), key=lambda item: item[1]) if known else None

    @property
    def size_bytes(self) -> int:
        """Of the model that it made."""
        return self.folder.manifest.files[ONNX].size_bytes

    @cached_property
    def held_out(self) -> Mapping[str, str]:
        """By name the digests of the examples that it was measured on; of old runs empty ones."""
        if SPLIT not in self.folder.manifest.files:
            return dict.fromkeys(self._known.split.test, "")
        with (self.path / SPLIT).open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream)
            return {row["name"]: row["sha256"] for row in rows if row["part"] == "test"}

    @property
    def wrong(self) -> frozenset[str] | None:
        """The held-out examples that it is wrong about; None where that is not known."""
        known = self._known.mistakes
        return None if known is None else frozenset(item.file for item in known)

    @cached_property
    def _known(self) -> _Known:
        try:
            return msgspec.json.decode((self.path / METRICS).read_bytes(), type=_Known)
        except (OSError, msgspec.DecodeError):
            return _Known()


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What one run's accuracy is over another's, as fractions."""

    value: float
    interval: tuple[float, float] | None  # 95 %; None where they held out different examples
    examples: int  # held out by both


@dataclass(frozen=True)
class Broken:
    """A folder that is not a run that can be read, and why."""

    path: Path
    reason: str


def read(path: Path) -> Run:
    """The run at ``path``.

    Raises:
        NotFoundError: there is none.
        IntegrityError: a file is missing or cut short.
    """
    folder = ModelFolder.open(path)
    if folder.manifest.kind != "run":
        raise NotFoundError(f"{path} is a model and no run", hint="`tlhub finetune` makes runs")
    return Run(folder)


def listed(folder: Path) -> tuple[list[Run], list[Broken]]:
    """The runs in a folder, the newest first, and what looks like one and is broken.

    Raises:
        NotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no folder {folder}", hint="`tlhub finetune MODEL --data DATA --out RUN`"
        )
    runs, broken = [], []
    for place in sorted(folder.iterdir()):
        if not place.is_dir():
            continue
        if place.name.startswith("."):
            if place.name.endswith(".tlhub-new"):
                broken.append(Broken(place, "half written: it is being made, or was killed"))
            continue
        try:
            runs.append(read(place))
        except NotFoundError as error:
            made_here = (place / METRICS).exists() or (place / ONNX).exists()
            if made_here and not (place / MANIFEST).exists():
                broken.append(Broken(place, error.message))
        except TlhubError as error:
            broken.append(Broken(place, error.message))
    return sorted(runs, key=lambda run: run.created, reverse=True), broken


def difference(one: Run, other: Run, *, seed: int = 0) -> Difference | None:
    """How much more accurate ``one`` is than ``other``; None where one does not say how it is.

    Where both held out the same examples the interval is of the paired difference.
    """
    try:
        value = float(one.metrics["accuracy"]) - float(other.metrics["accuracy"])
    except (KeyError, TypeError):
        return None
    shared = [
        name
        for name, sha in sorted(one.held_out.items())
        if (known := other.held_out.get(name)) is not None and (sha == known or not (sha and known))
    ]
    same = bool(shared) and len(shared) == len(one.held_out) == len(other.held_out)
    if not same or one.wrong is None or other.wrong is None:
        return Difference(value=value, interval=None, examples=len(shared))
    gains = np.array([(name in other.wrong) - (name in one.wrong) for name in shared], float)
    draws = np.random.default_rng(seed).integers(0, len(gains), (_DRAWS, len(gains)))
    low, high = np.quantile(gains[draws].mean(axis=1), [0.025, 0.975])
    return Difference(
        value=float(gains.mean()), interval=(float(low), float(high)), examples=len(gains)
    )
