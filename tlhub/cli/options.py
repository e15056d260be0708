"""Options that several commands share, each with one meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tlhub.cli.output import ProgressMode

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print identifiers or paths alone.")]
Offline = Annotated[
    bool, typer.Option("--offline", help="Use what is here, or end with exit code 5.")
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option("--device", help="auto, cpu or cuda.")
]
ShowProgress = Annotated[
    ProgressMode, typer.Option("--progress", help="Progress on stderr: bars on a terminal, JSON.")
]

Copy = Annotated[
    Path | None, typer.Option("--out", "-o", help="A new folder for a copy, of real files.")
]
Again = Annotated[bool, typer.Option("--force", help="Make it again even if it is here already.")]
Trust = Annotated[bool, typer.Option("--trust", help="Read pickles that hold more than tensors.")]


ImageColumn = Annotated[
    str | None, typer.Option("--image-column", help="The column of a table with images or paths.")
]
TextColumn = Annotated[
    str | None, typer.Option("--text-column", help="The column of a table with texts.")
]
LabelColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--label-column", help="The column with labels or numbers; several times for several."
    ),
]
GroupColumn = Annotated[
    str | None,
    typer.Option("--group-column", help="Rows of one value, say a patient, stay on one side."),
]
SplitFile = Annotated[
    Path | None,
    typer.Option("--split", help="Who is held out: a split that was written, or a run's folder."),
]
InputSize = Annotated[
    int | None,
    typer.Option(
        "--input-size",
        metavar="PIXELS",
        help="The side of the square that the network sees, if not its own.",
        show_default=False,
    ),
]
Kind = Annotated[
    Literal["classification", "multi-label", "regression", "embedding"] | None,
    typer.Option(
        "--kind",
        help="What the labels are, if not as they look; `embedding` is for classes to come: what "
        "is learned is to tell them apart.",
    ),
]


def _complete(incomplete: str) -> list[str]:
    from tlhub import api

    return [record.uid for record in api.catalog() if record.uid.startswith(incomplete)]


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A uid of the catalog, a URI, a model or run folder, or an .onnx file.",
        autocompletion=_complete,
    ),
]
Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Uids, URIs (hf:owner/name@revision, https://...) or folders; - reads lines of them.",
        autocompletion=_complete,
    ),
]
AnyModels = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL",
        help="Uids, URIs (hf:owner/name@revision, https://...) or folders; - reads lines of them.",
        autocompletion=_complete,
    ),
]
Uid = Annotated[
    str,
    typer.Argument(metavar="UID", help="A uid of the catalog.", autocompletion=_complete),
]
Uids = Annotated[
    list[str],
    typer.Argument(metavar="UID...", help="Uids of the catalog.", autocompletion=_complete),
]
Compared = Annotated[
    list[str],
    typer.Argument(
        metavar="UID...",
        help="Uids of the catalog, or the folders of runs.",
        autocompletion=_complete,
    ),
]
