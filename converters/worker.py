"""Runs a graph in a process of its own.

``python -P worker.py MODEL INPUTS.npz OUTPUTS.npz [MODE [MEMORY [OUTPUT...]]]``

It imports NumPy and ONNX Runtime and nothing else, as whoever gets the file would: what the
converting process has in memory, patched or registered cannot help the graph along. `INPUTS`
holds what the graph is given, as ``<batch>/<input>``; `OUTPUTS` gets every output of each batch, or
those named, as ``<batch>/<output>``. MODE `try` leaves out batches that fail, but for all of them;
`shapes` writes the shapes of the outputs instead. MEMORY is a limit in bytes.
"""

import sys
from typing import Any

import numpy as np
import onnxruntime


def main(
    model: str, inputs: str, outputs: str, mode: str = "", memory: str = "0", *names: str
) -> None:
    """Run every batch through the model on the CPU."""
    _limit(int(memory))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    wanted = list(names) or [output.name for output in session.get_outputs()]
    results: dict[str, Any] = {}
    batches: dict[str, dict[str, Any]] = {}
    with np.load(inputs, allow_pickle=False) as given:
        for key in given.files:
            batch, _, name = key.partition("/")
            batches.setdefault(batch, {})[name] = key
        for batch, keys in batches.items():
            try:
                found = session.run(wanted, {name: given[key] for name, key in keys.items()})
            except Exception:
                if mode != "try" or (batch == list(batches)[-1] and not results):
                    raise
                continue
            arrays = [_array(value) for value in found]
            if mode == "shapes":
                arrays = [np.array(array.shape, np.int64) for array in arrays]
            results |= {f"{batch}/{name}": a for name, a in zip(wanted, arrays, strict=True)}
    np.savez(outputs, **results)


def _array(value: Any) -> Any:
    """An output as an array that can be written: text, and the maps of classifiers, too."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = [[row[key] for key in sorted(row)] for row in value]
    array = np.asarray(value)
    return array.astype(str) if array.dtype == object else array


def _limit(memory: int) -> None:
    if memory:
        import resource

        allowed = resource.getrlimit(resource.RLIMIT_AS)[1]
        if allowed != resource.RLIM_INFINITY:
            memory = min(memory, allowed)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


if __name__ == "__main__":
    main(*sys.argv[1:])
