"""`make faults`: the table, the random rounds, and the page that shows them."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.faults import clients, report, rounds, rows


def main() -> None:
    """Run what was asked for; exit 1 where tlhub did not end as it has to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--at-once", type=int, default=2, help="clients at work")
    parser.add_argument("--row", help="only rows with this in their name, `-` for none; no page")
    parser.add_argument("--client", help="only clients with this in their name; no page")
    parser.add_argument("--round", type=int, help="only this round; no page")
    arguments = parser.parse_args()
    if shutil.which("aria2c") is None:
        sys.exit("aria2c is not installed")
    everything = rows.matrix(arguments.kills, arguments.seed)
    chosen = [row for row in everything if (arguments.row or "") in row.name]
    who = [c for c in clients.CLIENTS if (arguments.client or "") in c.name]
    cells = fill([] if arguments.row == "-" else chosen, who, arguments.at_once)
    one = arguments.round is not None
    numbers = [arguments.round] if one else range(arguments.rounds)
    tally = rounds.play(numbers, arguments.seed, at_once=arguments.at_once)
    print(tally)
    if not (arguments.row or arguments.client or one):
        report.write(cells, tally, arguments.seed)
    ours = {client.name for client in clients.OURS}
    bad = [row.name for (row, name), cell in cells.items() if name in ours and not cell.good]
    if bad or not tally.good:
        sys.exit(f"not as it has to be: {', '.join(bad) or 'the random rounds'}")


def fill(
    chosen: Sequence[rows.Row], who: Sequence[clients.Client], at_once: int
) -> dict[tuple[rows.Row, str], rows.Cell]:
    """The table, told as it fills."""
    cells = {}
    with ThreadPoolExecutor(at_once) as pool:
        jobs = {(row, c.name): pool.submit(rows.play, row, c) for row in chosen for c in who}
        for (row, name), job in jobs.items():
            cells[row, name] = job.result()
            print(f"{row.name} | {name} | {cells[row, name].text}", flush=True)
    return cells


if __name__ == "__main__":
    main()
