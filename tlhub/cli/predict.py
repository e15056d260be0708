"""`tlhub predict`."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode


def predict(
    model: options.Model,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Photos: JPEG, PNG, WebP, ...; - is stdin."),
    ],
    *,
    top: Annotated[int, typer.Option("--top", min=1, help="How many labels for each.")] = 5,
    device: options.Device = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=1024, help="Threads of ONNX Runtime.")
    ] = None,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Classify photos with a model: the labels and their probabilities, by ONNX Runtime."""
    from tlhub import api
    from tlhub.settings import Settings

    settings = Settings.load(offline=offline or None)
    with output.progress(progress, quiet=quiet) as report, _files(images) as files:
        runner = api.load(model, device=device, threads=threads, settings=settings, progress=report)
        answers = runner.predict(files, top=top)
    if json:
        output.emit(
            [
                {
                    "input": str(image),
                    "predictions": [{"label": p.label, "score": p.score} for p in answer],
                }
                for image, answer in zip(images, answers, strict=True)
            ]
        )
    elif quiet:
        for answer in answers:
            output.line(answer[0].label)
    else:
        for image, answer in zip(images, answers, strict=True):
            output.line(str(image))
            for p in answer:
                output.line(f"  {p.score:6.1%}  {p.label}")


@contextlib.contextmanager
def _files(images: list[Path]) -> Iterator[list[Path]]:
    """The images as files; `-` is what comes in by standard input."""
    with tempfile.TemporaryDirectory(prefix="tlhub-") as folder:
        stdin = Path(folder) / "standard-input"
        if Path("-") in images:
            stdin.write_bytes(sys.stdin.buffer.read())
        yield [stdin if image == Path("-") else image for image in images]
