"""`tlhub finetune`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlhub.cli import figures, options, output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from converters.folder import ModelFolder

_FIRST_S = 10.0


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
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of the split and of every draw.")
    ] = 0,
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
            help="What of the network is trained: `auto`, `none`, `all`, the last N layers, all "
            "above a LAYER, or of transformers `lora` (`lora:RANK`).",
        ),
    ] = "auto",
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch",
            help="Train the same network from random weights too: all that transfer bought.",
        ),
    ] = False,
    image_column: options.ImageColumn = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumns = None,
    group_column: options.GroupColumn = None,
    kind: options.Kind = None,
    balanced: Annotated[
        bool,
        typer.Option("--balanced", help="Let rare classes count as much as frequent ones."),
    ] = False,
    split: options.SplitFile = None,
    input_size: options.InputSize = None,
    device: options.Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with this run where it was interrupted.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace the run folder if it exists, or start it anew."),
    ] = False,
    devices: Annotated[
        int | None,
        typer.Option(
            "--devices", min=1, help="Processes on this machine, each with a GPU or CPU cores."
        ),
    ] = None,
    nodes: Annotated[
        int, typer.Option("--nodes", min=1, help="Machines that run this same command together.")
    ] = 1,
    rendezvous: Annotated[
        str | None,
        typer.Option("--rendezvous", help="Where they find each other: HOST:PORT of one of them."),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option("--tensorboard", help="Log the course of a training into this folder."),
    ] = None,
    offline: options.Offline = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Make a pretrained model tell what your own data are labelled with, and measure it.

    Labels are one class each, several that may hold, or numbers: what they are is seen.
    """
    import sys
    import time

    from catalog.errors import TlhubError
    from finetuning import ranks
    from finetuning.data.options import Options
    from finetuning.engine import HelpedError
    from tlhub import api
    from tlhub.settings import Settings

    labels = tuple(label_column or ())
    chosen = Options(image_column, text_column, labels, group_column, kind, split)
    settings = Settings.load(offline=offline or None)
    if not ranks.is_one() and ((devices or 1) > 1 or nodes > 1):
        code = api.launch(
            model,
            sys.argv[1:],
            devices=devices or 1,
            nodes=nodes,
            rendezvous=rendezvous,
            input_size=input_size,
            device=device,
            settings=settings,
        )
        raise typer.Exit(code)
    helps = ranks.is_helper()
    try:
        with output.progress(ProgressMode.none if helps else progress, quiet=quiet) as report:
            run = api.finetune(
                model,
                data,
                out,
                options=chosen,
                seed=seed,
                test_fraction=test_fraction,
                balanced=balanced,
                budget=budget,
                unfreeze=unfreeze,
                from_scratch=from_scratch,
                input_size=input_size,
                device=device,
                force=force,
                resume=resume,
                devices=devices,
                nodes=nodes,
                tensorboard=tensorboard,
                command=["tlhub", *sys.argv[1:]],
                settings=settings,
                progress=report,
            )
    except HelpedError:
        raise typer.Exit from None
    except TlhubError:
        if helps:
            time.sleep(_FIRST_S)  # where it is everybody's error, the first says it, and all end
        raise
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


def _figures(metrics: Mapping[str, Any]) -> Iterator[str]:
    """What there is to say of this kind of targets besides."""
    if metrics["kind"] == "multi-label":
        yield (
            f"macro F1 {metrics['macro_f1']:.1%}, micro F1 {metrics['micro_f1']:.1%} by thresholds "
            f"for each label; all labels right of {metrics['all_right']:.1%}"
        )
    if metrics["kind"] == "embedding":
        untouched = metrics["untouched"]
        own = "" if untouched is None else f"; the network's own embedding has {untouched:.1%}"
        yield f"mAP@R {metrics['mAP@R']:.1%}, of {metrics['new_classes']} new classes{own}"
        for item in metrics["shots"]:
            shown = f"shown {item['shots']} of each of {item['classes']} of the classes"
            yield f"{shown}, it names {item['accuracy']:.1%} of the others"
    for item in metrics.get("numbers", ()):
        low, high = item["mae_interval"]
        yield (
            f"{item['name']} is off by {item['mae']:.4g} on average (95 %: {low:.4g} to "
            f"{high:.4g}); RMSE {item['rmse']:.4g}, spread of the numbers {item['spread']:.4g}"
        )
        if item["margin"]:
            margin = item["margin"]
            yield (
                f"  it is off by {margin['margin']:.4g} or less in "
                f"{margin['held_out_share']:.0%} of what was held out"
            )
    if metrics.get("unequal") or metrics.get("balanced"):
        yield (
            f"accuracy {metrics['accuracy']:.1%}, balanced accuracy "
            f"{metrics['balanced_accuracy']:.1%}, macro F1 {metrics['macro_f1']:.1%}"
            + ("" if metrics["balanced"] else "; --balanced lets rare classes count as much")
        )


def _print(run: ModelFolder) -> None:
    from rich.table import Table

    from finetuning.evaluation import BASELINES

    metrics = _facts(run)["metrics"]
    score = metrics["score"]
    shown = partial(figures.score, kind=metrics["kind"])
    table = Table(box=None, pad_edge=False)
    table.add_column(f"held-out {score['measure']}", style="bold")
    table.add_column("", justify="right")
    table.add_column("")
    within = " to ".join(map(shown, score["interval"]))
    table.add_row("this model", shown(score["value"]), f"95 % interval {within}")
    for key, name in BASELINES.items():
        value = metrics["baselines"].get(key)
        if value is not None:
            table.add_row(name, shown(value), "")
    output.show(table)
    for line in _figures(metrics):
        output.line(line)
    gain = metrics["gain"]
    if gain["value"] <= 0:
        output.line(f"transfer does not help here: {BASELINES[gain['over']]} does as well")
    elif gain["interval"][0] <= 0:
        output.line(f"it is not certain that transfer helps over: {BASELINES[gain['over']]}")
    left = "" if metrics["share"] == 1 else f", {metrics['share']:.0%} of the network is left"
    output.line(f"{metrics['head']} on {' + '.join(metrics['stages'])}{left}")
    output.line(metrics["tuning"])
    found = metrics.get("abstention")
    if found and found["threshold"] is not None:
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
