"""`tlhub pull`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from converters.folder import ModelFolder


def pull(
    model: options.Model,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Convert again even if it is here already.")
    ] = False,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Fetch a model's weights, verify them, convert them to ONNX and prove it computes the same."""
    from tlhub import api
    from tlhub.settings import Settings

    settings = Settings.load(offline=offline or None)
    with output.progress(progress, quiet=quiet) as report:
        folder = api.pull(model, force=force, settings=settings, progress=report)
    if json:
        output.emit(_document(folder))
    elif quiet:
        output.line(str(folder.path))
    else:
        _print(folder)


def _document(folder: ModelFolder) -> dict[str, Any]:
    import msgspec

    manifest = folder.manifest
    return {
        "uid": manifest.uid,
        "path": str(folder.path),
        "onnx": str(folder.onnx),
        "parity": msgspec.to_builtins(manifest.parity),
        "evidence": msgspec.to_builtins(manifest.evidence),
        "files": msgspec.to_builtins(manifest.files),
        "tools": msgspec.to_builtins(manifest.tools),
    }


def _print(folder: ModelFolder) -> None:
    from rich.table import Table

    from tlhub.api import weights_of
    from tlhub.cli.figures import megabytes

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    manifest = folder.manifest
    if manifest.kind == "model":
        weights = weights_of(manifest.record)
        if weights.digest is not None:
            digest = f"{weights.digest.algorithm} {weights.digest.value}"
            table.add_row("weights", f"{weights.path}  {digest}, as recorded")
    drifts = {
        name: figures["drift"]
        for name, figures in (manifest.evidence or {}).get("architectures", {}).items()
    }
    for name, drift in sorted(drifts.items(), key=lambda item: float(item[1])):
        chosen = name == manifest.record.architecture
        table.add_row(
            "architecture" if chosen else "",
            f"{name if chosen else f'not {name}'} (batch-norm drift on photos {drift:.3f})",
        )
    for name, entry in manifest.files.items():
        table.add_row(name, f"{megabytes(entry.size_bytes)}  sha256 {entry.sha256}")
    if manifest.parity is not None:
        p = manifest.parity
        batches = f" on batches of {', '.join(map(str, p.batch_sizes))}" if p.batch_sizes else ""
        table.add_row(
            "parity",
            f"max relative difference {p.max_rel_diff:.1e} against {p.reference}{batches}; "
            f"the same top-1 on {p.top1_agreement:.0%} of {p.photos} photos",
        )
    output.show(table)
    output.line(str(folder.path))
