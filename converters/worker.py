"""Runs a graph in a process of its own: ``python -P worker.py MODEL INPUTS.npz OUTPUTS.npz``.

It imports NumPy and ONNX Runtime and nothing else, as whoever gets the file would: what the
converting process has in memory, patched or registered cannot help the graph along. `INPUTS`
holds batches of images by name; `OUTPUTS` gets every output of each, as ``<batch>/<output>``.
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
    with np.load(inputs, allow_pickle=False) as batches:
        for batch in batches.files:
            arrays = session.run(names, {session.get_inputs()[0].name: batches[batch]})
            results |= {f"{batch}/{name}": a for name, a in zip(names, arrays, strict=True)}
    np.savez(outputs, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
