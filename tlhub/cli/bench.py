"""`tlhub bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converters.bench import Timing


def bench(
    models: options.Models,
    *,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            help="onnxruntime, onnxruntime-int8, ..., torch or torch-compiled; may be repeated.",
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option("--batch", min=1, help="How many inputs at once; may be repeated."),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option("--threads", min=1, max=1024, help="Threads; may be repeated."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="How long each is timed, in each round.")
    ] = 1.0,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Of how many the median is.")] = 3,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    json: options.Json = False,
) -> None:
    """Time models on this machine's CPU: latency, throughput, cold start and memory."""
    from tlhub import benching
    from tlhub.settings import Settings

    settings = Settings.load(offline=offline or None)
    with output.progress(progress) as report:
        found = benching.bench(
            models,
            engines=engine,
            batches=batch or (1, 8),
            threads=threads,
            seconds=seconds,
            rounds=rounds,
            settings=settings,
            progress=report,
        )
    if json:
        import msgspec

        output.emit({"machine": benching.machine(), "models": msgspec.to_builtins(found)})
    else:
        _show(found)


def _show(found: Mapping[str, Sequence[Timing]]) -> None:
    from rich.table import Table

    from tlhub.cli.figures import megabytes

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("model", "engine"):
        table.add_column(name)
    for name in ("batch", "threads", "ms", "p90", "per second", "start s", "memory"):
        table.add_column(name, justify="right")
    for uid, timings in found.items():
        for t in timings:
            table.add_row(
                uid,
                t.engine,
                str(t.batch),
                str(t.threads),
                f"{t.median_ms:.3g}",
                f"{t.p90_ms:.3g}",
                f"{t.per_second:.4g}",
                f"{t.cold_start_s:.2f}",
                megabytes(t.peak_rss_bytes),
            )
    output.show(table)
