"""`tlhub convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode


def convert(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A uid, a URI, or a file or folder of weights that is here."
        ),
    ],
    *,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", help="A layer that is an output too; may be repeated."),
    ] = None,
    no_preprocess: Annotated[
        bool, typer.Option("--no-preprocess", help="A graph that takes the network's own tensors.")
    ] = False,
    input_size: options.InputSize = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            help="fp16, int8 or int8-dynamic beside fp32; may be repeated, or a,b.",
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option("--calibrate", help="A folder of photos, or a file of sentences, for int8."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Labelled photos to measure the loss on: one folder a class."),
    ] = None,
    out: options.Copy = None,
    force: options.Again = False,
    trust: options.Trust = False,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Convert weights to an ONNX graph that provably computes the same."""
    from tlhub import api
    from tlhub.cli.precisions import listed, show
    from tlhub.cli.pulled import pulled
    from tlhub.settings import Settings

    with output.progress(progress, quiet=quiet) as report:
        folder = api.convert(
            model,
            layers=layer or (),
            preprocess=not no_preprocess,
            input_size=input_size,
            precisions=listed(precision or ()),
            calibrate=calibrate,
            data=data,
            out=out,
            force=force,
            trust=trust,
            settings=Settings.load(offline=offline or None),
            progress=report,
        )
    result = pulled(folder, None, {})
    if json:
        output.emit(result.document)
    elif quiet:
        output.line(result.name)
    else:
        result.show()
        show(folder)
