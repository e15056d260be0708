"""`tlhub finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from converters.folder import ModelFolder


def finetune(
    model: options.Model,
    *,
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="Labelled images or texts: class folders, a table, an archive, ..."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder to write.")],
    seed: Annotated[int, typer.Option("--seed", help="Of the split and of every draw.")] = 0,
    test_fraction: Annotated[
        float,
        typer.Option("--test-fraction", help="Share held out, if DATA has no `test` folder."),
    ] = 0.25,
    budget: Annotated[
        str,
        typer.Option(
            "--budget", help="Time to train: `fast` (a head alone), `auto`, or such as `10m`."
        ),
    ] = "auto",
    unfreeze: Annotated[
        str,
        typer.Option(
            "--unfreeze",
            help="What of the network is trained: `auto`, `none`, `all`, the last N layers, or "
            "all above a LAYER.",
        ),
    ] = "auto",
    image_column: options.ImageColumn = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumns = None,
    group_column: options.GroupColumn = None,
    split: options.SplitFile = None,
    device: options.Device = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Replace the run folder if it exists.")
    ] = False,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Put a new head on a pretrained model for your own labelled images, and measure it."""
    import sys

    from finetuning.data.options import Options
    from tlhub import api
    from tlhub.settings import Settings

    labels = tuple(label_column or ())
    chosen = Options(image_column, text_column, labels, group_column, split=split)
    settings = Settings.load(offline=offline or None)
    with output.progress(progress, quiet=quiet) as report:
        run = api.finetune(
            model,
            data,
            out,
            options=chosen,
            seed=seed,
            test_fraction=test_fraction,
            budget=budget,
            unfreeze=unfreeze,
            device=device,
            force=force,
            command=["tlhub", *sys.argv[1:]],
            settings=settings,
            progress=report,
        )
    if json:
        output.emit(
            {
                "path": str(run.path),
                "onnx": str(run.onnx),
                "metrics": _facts(run)["metrics"],
                "seconds": _facts(run)["seconds"],
            }
        )
    elif quiet:
        output.line(str(run.path))
    else:
        _print(run)


def _facts(run: ModelFolder) -> Mapping[str, Any]:
    """What the manifest says of the run: data, seed, command, seconds and metrics."""
    return run.manifest.run or {}


def _print(run: ModelFolder) -> None:
    from rich.table import Table

    from finetuning.evaluation import BASELINES

    metrics = _facts(run)["metrics"]
    table = Table(box=None, pad_edge=False)
    table.add_column("held-out accuracy", style="bold")
    table.add_column("", justify="right")
    table.add_column("")
    low, high = metrics["interval"]
    table.add_row(
        "this model", f"{metrics['accuracy']:.1%}", f"95 % interval {low:.1%} to {high:.1%}"
    )
    for key, name in BASELINES.items():
        accuracy = metrics["baselines"].get(key)
        if accuracy is not None:
            table.add_row(name, f"{accuracy:.1%}", "")
    output.show(table)
    gain = metrics["gain"]
    if gain["value"] <= 0:
        output.line(f"transfer does not help here: {BASELINES[gain['over']]} does as well")
    elif gain["interval"][0] <= 0:
        output.line(f"it is not certain that transfer helps over: {BASELINES[gain['over']]}")
    left = "" if metrics["share"] == 1 else f", {metrics['share']:.0%} of the network is left"
    output.line(f"{metrics['head']} on {' + '.join(metrics['stages'])}{left}")
    output.line(metrics["tuning"])
    if metrics["abstention"] and metrics["abstention"]["threshold"] is not None:
        found = metrics["abstention"]
        output.line(
            f"for {found['risk']:.0%} errors, trust what has a probability of "
            f"{found['threshold']:.2f} or more: {found['held_out_coverage']:.0%} of what was "
            "held out"
        )
    what = "texts" if run.manifest.record.modality == "text" else "images"
    output.line(
        f"{metrics['n_train']} {what} to learn from, {metrics['n_test']} held out, "
        f"{_facts(run)['seconds']:.0f} s"
    )
    output.line(f"report: {run.path / 'report.html'}")
    output.line(str(run.path))
