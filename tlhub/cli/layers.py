"""`tlhub layers`."""

from __future__ import annotations

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode


def layers(
    model: options.Model,
    *,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """List the named layers of a model: shapes, parameters, multiply-accumulates."""
    from tlhub import api
    from tlhub.settings import Settings

    with output.progress(progress, quiet=quiet) as report:
        settings = Settings.load(offline=offline or None)
        found = api.layers(model, settings=settings, progress=report)
    if json:
        import msgspec

        output.emit(msgspec.to_builtins(found))
        return
    if quiet:
        for layer in found:
            output.line(layer.name)
        return
    from rich.table import Table

    from tlhub.cli.figures import count

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "type", "shape"):
        table.add_column(name)
    for name in ("params", "GMACs"):
        table.add_column(name, justify="right")
    for layer in found:
        shape = "x".join(map(str, layer.shape))
        table.add_row(layer.name, layer.type, shape, count(layer.params), f"{layer.gmacs:.3g}")
    output.show(table)
