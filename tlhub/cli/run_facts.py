"""What a run says of itself, as people and programs read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlhub.cli.figures import megabytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning.runs import Difference, Run


def document(run: Run) -> dict[str, Any]:
    """What is known of a run, for `--json`."""
    manifest = run.folder.manifest
    return {
        "path": str(run.path),
        "model": manifest.record.base_model,
        "data": run.data,
        "created": run.created,
        "strategy": run.strategy,
        "metrics": dict(run.metrics),
        "seed": run.facts.get("seed"),
        "command": run.facts.get("command"),
        "seconds": run.facts.get("seconds"),
        "size_bytes": run.size_bytes,
    }


def accuracy(run: Run) -> str:
    """Held-out accuracy with its interval, `92.1% (84.6-96.1)`; a dash where unknown."""
    value, interval = run.metrics.get("accuracy"), run.metrics.get("interval")
    if not isinstance(value, float):
        return "-"
    return f"{value:.1%}" + (
        f" ({100 * interval[0]:.1f}-{100 * interval[1]:.1f})" if interval else ""
    )


def baseline(run: Run) -> str:
    """The best of what it was measured against, `53.9% random weights`."""
    found = run.baseline
    return f"{found[1]:.1%} {found[0].replace('_', ' ')}" if found else "-"


def seconds(run: Run) -> str:
    """How long it took, `19 s`."""
    value = run.facts.get("seconds")
    return f"{value:.0f} s" if isinstance(value, int | float) else "-"


def when(run: Run) -> str:
    """Its date and time, in UTC."""
    return run.created[:16].replace("T", " ")


def rows(runs: Sequence[Run]) -> list[tuple[str, list[str], bool]]:
    """Name, a value for each run (a dash where unknown) and whether they differ."""
    lines = [_lines(run) for run in runs]
    by_name = {name: [line[name] for line in lines] for name in lines[0]}
    return [
        (name, values, len(set(values)) > 1)
        for name, values in by_name.items()
        if set(values) != {"-"}
    ]


def said(run: Run, first: Run, found: Difference) -> str:
    """How much more accurate a run is than the first, and whether that can be told."""
    points = f"{run.path.name} is {100 * found.value:+.1f} points from {first.path.name}"
    if found.interval is None:
        shared = f"only {found.examples:,}" if found.examples else "none"
        return f"{points}; they held out different examples, {shared} in common: read the intervals"
    low, high = (100 * value for value in found.interval)
    sure = "" if low > 0 or high < 0 else ": no sure difference"
    same = f"on the same {found.examples:,} held out"
    return f"{points} {same} (95 % interval {low:+.1f} to {high:+.1f}){sure}"


def _lines(run: Run) -> dict[str, str]:
    metrics, manifest = run.metrics, run.folder.manifest
    trusted = metrics.get("calibration") or {}
    command = run.facts.get("command")
    return {
        "model": manifest.record.base_model or "-",
        "data": run.data or "-",
        "classes": str((run.facts.get("data") or {}).get("classes", "-")),
        "learned from": str(metrics.get("n_train", "-")),
        "held out": str(metrics.get("n_test", "-")),
        "accuracy (95 %)": accuracy(run),
        **_other_baselines(run),
        "strategy": run.strategy or "-",
        "network left": _share(metrics.get("share")),
        "framing": str(metrics.get("framing", "-")),
        "trained through": str(metrics.get("tuning", "-")),
        "calibration error": _share(trusted.get("held_out_error")),
        "seed": str(run.facts.get("seed", "-")),
        "time": seconds(run),
        "size": megabytes(run.size_bytes),
        "date": when(run),
        "tlhub": manifest.tools.get("tlhub", "-"),
        "command": command or "-",
    }


def _other_baselines(run: Run) -> dict[str, str]:
    from finetuning.evaluation import BASELINES

    known = run.metrics.get("baselines") or {}
    return {name: _share(known.get(key)) for key, name in BASELINES.items()}


def _share(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, int | float) else "-"
