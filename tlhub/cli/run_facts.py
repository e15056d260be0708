"""What a run says of itself, as people and programs read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlhub.cli import figures

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


def score(run: Run) -> str:
    """What it is judged by, with its interval, `92.1% (84.6-96.1)`; a dash where unknown."""
    found = run.score
    if found is None:
        return "-"
    measure = "" if found.measure == "accuracy" else f" {found.measure}"
    low, high = found.interval
    if _is_share(run):
        return f"{found.value:.1%} ({100 * low:.1f}-{100 * high:.1f}){measure}"
    return f"{found.value:.3f} ({low:.3f} to {high:.3f}){measure}"


def baseline(run: Run) -> str:
    """The best of what it was measured against, `53.9% random weights`."""
    found = run.baseline
    return f"{_figure(run, found[1])} {found[0].replace('_', ' ')}" if found else "-"


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
    """How much better a run is than the first, and whether that can be told."""
    unit = " points" if _is_share(run) else ""

    def shown(value: float) -> str:
        return f"{100 * value:+.1f}" if _is_share(run) else f"{value:+.3f}"

    start = f"{run.path.name} against {first.path.name}: {shown(found.value)}{unit}"
    if found.interval is None:
        if found.same:
            return f"{start} on the same {found.examples:,} held out: read the intervals"
        shared = f"only {found.examples:,}" if found.examples else "none"
        return f"{start}; they held out different examples, {shared} in common: read the intervals"
    low, high = found.interval
    sure = "" if low > 0 or high < 0 else ": no sure difference"
    same = f"on the same {found.examples:,} held out"
    return f"{start} {same} (95 % interval {shown(low)} to {shown(high)}){sure}"


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
        "score (95 %)": score(run),
        **_other_baselines(run),
        "strategy": run.strategy or "-",
        "network left": _share(metrics.get("share")),
        "framing": str(metrics.get("framing", "-")),
        "trained through": str(metrics.get("tuning", "-")),
        "calibration error": _share(trusted.get("held_out_error")),
        "seed": str(run.facts.get("seed", "-")),
        "time": seconds(run),
        "size": figures.megabytes(run.size_bytes),
        "date": when(run),
        "tlhub": manifest.tools.get("tlhub", "-"),
        "command": command or "-",
    }


def _other_baselines(run: Run) -> dict[str, str]:
    from finetuning.evaluation import BASELINES

    known = run.metrics.get("baselines") or {}
    return {
        name: _figure(run, value) if isinstance(value := known.get(key), float) else "-"
        for key, name in BASELINES.items()
    }


def _is_share(run: Run) -> bool:
    return run.metrics.get("kind") != "regression"


def _figure(run: Run, value: float) -> str:
    return figures.score(value, run.metrics.get("kind"))


def _share(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, int | float) else "-"
