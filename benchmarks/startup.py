"""Start-up of `tlhub --help` and `tlhub search` beside two peers: whole processes, one run.

Reproduce: `make benchmark`. The peers are `hf --help` and a bare program of Typer and Rich that
prints one table as large as that of the search. Commands take turns, so that a busy moment of the
machine meets all of them; medians are reported, with the ratios to both peers.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(sys.executable).parent
BARE = """
import typer
app = typer.Typer()

@app.command()
def show(rows: int = 20) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "task", "input", "params", "GMACs", "top-1", "license")
    for row in range(rows):
        table.add_row(f"model {row}", "classification", "224x224", "25.6M", "4.1", "80.1", "MIT")
    Console().print(table)

app()
"""
COMMANDS = {
    "hf --help": [HERE / "hf", "--help"],
    "bare Typer and Rich": [sys.executable, "-c", BARE],
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
    peers = [statistics.median(seconds[name]) for name in ("hf --help", "bare Typer and Rich")]
    print(
        f"{'command':<22} {'median ms':>9} {'min':>6} {'max':>6} {'/ hf --help':>12} {'/ bare':>8}"
    )
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        print(
            f"{name:<22} {middle * 1e3:9.0f} {min(taken) * 1e3:6.0f} {max(taken) * 1e3:6.0f} "
            f"{middle / peers[0]:12.2f} {middle / peers[1]:8.2f}"
        )


if __name__ == "__main__":
    main()
