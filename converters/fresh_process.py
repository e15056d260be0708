"""Graphs run by `converters.worker`: in a process of their own, for a limited time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import ConversionError

Arrays = Mapping[str, NDArray[Any]]

TIMEOUT_S = 1800
_CHECK = "import sys, onnx; onnx.checker.check_model(sys.argv[1], full_check=True)"


def run(
    model: Path,
    batches: Mapping[str, Arrays],
    work: Path | None = None,
    *,
    outputs: tuple[str, ...] | None = None,
    mode: str = "",
    timeout_s: int | None = None,
) -> dict[str, dict[str, NDArray[Any]]]:
    """The outputs (by default all) of a graph for each of the batches, by their names.

    ``work`` is a folder for temporary files. ``mode`` `try` leaves out batches that fail, `shapes`
    gives the shapes of the outputs in their place. Memory is limited to what the machine has.

    Raises:
        ConversionError: it cannot be run, or not in time.
    """
    arrays = {f"{name}/{key}": a for name, batch in batches.items() for key, a in batch.items()}
    limit = TIMEOUT_S if timeout_s is None else timeout_s
    with tempfile.TemporaryDirectory(prefix="parity-", dir=work) as folder:
        given, found = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        np.savez(given, allow_pickle=False, **arrays)
        command = [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))]
        command += [str(path.resolve()) for path in (model, given, found)]
        command += [mode, str(_memory()), *(outputs or ())]
        try:
            said = _ran(command, limit)
        except subprocess.TimeoutExpired as error:
            raise ConversionError(f"ONNX Runtime did not finish the graph in {limit} s") from error
        if said is not None:
            raise ConversionError(f"ONNX Runtime could not run the graph: {said}")
        results: dict[str, dict[str, NDArray[Any]]] = {}
        with np.load(found, allow_pickle=False) as archive:
            for key in archive.files:
                batch, _, output = key.partition("/")
                results.setdefault(batch, {})[output] = archive[key]
    return results


def check(model: Path) -> None:
    """Have ONNX's own checker read a file, which takes twice its size of memory, or crashes.

    Raises:
        ConversionError: it is not valid ONNX.
    """
    try:
        said = _ran([sys.executable, "-P", "-c", _CHECK, str(model.resolve())], TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise ConversionError(f"ONNX could not check the graph in {TIMEOUT_S} s") from error
    if said is not None:
        raise ConversionError(f"the graph is not valid ONNX: {said}")


def _ran(command: Sequence[str], timeout_s: int) -> str | None:
    """What went wrong in a process, as it said it; None: nothing."""
    ran = subprocess.run(  # noqa: S603 - our own code, no shell
        command, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    return (_message(ran.stderr) or f"exit code {ran.returncode}") if ran.returncode else None


def _memory() -> int:
    """Bytes of the machine's memory; 0 where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _message(stderr: str) -> str:
    """What follows the last frame of a traceback, on one line."""
    [_, *lines] = stderr.rpartition("\n  File ")[2].splitlines() or [""]
    return " ".join(line.strip() for line in lines if not line.startswith("    "))
