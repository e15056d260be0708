"""Times a graph in a process of its own: ``python -P stopwatch.py``, told what by JSON on stdin.

It imports NumPy and ONNX Runtime and nothing else, so that the cold start and the memory are those
of whoever runs the file.
"""

import json
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Open the graph, run it over and over, print what it took."""
    order = json.load(sys.stdin)
    started = time.perf_counter()
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = order["threads"]
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        order["model"], options, providers=["CPUExecutionProvider"]
    )
    with np.load(order["inputs"], allow_pickle=False) as arrays:
        given = {name: arrays[name] for name in arrays.files}
    names = [output.name for output in session.get_outputs()]
    report(lambda: session.run(names, given), started, order["seconds"])


def report(run: Callable[[], Any], started: float, seconds: float) -> None:
    """Time ``run`` for so many seconds, at least three times, and print it as JSON."""
    before = time.perf_counter()
    run()
    first = time.perf_counter()
    taken: list[float] = []
    while len(taken) < 3 or time.perf_counter() - first < seconds:
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    taken.sort()
    print(  # noqa: T201 - what the process is for
        json.dumps(
            {
                "cold_start_s": first - started,
                "first_ms": (first - before) * 1e3,
                "median_ms": taken[len(taken) // 2] * 1e3,
                "p90_ms": taken[len(taken) * 9 // 10] * 1e3,
                "runs": len(taken),
                "peak_rss_bytes": _peak_rss_bytes(),
            }
        )
    )


def _peak_rss_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` there has the peak of the process that started this one too
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if peak:
            return int(peak[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
