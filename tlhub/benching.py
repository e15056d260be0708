"""Timing models on this machine, and what was measured kept for `tlhub show`."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from catalog.disk import replacing, writing
from converters.machine import cores
from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings

if TYPE_CHECKING:
    from converters.bench import Timing
    from converters.folder import ModelFolder


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was timed of one graph on this machine, newest last for each way of running it."""

    uid: str
    machine: str
    date: str  # ISO 8601, UTC
    timings: Sequence[Mapping[str, str | int | float]]


def bench(
    models: Sequence[str],
    *,
    engines: Sequence[str] | None = None,
    batches: Sequence[int] = (1, 8),
    threads: Sequence[int] | None = None,
    seconds: float = 1.0,
    rounds: int = 3,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> dict[str, tuple[Timing, ...]]:
    """Timings of each model by uid; see `converters.bench.bench`.

    Without ``engines`` every graph that the model's folder has is timed, and torch where it has
    the weights; without ``threads`` one thread and all cores. What was measured is kept, and
    `tlhub show` shows it.
    """
    from converters.bench import bench as time
    from converters.bench import engines_of
    from tlhub.api import converted

    settings = settings or Settings.load()
    folders = {name: converted(name, settings, progress) for name in dict.fromkeys(models)}
    found = {}
    for folder in folders.values():
        ways = [e for e in engines_of(folder) if e != "torch-compiled"]
        found[folder.manifest.uid] = timings = time(
            folder,
            engines=engines or ways,
            batches=batches,
            threads=threads or sorted({1, cores()}),
            seconds=seconds,
            rounds=rounds,
            progress=lambda step: progress(Event(step)),
        )
        _keep(folder, timings, settings)
    return found


def measured(uid: str, settings: Settings) -> list[Measured]:
    """What was timed of a model here, by graph."""
    found = map(_read, sorted(settings.measured.glob("*.json")))
    return [item for item in found if item is not None and item.uid == uid]


def machine() -> str:
    """The processor of this machine and its number of cores."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {cores()} cores"


def _read(file: Path) -> Measured | None:
    """What a file says; None where it cannot be read, and can be measured again."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Measured)
    except (OSError, msgspec.DecodeError):
        return None


def _keep(folder: ModelFolder, timings: Sequence[Timing], settings: Settings) -> None:
    """Keep what was measured, by the digest of the graph; a way that was timed again is replaced.

    Raises:
        StorageError: it cannot be written.
    """
    from converters.folder import ONNX

    digest = folder.manifest.files[ONNX].sha256
    file = settings.measured / f"{digest}.json"
    kept: dict[tuple[object, ...], Mapping[str, str | int | float]] = {}
    before = _read(file)
    if before is not None and before.machine == machine():
        kept |= {(t["engine"], t["batch"], t["threads"]): t for t in before.timings}
    for timing in timings:
        way = timing.engine, timing.batch, timing.threads
        kept[way] = msgspec.to_builtins(timing)
    new = Measured(
        uid=folder.manifest.uid,
        machine=machine(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        timings=[*kept.values()],
    )
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(new)))
