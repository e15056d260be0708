"""`tlhub show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlhub.cli import options, output
from tlhub.cli.figures import count, megabytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.record import Evaluation, ModelRecord


def show(model: options.Model, *, quiet: options.Quiet = False, json: options.Json = False) -> None:
    """Show all that is known about one model, and who said it."""
    from tlhub import api

    record = api.record(model)
    if json:
        import msgspec

        output.emit(msgspec.to_builtins(record))
    elif quiet:
        output.line(record.uid)
    else:
        _print(record)


def _print(record: ModelRecord) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(record):
        table.add_row(name, Text(value))
    output.show(table)


def _rows(record: ModelRecord) -> Iterator[tuple[str, str]]:
    """Name and value of every line; what is unknown has none."""
    yield "uid", record.uid
    if record.description:
        yield "", record.description
    for group in (_model, _training, _license, _files, _origins):
        yield from group(record)
    yield "pull it", f"tlhub pull {record.uid}"


def _model(record: ModelRecord) -> Iterator[tuple[str, str]]:
    if record.task:
        yield "task", record.task
    if record.architecture:
        yield "architecture", f"{record.architecture} ({record.framework})"
    if record.input_size:
        layout = " (channels x height x width)" if len(record.input_size) == 3 else ""
        yield "input size", _times(record.input_size) + layout
    if record.preprocess:
        p = record.preprocess
        rule = f"crop {p.crop_pct:g}" if p.resize_mode == "shortest" else p.resize_mode
        yield (
            "preprocessing",
            f"{p.interpolation}, {rule}, mean {_triple(p.mean)}, std {_triple(p.std)}",
        )
    if record.params:
        yield "params", f"{count(record.params)} ({record.params:,})"
    if record.gmacs:
        at = f" at {_times(record.gmacs_at)}" if record.gmacs_at else ""
        yield "MACs", f"{record.gmacs:.3g} G{at}"


def _training(record: ModelRecord) -> Iterator[tuple[str, str]]:
    if record.source_datasets:
        yield "trained on", ", ".join(f"{d.id} ({d.role})" for d in record.source_datasets)
    if record.num_classes:
        names = f" ({record.label_set})" if record.label_set else ""
        yield "classes", f"{record.num_classes:,}{names}"
    for item in record.evals:
        yield "accuracy", _evaluation(item)


def _license(record: ModelRecord) -> Iterator[tuple[str, str]]:
    if record.license:
        said = record.license
        name = said.spdx or said.raw or "unknown"
        yield "license", f"{name} (of the {said.scope}; commercial use: {said.commercial})"


def _files(record: ModelRecord) -> Iterator[tuple[str, str]]:
    for file in record.artifacts:
        size = f", {megabytes(file.size_bytes)}" if file.size_bytes else ""
        yield "file", f"{file.path} ({file.format}{size})"
        if file.digest:
            more = "..." if file.digest.prefix else ""
            yield "", f"{file.digest.algorithm} {file.digest.value}{more}"
        for url in file.urls:
            yield "", url


def _origins(record: ModelRecord) -> Iterator[tuple[str, str]]:
    if record.paper_ids:
        yield "papers", ", ".join(f"arXiv:{p}" for p in record.paper_ids)
    if record.origin_url:
        yield "origin", record.origin_url
    for item in record.provenance:
        where = f", {item.path}" if item.path else ""
        how = ", derived" if item.derived else ""
        yield "provenance", f"{', '.join(item.fields)}: {item.source}{where}{how}"


def _times(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))


def _triple(values: tuple[float, ...]) -> str:
    return " ".join(f"{v:.4g}" for v in values)


def _evaluation(item: Evaluation) -> str:
    text = f"{item.metric_type} {item.value:g}{' ' + item.unit if item.unit else ''}"
    text += f" on {item.dataset}{' ' + item.split if item.split else ''} ({item.verified}"
    if item.eval_input_size:
        text += f" at {_times(item.eval_input_size)}"
    return text + ")" + (f" {item.source_url}" if item.source_url else "")
