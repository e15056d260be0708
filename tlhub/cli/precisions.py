"""The precisions of a model side by side: what each loses against fp32, its size and its speed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tlhub.cli import output

if TYPE_CHECKING:
    from converters.folder import ModelFolder


def listed(options: Iterable[str]) -> tuple[str, ...]:
    """What was asked for, each once: an option may be a list, `fp16,int8`."""
    names = (name.strip() for option in options for name in option.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def show(folder: ModelFolder) -> None:
    """The table, where the folder has more than fp32."""
    from rich.table import Table

    from tlhub.cli.figures import megabytes

    variants = folder.manifest.variants
    if not variants:
        return
    table = Table(box=None, pad_edge=False)
    for name in ("precision", "size", "ms", "speed", "same top-1", "error", "cosine", "accuracy"):
        table.add_column(name, justify="left" if name == "precision" else "right")
    table.add_column("layers in float", overflow="fold")
    first = next(iter(variants.values()))
    accuracy = _percent(first.fp32_accuracy)
    size = megabytes(first.fp32_size_bytes)
    table.add_row("fp32", size, f"{first.fp32_median_ms:.1f}", "1.00x", "", "", "", accuracy, "")
    for name, variant in variants.items():
        table.add_row(
            name if variant.verified else f"{name} (not verified)",
            megabytes(variant.size_bytes),
            f"{variant.median_ms:.1f}",
            f"{variant.fp32_median_ms / variant.median_ms:.2f}x",
            _percent(variant.top1_agreement),
            f"{variant.max_rel_diff:.1e}",
            "" if variant.cosine is None else f"{variant.cosine:.4f}",
            _percent(variant.accuracy),
            " ".join(variant.float_layers),
        )
    output.show(table)
    for what in dict.fromkeys(f"{v.samples} samples of {v.samples_of}" for v in variants.values()):
        output.line(f"measured on {what}; batch 1, one thread")
    if not all(variant.verified for variant in variants.values()):
        output.line("not verified: too few real inputs; give some: --calibrate DIR, --data DIR")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
