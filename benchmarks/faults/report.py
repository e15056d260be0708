"""`docs/reference/faults.md`, from what was seen."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.faults import clients
from benchmarks.faults.rounds import Tally
from benchmarks.faults.rows import Cell, Row

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"

_PAGE = """\
# What becomes of a download when everything goes wrong

Written by `make faults ROUNDS={rounds} SEED={seed}`, not by hand: {date}, {versions}, Python
{python} on {system}.

Each row is a server on 127.0.0.1, or a machine, that misbehaves in one way while a file of 4 MB is
fetched. Each cell is what one command made of it, a whole process with its own defaults: how it
ended, after how many seconds, and how often the size of the file was sent. Where it did not end
with the right file, `then` is the next run, when nothing is wrong any more.

| what goes wrong | {names} |
|---|{dashes}|
{table}

`right`: exit 0 and the right bytes. `error`: a message, and no file that counts as done.
`traceback`: an error that shows as one of the program's own. **WRONG FILE**: other bytes under the
final name, and no mark beside it. **hangs**: killed after {hang:.0f} s. `left`: what is there
besides in the end.

aria2c runs with `-c` (go on), `--checksum` and, where there is a mirror, its URL too; `hf download`
knows no mirrors, so that the mirror is its hub. A token is given as each client takes it: in the
URL, as `HF_TOKEN`, as `--header`.

## At random

{random} rounds with the seed {seed} made {attempts} attempts to pull 1 to 3 files of 0 bytes to
5 MB, by URL or from a hub, with up to 4 faults on each file at once ({faults} faults in all), at
times two processes together, {kills} processes killed by SIGKILL; {errors} attempts ended with an
error. After each of them every file that counts as done was read. Wrong files: {wrong}. Rounds
that did not end with the right files once nothing was wrong: {failed}. Rounds that left parts
behind then: {remains}.

## To run it again

`make faults` needs Linux, aria2c and, for the rows with a small or read-only disk, root. `SEED`
chooses the moments of the kills and all of the random rounds, `ROUNDS` how many there are. One row
alone, or one round, without writing this page:

    python -m benchmarks.faults --row stalls --rounds 0
    python -m benchmarks.faults --row - --seed {seed} --round 17
"""


def write(cells: Mapping[tuple[Row, str], Cell], tally: Tally, seed: int) -> None:
    """Write the page."""
    names = [client.name for client in clients.CLIENTS]
    rows: Sequence[Row] = list(dict.fromkeys(row for row, _ in cells))
    lines = [
        f"| {row.name} | " + " | ".join(cells[row, name].text for name in names) + " |"
        for row in rows
    ]
    PAGE.write_text(
        _PAGE.format(
            rounds=tally.rounds,
            seed=seed,
            date=datetime.now(UTC).date().isoformat(),
            versions=", ".join(clients.versions()),
            python=platform.python_version(),
            system=platform.system(),
            names=" | ".join(f"`{name}`" for name in names),
            dashes="|".join("---" for _ in names),
            table="\n".join(lines),
            hang=clients.HANG_S,
            random=tally.rounds,
            attempts=tally.attempts,
            faults=tally.faults,
            kills=tally.kills,
            errors=tally.errors,
            wrong=len(tally.wrong),
            failed=len(tally.failed),
            remains=len(tally.remains),
        ),
        encoding="utf-8",
    )
