"""`tlhub verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tlhub.cli import options, output
from tlhub.cli.output import ProgressMode

if TYPE_CHECKING:
    from rich.text import Text

    from tlhub.settings import Settings
    from tlhub.verification import File, Report

_MOST_REMARKS = 20  # on one file
_STYLES = {
    "clean": "green",
    "unsafe": "bold red",
    "damaged": "bold red",
    "trust": "yellow",
    "code": "yellow",
    "unknown": "dim",
}


def verify(
    target: Annotated[
        str, typer.Argument(metavar="PATH|UID", help="A folder, a file, or a model that is here.")
    ],
    *,
    parity: Annotated[
        bool,
        typer.Option("--parity", help="Compare the ONNX graph again with what it is of."),
    ] = False,
    progress: options.ShowProgress = ProgressMode.auto,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Hash and scan what is here, without loading it, and say what is wrong with it."""
    from catalog.errors import IntegrityError
    from tlhub import verification
    from tlhub.settings import Settings

    settings = Settings.load()
    with output.progress(progress, quiet=quiet) as sink:
        report = verification.verify(target, settings, parity=parity, progress=sink)
    if json:
        output.emit(verification.document(report, settings))
    elif quiet:
        for file in report.wrong:
            output.line(str(file.path))
    else:
        _print(report, settings)
    if report.wrong or report.parity_error is not None:
        raise IntegrityError(_summary(report), hint=_next(report))


def _print(report: Report, settings: Settings) -> None:
    from rich.table import Table
    from rich.text import Text

    from tlhub import gate
    from tlhub.cli.figures import megabytes

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold")
    table.add_column("format")
    table.add_column("size", justify="right")
    table.add_column("sha256")
    table.add_column("digest")
    table.add_column("scan")
    for file in report.files:
        verdict = file.scan.verdict
        table.add_row(
            Text(_name(file, report)),
            file.scan.format,
            megabytes(file.size_bytes),
            (file.sha256 or "-")[:12],
            Text(file.digest, style="bold red" if file.digest in {"wrong", "missing"} else ""),
            Text(verdict, style=_STYLES[verdict]),
        )
    output.show(table)
    for file in report.files:
        for line in _remarks(file, _name(file, report)):
            output.show(line)
    if report.record is not None:
        output.line()
        license_ = report.record.license
        stated = "unknown"
        if license_ is not None:
            stated = (
                f"{license_.spdx or license_.raw} (scope: {license_.scope}, commercial use: "
                f"{license_.commercial})"
            )
        output.show(
            Text(f"license  {stated}; by your settings: {gate.verdict(report.record, settings)}")
        )
    if report.max_rel_diff is not None:
        output.line(f"parity   max_rel_diff {report.max_rel_diff:.2e}")


def _remarks(file: File, name: str) -> list[Text]:
    from rich.text import Text

    said = []
    if file.digest == "wrong" and file.expected is not None:
        said.append(f"should have {file.expected.algorithm} {file.expected.value}")
    said += [finding.what for finding in file.scan.findings[:_MOST_REMARKS]]
    if len(file.scan.findings) > _MOST_REMARKS:
        said.append(f"and {len(file.scan.findings) - _MOST_REMARKS} more: see --json")
    return [Text(f"  {name}: {what}") for what in said]


def _name(file: File, report: Report) -> str:
    """The path of the file, from the target on where it is a folder."""
    start = f"{report.target.rstrip('/')}/"
    return str(file.path).removeprefix(start)


def _summary(report: Report) -> str:
    if not report.wrong:
        return f"{report.target}: parity: {report.parity_error}"
    file = report.wrong[0]
    what = "is not there" if file.digest == "missing" else "has not the bytes it should have"
    if file.digest not in {"wrong", "missing"}:
        grave = [f.what for f in file.scan.findings if f.verdict == file.scan.verdict]
        what = grave[0]
    more = f", and {len(report.wrong) - 1} more" if len(report.wrong) > 1 else ""
    return f"{file.path}: {what}{more}"


def _next(report: Report) -> str:
    if any(file.scan.verdict in {"unsafe", "trust"} for file in report.wrong):
        return "do not load it elsewhere either; docs/reference/safety.md says what a scan can see"
    return "fetch or make it again: `tlhub pull MODEL --force`"
