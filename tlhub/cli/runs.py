"""`tlhub runs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlhub.cli import options, output, run_facts
from tlhub.cli.figures import megabytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning.runs import Run


def runs(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="The folder that the runs are in.")
    ] = Path("runs"),
    *,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """List fine-tuning runs, the newest first; `tlhub compare A B` puts two side by side."""
    from finetuning.runs import listed

    found, broken = listed(folder)
    if json:
        skipped = [{"path": str(item.path), "reason": item.reason} for item in broken]
        output.emit({"runs": [run_facts.document(run) for run in found], "broken": skipped})
    elif quiet:
        for run in found:
            output.line(str(run.path))
    elif found:
        _print(found)
    else:
        output.note(f"there are no runs in {folder}")
    for item in broken if not json else ():
        output.note(f"skipped {item.path}: {item.reason}")


def _print(found: Sequence[Run]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, right in (
        *(("run", False), ("score (95 %)", True), ("best baseline", True), ("model", False)),
        *(("data", False), ("strategy", False), ("time", True), ("size", True), ("date", False)),
    ):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for run in found:
        cells = (
            *(run.path.name, run_facts.score(run), run_facts.baseline(run)),
            *(run.folder.manifest.record.base_model or "-", Path(run.data).name, run.strategy),
            *(run_facts.seconds(run), megabytes(run.size_bytes), run_facts.when(run)),
        )
        table.add_row(*(Text(output.shown(cell)) for cell in cells))
    output.show(table)
