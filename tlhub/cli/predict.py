"""`tlhub predict`."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from catalog.errors import UsageError
from converters.interface import PROBABILITIES
from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from converters.runtime import OnnxModel


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
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            min=1,
            help="How many labels for each (5, or all that hold), or things (100).",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option("--min-score", min=0, max=1, help="Of things that are found (0.5)."),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            "--gallery",
            help="Labelled examples, of any form that finetune reads: each INPUT is told by the "
            "nearest of them.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A .png for the class of each pixel, of a segmentation model."),
    ] = None,
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
    """Classify photos or texts, tell numbers of them, or find what is in photos and where."""
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
        options = _options(runner, inputs, top, min_score, out)
        names, answers = _answers(runner, inputs, query, gallery, options)
    if out is not None:
        answers[0].save(out)
    if json:
        output.emit(
            [
                {"input": name, "predictions": _document(answer)}
                for name, answer in zip(names, answers, strict=True)
            ]
        )
        return
    for name, answer in zip(names, answers, strict=True):
        lines = list(_lines(answer))
        if quiet:
            for line in lines if runner.thresholds and top is None else lines[:1]:
                output.line(f"{line.value:g}" if _is_number(line) else line.label)
            continue
        output.line(name)
        if not lines and runner.thresholds:
            output.line("  none of the labels reaches its threshold; --top 3 shows the likeliest")
        elif not lines:
            output.line(f"  nothing with a score of at least {options['min_score']:g}")
        for line in lines:
            is_share = gallery is None and runner.scores == PROBABILITIES
            output.line(f"  {_shown(line, is_share=is_share)}")
        least = runner.same_class_from
        if lines and least is not None and lines[0].score < least:
            output.line(f"  below {least:.2f}: probably none of them")


def _shown(line: Any, *, is_share: bool) -> str:
    """A label with its score, a thing with its place, or a number with its name."""
    if _is_number(line):
        return f"{line.name} = {line.value:.5g}"
    where = f"  {' '.join(f'{side:.0f}' for side in line.box)}" if _is_thing(line) else ""
    score = f"{line.score:6.1%}" if is_share else f"{line.score:7.3f}"
    return f"{score}  {line.label}{where}"


def _options(
    runner: OnnxModel[Any, Any],
    inputs: Sequence[str],
    top: int | None,
    min_score: float | None,
    out: Path | None,
) -> dict[str, Any]:
    """What `predict` of this kind of model is told besides.

    Raises:
        UsageError: it was asked for what the model does not give.
    """
    from converters.detection_model import MIN_SCORE, DetectionModel
    from converters.segmentation_model import SegmentationModel

    finds = isinstance(runner, DetectionModel)
    if min_score is not None and not finds:
        raise UsageError(f"{runner.uid} finds no things: --min-score is for detection models")
    if out is not None and not isinstance(runner, SegmentationModel):
        raise UsageError(f"{runner.uid} has no class map: --out is for segmentation models")
    if out is not None and (len(inputs) != 1 or out.suffix.lower() != ".png"):
        raise UsageError("--out is for the class map of one photo", hint="--out map.png")
    given: dict[str, Any] = {} if top is None else {"top": top}
    return {**given, "min_score": MIN_SCORE if min_score is None else min_score} if finds else given


def _answers(
    runner: OnnxModel[Any, Any],
    inputs: Sequence[str],
    query: str | None,
    gallery: Path | None,
    options: Mapping[str, Any],
) -> tuple[list[str], list[Any]]:
    """What was looked at, as it is shown, and the answers."""
    from converters.text_model import TextModel

    predict = runner.predict
    if gallery is not None:
        from finetuning.gallery import Gallery

        predict = Gallery.of(runner, gallery).predict
    if isinstance(runner, TextModel):
        texts = list(_texts(inputs))
        pairs = texts if query is None else [(query, text) for text in texts]
        return texts, predict(pairs, **options)
    if query is not None:
        raise UsageError(f"{runner.uid} is of photos: there is no --query for them")
    with _files(inputs) as files:
        return list(inputs), predict(files, **options)


def _lines(answer: Any) -> list[Any]:
    """The labels, or things, of an answer of any kind."""
    return list(answer.shares) if hasattr(answer, "shares") else list(answer)


def _is_number(line: Any) -> bool:
    return hasattr(line, "value")


def _is_thing(line: Any) -> bool:
    return hasattr(line, "box")


def _document(answer: Any) -> list[dict[str, Any]]:
    """An answer as `--json` prints it; a mask by how many pixels it has."""
    found: list[dict[str, Any]] = []
    for line in _lines(answer):
        if _is_number(line):
            found.append({"name": line.name, "value": line.value})
            continue
        item = {"label": line.label, "score": line.score}
        if _is_thing(line):
            item["box"] = list(line.box)
            if line.mask is not None:
                item["mask_pixels"] = int(line.mask.sum())
            if line.keypoints is not None:
                item["keypoints"] = line.keypoints.tolist()
        found.append(item)
    return found


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
