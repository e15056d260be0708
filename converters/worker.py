"""Runs a graph in a process of its own: ``python -P worker.py MODEL INPUTS.npz OUTPUTS.npz``.

It imports NumPy and ONNX Runtime and nothing else, as whoever gets the file would: what the
converting process has in memory, patched or registered cannot help the graph along. `INPUTS`
holds what the graph is given, as ``<batch>/<input>``; `OUTPUTS` gets every output of each batch, as
``<batch>/<output>``.
"""

import sys
from typing import Any

import numpy as np
import onnxruntime


def main(model: str, inputs: str, outputs: str) -> None:
    """Run every batch through the model on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results: dict[str, Any] = {}
    batches: dict[str, dict[str, Any]] = {}
    with np.load(inputs, allow_pickle=False) as given:
        for key in given.files:
            batch, _, name = key.partition("/")
            batches.setdefault(batch, {})[name] = key
        for batch, keys in batches.items():
            arrays = session.run(names, {name: given[key] for name, key in keys.items()})
            results |= {f"{batch}/{name}": a for name, a in zip(names, arrays, strict=True)}
    np.savez(outputs, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
