"""What a record says, as named lines that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlhub.cli.figures import count, megabytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.record import Evaluation, ModelRecord

_LANGUAGES = 12  # how many are named


def lines(record: ModelRecord) -> Iterator[tuple[str, str]]:
    """Name and value of every line; an empty name goes on with the one before.

    What is unknown has no line.
    """
    yield "uid", record.uid
    if record.description:
        yield "", record.description
    yield from _model(record)
    yield from _training(record)
    for i, item in enumerate(record.evals):
        source = f" {item.source_url}" if item.source_url else ""
        yield "" if i else "evaluation", f"{_metric(item)}: {_value(item)}{source}"
    yield from _license(record)
    yield from _files(record)
    yield from _origins(record)
    for said in record.provenance:
        where = f", {said.path}" if said.path else ""
        how = ", derived" if said.derived else ""
        yield "provenance", f"{', '.join(said.fields)}: {said.source}{where}{how}"


def facts(record: ModelRecord) -> dict[str, str]:
    """The lines that one compares, one value a name: each metric is a name of its own."""
    found = dict([*_model(record), *_training(record)])
    for item in record.evals:
        earlier = found.get(_metric(item), "").splitlines()
        found[_metric(item)] = "\n".join(dict.fromkeys([*earlier, _value(item)]))
    found |= dict(_license(record))
    formats = list(dict.fromkeys(file.format for file in record.artifacts))
    if formats:
        size = megabytes(record.size_bytes)
        found["files"] = ", ".join(formats) + (f", {size}" if size else "")
    return found | dict(_origins(record))


def _model(record: ModelRecord) -> Iterator[tuple[str, str]]:
    if record.task:
        yield "task", record.task
    if record.architecture:
        by = f" ({record.framework})" if record.framework else ""
        yield "architecture", f"{record.architecture}{by}"
    if record.input_size:
        layout = {3: " (channels x height x width)", 1: " tokens"}.get(len(record.input_size), "")
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
    if record.embed_dim:
        yield "embedding", f"{record.embed_dim:,} numbers"
    if record.languages:
        more = len(record.languages) - _LANGUAGES
        rest = f" and {more} more" if more > 0 else ""
        yield "languages", ", ".join(record.languages[:_LANGUAGES]) + rest


def _training(record: ModelRecord) -> Iterator[tuple[str, str]]:
    if record.base_model:
        relation = f" ({record.relation})" if record.relation else ""
        yield "made from", f"{record.base_model}{relation}"
    if record.source_datasets:
        yield "trained on", ", ".join(f"{d.id} ({d.role})" for d in record.source_datasets)
    if record.num_classes:
        names = f" ({record.label_set})" if record.label_set else ""
        yield "classes", f"{record.num_classes:,}{names}"


def _license(record: ModelRecord) -> Iterator[tuple[str, str]]:
    if record.license:
        said = record.license
        name = said.spdx or said.raw or "unknown"
        yield "license", f"{name} (of the {said.scope}; commercial use: {said.commercial})"
    project = record.project_license
    if project and not (record.license and record.license.scope == "project"):
        yield "project license", f"{project.spdx or project.raw} (says nothing of the weights)"


def _files(record: ModelRecord) -> Iterator[tuple[str, str]]:
    for file in record.artifacts:
        size = f", {megabytes(file.size_bytes)}" if file.size_bytes else ""
        size = size or (f", about {megabytes(file.about_bytes)}" if file.about_bytes else "")
        yield "file", f"{file.path} ({file.format}{size})"
        if file.digest:
            more = "..." if file.digest.prefix else ""
            yield "", f"{file.digest.algorithm} {file.digest.value}{more}"
        for url in file.urls:
            yield "", url


def _origins(record: ModelRecord) -> Iterator[tuple[str, str]]:
    if record.also:
        yield "same weights", ", ".join(record.also)
    if record.paper_ids:
        yield "papers", ", ".join(f"arXiv:{p}" for p in record.paper_ids)
    if record.origin_url:
        yield "origin", record.origin_url


def _times(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))


def _triple(values: tuple[float, ...]) -> str:
    return " ".join(f"{v:.4g}" for v in values)


def _metric(item: Evaluation) -> str:
    how = f", {item.config}" if item.config else ""
    return f"{item.metric_type} on {item.dataset}{how}"


def _value(item: Evaluation) -> str:
    text = f"{item.value:g}{' ' + item.unit if item.unit else ''}"
    text += f" ({item.split + ', ' if item.split else ''}{item.verified}"
    if item.eval_input_size:
        text += f" at {_times(item.eval_input_size)}"
    return text + ")"
