"""The parity of a folder measured again: its graph against the weights, or the file, it is of."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from catalog.errors import UsageError
from catalog.record import ModelRecord
from converters.folder import ONNX, Manifest, ModelFolder, Parity, sha256_of
from converters.interface import IMAGE, PIXEL_VALUES
from hub_client import places
from hub_client.store import Store

if TYPE_CHECKING:
    import onnx

    from converters.backbone import Backbone

# Of these the folder has no weights that another could load: the reference is the file itself.
_OF_FILES = ("onnx", "scikit-learn")


def measure(path: Path, store: Store) -> Parity:
    """What `pull` measured when it made the folder at ``path``, now.

    Raises:
        ConversionError: it is not near enough, or cannot be run.
        UsageError: what the graph is to be compared with is not here.
    """
    import onnx

    from converters import parity
    from converters.registry import load_backbone

    folder = ModelFolder.open(path)
    manifest = folder.manifest
    if not folder.onnx.is_file():
        raise UsageError(f"{path} has no {ONNX}")
    backbone: Backbone
    if manifest.kind == "run":
        from finetuning.reference import reference

        backbone = reference(folder)
    else:
        graph = onnx.load(str(folder.onnx), load_external_data=False)
        backbone = load_backbone(_reference(folder, graph, store), manifest.record)
        layers, bare = _layers(manifest, graph), _is_bare(manifest, graph)
        backbone = backbone.asked(layers, preprocess=not bare)
    with tempfile.TemporaryDirectory(prefix="tlhub-") as work:
        return parity.check(folder.onnx, backbone, Path(work))


def _reference(folder: ModelFolder, graph: onnx.ModelProto, store: Store) -> Mapping[str, Path]:
    """The files that the folder's backbone is loaded of: its weights, or what it was made of."""
    from converters.convert import WEIGHTS

    record = folder.manifest.record
    whole = record.framework in _OF_FILES or (
        record.framework == "keras" and record.architecture is None
    )
    if WEIGHTS in folder.manifest.files and not whole:
        return folder.files
    stated = {p.key: p.value for p in graph.metadata_props}.get("tlhub.source", "{}")
    made_of = msgspec.json.decode(stated, type=dict[str, str])
    here: dict[str, Path] = {}
    for name, sha256 in made_of.items():
        for file in (store.blob(sha256), _listed(record, name, store)):
            if file is not None and file.is_file() and sha256_of(file) == sha256:
                here[name] = file
                break
        else:
            raise UsageError(
                f"{folder.path} was made of {name}, which is not here any more",
                hint=f"make it again with --force; the sha256 was {sha256}",
            )
    if not made_of:
        raise UsageError(f"{folder.path} does not say what it was made of: nothing to compare with")
    return here


def _listed(record: ModelRecord, name: str, store: Store) -> Path | None:
    """The artifact of a record by its name, where it is here."""
    return places.find([a for a in record.artifacts if a.path == name], store).get(name)


def _layers(manifest: Manifest, graph: onnx.ModelProto) -> tuple[str, ...]:
    """The layers that were asked for as outputs."""
    outputs = {item.name for item in graph.graph.output}
    return tuple(layer.name for layer in manifest.layers if layer.name in outputs)


def _is_bare(manifest: Manifest, graph: onnx.ModelProto) -> bool:
    """Whether the preprocessing was left out."""
    inputs = {item.name for item in graph.graph.input}
    return PIXEL_VALUES in inputs or (manifest.record.framework == "onnx" and IMAGE not in inputs)
