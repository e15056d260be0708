"""How fast a converted model is on this machine, each way of running it in a fresh process.

The ways take turns round by round, so that a busy moment of the machine meets all of them; of the
rounds the median is reported.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from catalog.errors import ConversionError, UsageError
from converters.folder import ONNX, ModelFolder
from converters.interface import INPUT_IDS, TOKEN_TYPE_IDS

TORCH = ("torch", "torch-compiled")
_TOKENS = 64  # of a text
_IDS = 500  # that they are drawn from, or as many as the model knows
_TIMEOUT_S = 1200


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """One way of running a model, with a batch and a number of threads."""

    engine: str  # `onnxruntime`, with the precision where it is not fp32, or one of `TORCH`
    batch: int
    threads: int
    median_ms: float  # of a batch
    p90_ms: float
    per_second: float  # inputs
    cold_start_s: float  # from the start of the process to the first answer
    peak_rss_bytes: int


def engines_of(folder: ModelFolder) -> list[str]:
    """The ways in which the model of a folder can be run."""
    variants = sorted(folder.path.glob("model.*.onnx"))
    names = [f"onnxruntime-{file.name.split('.')[1]}" for file in variants]
    return ["onnxruntime", *names, *TORCH]


def bench(
    folder: ModelFolder,
    *,
    engines: Sequence[str] = ("onnxruntime",),
    batches: Sequence[int] = (1, 8),
    threads: Sequence[int] = (1,),
    seconds: float = 1.0,
    rounds: int = 3,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Timing, ...]:
    """Latency, throughput, cold start and memory of each way, batch and number of threads.

    From decoded photos of 427 x 640, or texts of 64 tokens, to all outputs, on the CPU.

    Raises:
        UsageError: the folder cannot be run in such a way.
        ConversionError: it fails.
    """
    known = engines_of(folder)
    for engine in engines:
        if engine not in known:
            raise UsageError(f"there is no engine {engine!r}", hint=f"one of {', '.join(known)}")
    cells = list(product(batches, threads, engines))
    found: dict[tuple[int, int, str], list[dict[str, float]]] = {cell: [] for cell in cells}
    with tempfile.TemporaryDirectory(prefix="tlhub-") as work:
        inputs = {batch: Path(work, f"{batch}.npz") for batch in batches}
        for batch, file in inputs.items():
            np.savez(file, allow_pickle=False, **_given(folder, batch))
        for number, (batch, count, engine) in _rounds(cells, rounds):
            progress(f"round {number} of {rounds}: {engine}, batch {batch}, {count} threads")
            order = {"inputs": str(inputs[batch]), "threads": count, "seconds": seconds}
            found[batch, count, engine].append(_time(folder, engine, order))
    return tuple(_timing(cell, found[cell]) for cell in cells)


def _rounds(
    cells: Sequence[tuple[int, int, str]], rounds: int
) -> Iterator[tuple[int, tuple[int, int, str]]]:
    for number in range(1, rounds + 1):
        for cell in cells:
            yield number, cell


def _time(folder: ModelFolder, engine: str, order: dict[str, Any]) -> dict[str, float]:
    here = Path(__file__).parent
    if engine in TORCH:
        command = [sys.executable, "-m", "converters.torch_stopwatch"]
        order |= {"folder": str(folder.path.resolve()), "compiled": engine != "torch"}
    else:
        command = [sys.executable, "-P", str(here / "stopwatch.py")]
        precision = engine.removeprefix("onnxruntime").lstrip("-")
        name = f"model.{precision}.onnx" if precision else ONNX
        order["model"] = str((folder.path / name).resolve())
    try:
        ran = subprocess.run(  # noqa: S603 - our own file, no shell
            command,
            input=json.dumps(order),
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
            cwd=here.parent,
        )
    except subprocess.TimeoutExpired as error:
        raise ConversionError(f"{engine} did not finish in {_TIMEOUT_S} s") from error
    if ran.returncode:
        said = ran.stderr.strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
        raise ConversionError(
            f"{engine} cannot run {folder.manifest.uid}: {said[0]}",
            hint="leave it out: --engine chooses",
        )
    figures: dict[str, float] = json.loads(ran.stdout)
    return figures


def _timing(cell: tuple[int, int, str], rounds: Sequence[dict[str, float]]) -> Timing:
    batch, threads, engine = cell
    middle = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    return Timing(
        engine=engine,
        batch=batch,
        threads=threads,
        median_ms=round(middle["median_ms"], 3),
        p90_ms=round(middle["p90_ms"], 3),
        per_second=round(batch * 1e3 / middle["median_ms"], 2),
        cold_start_s=round(middle["cold_start_s"], 3),
        peak_rss_bytes=int(middle["peak_rss_bytes"]),
    )


def _given(folder: ModelFolder, batch: int) -> dict[str, NDArray[Any]]:
    """Photos or texts for the graph of a folder."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder.onnx, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if [(item.type, len(item.shape)) for item in inputs] == [("tensor(uint8)", 4)]:
        from converters.evidence import sample_photos

        photos = list(sample_photos().values())
        return {inputs[0].name: np.stack([photos[n % 2] for n in range(batch)])}
    if all(item.type == "tensor(int64)" for item in inputs) and inputs[0].name == INPUT_IDS:
        import onnx

        from converters.graph_inputs import inputs_of

        graph = onnx.load(str(folder.onnx), load_external_data=False)
        rows = {item.name: item.tokens for item in inputs_of(graph)}
        known = min(rows[INPUT_IDS] or _IDS, _IDS)
        random = np.random.default_rng(0)
        given = {item.name: np.ones((batch, _TOKENS), np.int64) for item in inputs}
        given[INPUT_IDS] = random.integers(min(5, known - 1), known, (batch, _TOKENS), np.int64)
        if TOKEN_TYPE_IDS in given:
            given[TOKEN_TYPE_IDS][:] = 0
        return given
    seen = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs)
    raise UsageError(f"{folder.path} takes {seen}: only photos and texts are timed")
