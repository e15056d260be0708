"""Start-up of `tlhub --help` and `tlhub search` beside `hf --help`: whole processes, one run.

Reproduce: `make benchmark`. Commands take turns, so that a busy moment of the machine meets all
of them; medians are reported, with the ratio to `hf --help`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(sys.executable).parent
COMMANDS = {
    "hf --help": [HERE / "hf", "--help"],
    "tlhub --help": [HERE / "tlhub", "--help"],
    "tlhub search mobile": [HERE / "tlhub", "search", "mobile", "--sort", "top1"],
}


def main() -> None:
    """Time every command and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(rounds + 1):  # the first turn fills caches and builds the index
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if turn:
                seconds[name].append(time.perf_counter() - began)
    base = statistics.median(seconds["hf --help"])
    print(f"{'command':<22} {'median ms':>9} {'min':>6} {'max':>6} {'/ hf --help':>12}")
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        print(
            f"{name:<22} {middle * 1e3:9.0f} {min(taken) * 1e3:6.0f} {max(taken) * 1e3:6.0f} "
            f"{middle / base:12.2f}"
        )


if __name__ == "__main__":
    main()
