"""`make architectures`: converts every subject and writes docs/reference/architectures.md.

What is done is kept in a file of JSON lines, so that a run that was stopped goes on. A subject
has a process, a time and a memory of its own: one that hangs or dies is a row of the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.architectures import page
from benchmarks.architectures.subjects import all_subjects

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 1200


def main() -> None:
    """Convert what is asked for; exit 1 where fewer than 95 % pass."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.architectures", description=__doc__)
    parser.add_argument("--only", help="subjects with this in their name; no page")
    parser.add_argument("--done", type=Path, default=ROOT / "data" / "architectures.jsonl")
    parser.add_argument("--again", action="store_true", help="forget what is done")
    arguments = parser.parse_args()
    done = {} if arguments.again else _read(arguments.done)
    for name in all_subjects():
        if (arguments.only or "") in name and name not in done:
            done[name] = run(name)
            print(json.dumps(done[name]), flush=True)
            arguments.done.parent.mkdir(parents=True, exist_ok=True)
            with arguments.done.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(done[name]) + "\n")
    rows = [done[name] for name in all_subjects() if name in done]
    passed = sum("error" not in row for row in rows)
    print(f"{passed} of {len(rows)} convert")
    if not arguments.only:
        page.write(rows, ROOT / "docs" / "reference" / "architectures.md")
    sys.exit(passed < 0.95 * len(rows))


def run(name: str) -> dict[str, Any]:
    """The row of a subject, made in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.architectures.work", name]
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=ROOT, check=False
        )
    except subprocess.TimeoutExpired:
        return {"name": name, "error": f"not done after {TIMEOUT_S} s"}
    if ran.returncode:
        said = ran.stderr.strip().splitlines()[-1:] or ["nothing"]
        return {"name": name, "error": f"the process ended with {ran.returncode}: {said[0]}"}
    row: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return row


def _read(file: Path) -> dict[str, dict[str, Any]]:
    if not file.exists():
        return {}
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {row["name"]: row for row in rows}


if __name__ == "__main__":
    main()
