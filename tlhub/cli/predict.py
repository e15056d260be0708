"""`tlhub predict`."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from catalog.errors import UsageError
from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from converters.runtime import OnnxModel, Prediction


def predict(
    model: options.Model,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Photos (JPEG, PNG, WebP, ...), or texts; - is a photo, or a text a line, from "
            "standard input.",
        ),
    ],
    *,
    query: Annotated[
        str | None,
        typer.Option("--query", help="A text that each INPUT is rated for, by models of pairs."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many labels for each.")] = 5,
    precision: Annotated[
        str, typer.Option("--precision", help="One that `tlhub convert --precision` makes.")
    ] = "fp32",
    device: options.Device = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=1024, help="Threads of ONNX Runtime.")
    ] = None,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Classify photos or texts with a model: the labels and their probabilities."""
    from converters.interface import PROBABILITIES
    from tlhub import api
    from tlhub.settings import Settings

    settings = Settings.load(offline=offline or None)
    with output.progress(progress, quiet=quiet) as report:
        runner = api.load(
            model,
            precision=precision,
            device=device,
            threads=threads,
            settings=settings,
            progress=report,
        )
        names, answers = _answers(runner, inputs, query, top)
    if json:
        output.emit(
            [
                {
                    "input": name,
                    "predictions": [{"label": p.label, "score": p.score} for p in answer],
                }
                for name, answer in zip(names, answers, strict=True)
            ]
        )
    elif quiet:
        for answer in answers:
            output.line(answer[0].label)
    else:
        for name, answer in zip(names, answers, strict=True):
            output.line(name)
            for p in answer:
                score = f"{p.score:6.1%}" if runner.scores == PROBABILITIES else f"{p.score:7.3f}"
                output.line(f"  {score}  {p.label}")


def _answers(
    runner: OnnxModel[Any], inputs: Sequence[str], query: str | None, top: int
) -> tuple[list[str], list[list[Prediction]]]:
    """What was classified, as it is shown, and the answers."""
    from converters.text_model import TextModel

    if isinstance(runner, TextModel):
        texts = list(_texts(inputs))
        pairs = texts if query is None else [(query, text) for text in texts]
        return texts, runner.predict(pairs, top=top)
    if query is not None:
        raise UsageError(f"{runner.uid} is of photos: there is no --query for them")
    with _files(inputs) as files:
        return list(inputs), runner.predict(files, top=top)


def _texts(inputs: Sequence[str]) -> Iterator[str]:
    """The texts; `-` stands for the lines of standard input."""
    for text in inputs:
        if text == "-":
            sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
            yield from (line.rstrip("\r\n") for line in sys.stdin)
        else:
            yield text


@contextlib.contextmanager
def _files(images: Sequence[str]) -> Iterator[list[Path]]:
    """The images as files; `-` is what comes in by standard input."""
    with tempfile.TemporaryDirectory(prefix="tlhub-") as folder:
        stdin = Path(folder) / "standard-input"
        if "-" in images:
            stdin.write_bytes(sys.stdin.buffer.read())
        yield [stdin if image == "-" else Path(image) for image in images]
