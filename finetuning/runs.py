"""The runs in a folder, and how two of them compare."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from catalog.errors import NotFoundError, TlhubError
from converters.folder import MANIFEST, ONNX, ModelFolder
from finetuning.data.dataset import Part
from finetuning.data.splits import SPLIT
from finetuning.scores import Score

METRICS = "metrics.json"
_DRAWS = 2000  # of the bootstrap
_LOOKED_AT = 50  # runs that may be a previous one
_SAME = 0.5  # of the examples of two runs, for their data to count as the same


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
    def score(self) -> Score | None:
        """What it is judged by; of older runs the accuracy."""
        metrics = self.metrics
        old = {"measure": "accuracy", "value": metrics.get("accuracy")}
        found = metrics.get("score") or {**old, "interval": metrics.get("interval")}
        try:
            return msgspec.convert(found, Score)
        except msgspec.ValidationError:
            return None

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
        if not self.split:
            return dict.fromkeys(self._known.split.test, "")
        return {row["name"]: row["sha256"] for row in self.split if row["part"] == "test"}

    @cached_property
    def split(self) -> list[dict[str, str]]:
        """The rows of `split.csv`: name, part, sha256; of old runs none."""
        if SPLIT not in self.folder.manifest.files:
            return []
        with (self.path / SPLIT).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

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
    """What one run's score is over another's."""

    value: float
    interval: tuple[float, float] | None  # 95 %; None where it cannot be had in pairs
    examples: int  # held out by both
    same: bool  # whether those are all


class Previous(msgspec.Struct, frozen=True, kw_only=True):
    """A run on the same data, and how much better the later one is."""

    name: str  # of its folder
    created: str
    model: str
    strategy: str
    score: Score
    over: Difference


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
        except OSError as error:
            broken.append(Broken(place, f"cannot be read: {error.strerror}"))
    return sorted(runs, key=lambda run: run.created, reverse=True), broken


def difference(one: Run, other: Run, *, seed: int = 0) -> Difference | None:
    """How much better ``one`` is than ``other``; None where they are not judged by the same.

    Where both held out the same examples, and are judged by how many of them they tell right, the
    interval is of the paired difference.
    """
    if one.score is None:
        return None
    return _difference(one.score, one.held_out, one.wrong, other, seed=seed)


def previous(
    out: Path, places: Mapping[str, tuple[Part, str]], score: Score, wrong: Collection[str]
) -> Previous | None:
    """The newest run beside or at ``out`` on the data of a run that is being made, compared to it.

    ``places`` has the part and the digest of each of its examples by name.
    """
    try:
        found, _ = listed(out.resolve().parent)
    except (NotFoundError, OSError):  # no run is lost for what stands beside it
        found = []
    own = {sha for _, sha in places.values()}
    held = {name: sha for name, (part, sha) in places.items() if part == "test"}
    for run in found[:_LOOKED_AT]:
        seen = {row["sha256"] for row in run.split}
        if len(own & seen) < _SAME * len(own | seen):
            continue
        over = _difference(score, held, frozenset(wrong), run, seed=0)
        if over is not None and run.score is not None:
            return Previous(
                name=run.path.name,
                created=run.created,
                model=run.folder.manifest.record.base_model or run.folder.manifest.uid,
                strategy=run.strategy,
                score=run.score,
                over=over,
            )
    return None


def _difference(
    score: Score,
    held_out: Mapping[str, str],
    wrong: frozenset[str] | None,
    other: Run,
    *,
    seed: int,
) -> Difference | None:
    before = other.score
    if before is None or before.measure != score.measure:
        return None
    shared = [
        name
        for name, sha in sorted(held_out.items())
        if (known := other.held_out.get(name)) is not None and (sha == known or not (sha and known))
    ]
    same = bool(shared) and len(shared) == len(held_out) == len(other.held_out)
    told_right = score.measure == "accuracy" and wrong is not None and other.wrong is not None
    if not same or not told_right:
        value = score.value - before.value
        return Difference(value=value, interval=None, examples=len(shared), same=same)
    own, theirs = wrong or frozenset(), other.wrong or frozenset()
    gains = np.array([(name in theirs) - (name in own) for name in shared], float)
    shares = [(gains == gain).mean() for gain in (-1, 0, 1)]
    lost, _, won = np.random.default_rng(seed).multinomial(len(gains), shares, _DRAWS).T
    low, high = np.quantile((won - lost) / len(gains), [0.025, 0.975])
    return Difference(
        value=float(gains.mean()),
        interval=(float(low), float(high)),
        examples=len(gains),
        same=True,
    )
