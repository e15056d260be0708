"""Files that are a whole model each, architecture and all: what of them a conversion takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec

from catalog.errors import TlhubError
from catalog.record import Artifact, ModelRecord
from hub_client import selection
from hub_client.sources.source import Place

_SUFFIXES = {".onnx": "onnx", ".keras": "keras", ".h5": "keras", ".skops": "scikit-learn"}
_DATA = (".data", ".onnx_data", ".bin", ".weights", "")  # of files that a graph keeps tensors in
_NAMED = 5


@dataclass(frozen=True)
class Whole:
    """A model in a file of its own."""

    record: ModelRecord  # with the framework that reads it
    needed: tuple[Artifact, ...]
    obstacle: str | None = None  # why it is not converted, as half a sentence


def whole(record: ModelRecord, chosen: Sequence[Artifact], place: Place | None) -> Whole | None:
    """What converting takes where the weights are whole models; None where they are not.

    ``chosen`` are the files that `hub_client.selection` would have; ``place`` is where they are.
    """
    from converters.registry import obstacle

    chosen = _with_local_data(chosen, place)
    models = [a for a in chosen if PurePosixPath(a.path).suffix.lower() in _SUFFIXES]
    others = [a for a in selection.weights_among(chosen) if a not in models]
    pickled = [a.path for a in chosen if a.path.lower().endswith(".joblib")]
    if pickled and not models and not others:
        reason = (
            f"{pickled[0]} is a pickle of joblib, and loading it runs what is in it: convert the "
            "estimator in Python (tlhub.convert), or save it by skops"
        )
        return Whole(record, tuple(chosen), reason)
    torch = any(a.format in {"safetensors", "pytorch"} for a in others)
    if not models or (torch and not all(_is_data_of(a, models) for a in others)):
        return None
    frameworks = {_SUFFIXES[PurePosixPath(a.path).suffix.lower()] for a in models}
    framework = next(iter(frameworks))
    known = record.framework if framework != "onnx" else None
    record = msgspec.structs.replace(record, framework=known or framework)
    if len(models) > 1:
        names = ", ".join(a.path for a in models[:_NAMED])
        more = ", ..." if len(models) > _NAMED else ""
        return Whole(
            record,
            tuple(models),
            f"it has {len(models)} models, of which one must be named: {names}{more}",
        )
    data = tuple(a for a in chosen if framework == "onnx" and _is_data_of(a, models))
    return Whole(record, (*models, *data), obstacle(record))


def _is_data_of(artifact: Artifact, models: Sequence[Artifact]) -> bool:
    """Whether a graph may keep tensors in it."""
    place = PurePosixPath(artifact.path)
    folders = {PurePosixPath(model.path).parent for model in models}
    return (
        artifact not in models
        and place.suffix.lower() in _DATA
        and any(place.is_relative_to(folder) for folder in folders)
    )


def _with_local_data(chosen: Sequence[Artifact], place: Place | None) -> tuple[Artifact, ...]:
    """The same with the files that a graph on this machine says it keeps tensors in.

    What lies there with the suffix of a pickle would be taken for the weights otherwise.
    """
    if place is None or urlsplit(place.url).scheme != "file":
        return tuple(chosen)
    from converters.graphs import locations

    root = Path(url2pathname(urlsplit(place.url).path))
    graphs = [a for a in place.artifacts if a.path.endswith(".onnx")]
    if len(graphs) != 1:
        return tuple(chosen)
    [graph] = graphs
    file = root / graph.path if root.is_dir() else root
    try:
        names = locations(file)
    except (TlhubError, OSError):
        return tuple(chosen)
    if not names:
        return tuple(chosen)
    base = PurePosixPath(graph.path).parent
    data = [
        Artifact(path=str(base / name), format="onnx", urls=((file.parent / name).as_uri(),))
        for name in names
        if (file.parent / name).is_file()
    ]
    paths = {graph.path, *(a.path for a in data)}
    weights = selection.weights_among(chosen)
    if any(a.format in {"safetensors", "pytorch"} and a.path not in paths for a in weights):
        return tuple(chosen)
    return (graph, *data, *(a for a in chosen if a.path not in paths and a not in weights))
