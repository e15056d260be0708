"""What `tlhub pull` says of a model: what it would fetch, and what it made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlhub.cli import output

if TYPE_CHECKING:
    from catalog.record import License
    from converters.folder import ModelFolder
    from tlhub.pulling import Plan

_LISTED = 12  # files; of more, the largest


@dataclass(frozen=True)
class Result:
    """One model, for pipes, for programs and for people."""

    name: str
    document: dict[str, Any]
    show: Callable[[], None]


def pulled(folder: ModelFolder, plan: Plan | None, figures: Mapping[str, float]) -> Result:
    """What was pulled; ``plan`` is absent where the folder was named itself."""
    import msgspec

    manifest = folder.manifest
    original = manifest.kind == "original"
    document = {
        "uid": manifest.uid,
        "path": str(folder.path),
        "format": "original" if original else "onnx",
        "onnx": None if original else str(folder.onnx),
        "no_onnx": plan.no_onnx if plan is not None else None,
        "source": plan.place.url if plan is not None and plan.place is not None else None,
        "license": _license(manifest.record.license),
        "parity": msgspec.to_builtins(manifest.parity),
        "variants": msgspec.to_builtins(manifest.variants),
        "evidence": msgspec.to_builtins(manifest.evidence),
        "files": msgspec.to_builtins(manifest.files),
        "size_bytes": sum(entry.size_bytes for entry in manifest.files.values()),
        **figures,
        "tools": msgspec.to_builtins(manifest.tools),
    }
    return Result(str(folder.path), document, lambda: _show_pulled(folder, plan))


def planned(model: str, plan: Plan | None, here: Mapping[str, Path]) -> Result:
    """What would be fetched, but for what is ``here``; a folder needs nothing."""
    import msgspec

    if plan is None:
        nothing: dict[str, Any] = {
            "uid": model,
            "format": None,
            "files": [],
            "size_bytes": 0,
            "missing_bytes": 0,
        }
        return Result(model, nothing, lambda: output.line(f"{model} is here already"))
    missing = [a.size_bytes for a in plan.artifacts if a.path not in here]
    document = {
        "uid": plan.record.uid,
        "format": plan.format,
        "no_onnx": plan.no_onnx,
        "source": plan.place.url if plan.place is not None else None,
        "license": _license(plan.record.license),
        "gated": any(artifact.status == "gated" for artifact in plan.artifacts),
        "files": [
            {
                "path": artifact.path,
                "size_bytes": artifact.size_bytes,
                "digest": msgspec.to_builtins(artifact.digest),
                "here": artifact.path in here,
            }
            for artifact in plan.artifacts
        ],
        "size_bytes": plan.size_bytes,
        "missing_bytes": None if None in missing else sum(size or 0 for size in missing),
    }
    return Result(plan.record.uid, document, lambda: _show_planned(document))


def _license(license_: License | None) -> str | None:
    return (license_.spdx or license_.raw) if license_ is not None else None


def _show_planned(document: Mapping[str, Any]) -> None:
    from rich.table import Table

    from tlhub.cli.figures import megabytes

    output.line(document["uid"])
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    table.add_column()
    for file in _largest(document["files"], lambda file: file["size_bytes"] or 0):
        size = megabytes(file["size_bytes"]) or "size unknown"
        table.add_row(file["path"], size, "is here" if file["here"] else "")
    output.show(table)
    others = len(document["files"]) - _LISTED
    if others > 0:
        output.line(f"  and {others} smaller files")
    if document["no_onnx"]:
        output.line(f"  stays as it is: {document['no_onnx']}")
    if document["gated"]:
        output.line("  gated: accept its terms on its page, then `hf auth login`")
    output.line(f"  license: {document['license'] or 'unknown'}")
    known = document["missing_bytes"]
    total = "an unknown number of bytes" if known is None else megabytes(known) or "0 B"
    of = megabytes(document["size_bytes"])
    output.line(f"  to fetch: {total}{f' of {of}' if of else ''}")


def _largest(files: Iterable[Any], size: Callable[[Any], int]) -> list[Any]:
    """At most so many as one wants to read, in the order they came."""
    numbered = list(enumerate(files))
    kept = sorted(numbered, key=lambda item: size(item[1]), reverse=True)[:_LISTED]
    return [file for _, file in sorted(kept, key=lambda item: item[0])]


def _show_pulled(folder: ModelFolder, plan: Plan | None) -> None:
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
    for name, entry in _largest(manifest.files.items(), lambda item: item[1].size_bytes):
        table.add_row(name, f"{megabytes(entry.size_bytes)}  sha256 {entry.sha256}")
    others = len(manifest.files) - _LISTED
    if others > 0:
        total = sum(entry.size_bytes for entry in manifest.files.values())
        table.add_row("", f"and {others} smaller files; {megabytes(total)} in all")
    if manifest.parity is not None:
        p = manifest.parity
        batches = f" on batches of {', '.join(map(str, p.batch_sizes))}" if p.batch_sizes else ""
        ranks = ""
        if p.top1_agreement is not None:
            what = f"{p.photos} photos" if p.photos else f"{p.samples} samples"
            ranks = f"; the same top-1 on {p.top1_agreement:.0%} of {what}"
        table.add_row(
            "parity",
            f"max relative difference {p.max_rel_diff:.1e} against {p.reference}{batches}{ranks}",
        )
    if plan is not None and plan.no_onnx is not None:
        table.add_row("no ONNX", plan.no_onnx)
    output.show(table)
    output.line(str(folder.path))
