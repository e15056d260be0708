"""Keras models as files: what their configuration would build and run, read as the JSON it is.

Keras's own safe mode was got round more than once (CVE-2025-1550, -8747, -9905, -9906, -12058,
-12060), by what its own modules can be made to call. So only layers and their like are let by.
"""

from __future__ import annotations

import json
import mmap
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog import members
from catalog.errors import UnsafeError
from converters.scan import Finding, Scan

_MOST_CONFIG_BYTES = 64 << 20
_PACKAGES = {"keras", "tf_keras", "keras_hub", "keras_nlp", "keras_cv"}
_PARTS = {
    "layers",
    "models",
    "activations",
    "initializers",
    "regularizers",
    "constraints",
    "optimizers",
    "losses",
    "metrics",
    "dtype_policies",
    "tokenizers",
    "samplers",
    "engine",
}
_FACADES = {"src", "api", "legacy"}
# Layers of Keras that run what the file brings, or read other files.
_RUN = {
    "Lambda": "runs code of its own",
    "__lambda__": "is code",
    "TorchModuleWrapper": "unpickles a module of torch",
    "TFSMLayer": "runs a TensorFlow graph from another folder",
}
_MEMBER = re.compile(r"(config|metadata)\.json|model\.weights\.(h5|json)|assets/.*|_layer_.*")
_H5_LAMBDA = re.compile(rb'"class_name": ?"(Lambda|__lambda__|TorchModuleWrapper|TFSMLayer)"')


def is_archive(names: list[str]) -> bool:
    """Are these the members of a `.keras` file? Keras builds its layers without weights, too."""
    return "config.json" in names and any(
        name == "metadata.json" or name.startswith("model.weights.") for name in names
    )


def scan_archive(file: Path, archive: zipfile.ZipFile) -> Scan:
    """A `.keras` file."""
    found: list[Finding] = []
    try:
        members.check(map(members.Member.of_zip, archive.infolist()), "it", file.stat().st_size)
        found += [
            Finding("unsafe", f"holds {name}, which no model of Keras needs")
            for name in archive.namelist()
            if not name.endswith("/") and not _MEMBER.fullmatch(name)
        ]
        with archive.open("config.json") as stream:
            found += config_findings(stream.read(_MOST_CONFIG_BYTES))
    except UnsafeError as error:
        found.append(Finding("unsafe", error.message.removeprefix("it ")))
    except Exception as error:  # zipfile and its decompressors raise anything
        found.append(Finding("damaged", str(error) or type(error).__name__))
    return Scan("keras", tuple(found))


def scan_h5(file: Path) -> Scan:
    """An HDF5 file: weights, or a whole model of Keras with its configuration inside.

    Without h5py its bytes are searched, which finds a layer by name but proves nothing.
    """
    try:
        import h5py  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return Scan("hdf5", tuple(_search(file)))
    found: list[Finding] = []
    try:
        with h5py.File(file, "r") as content:
            config = content.attrs.get("model_config")
            if config is not None:
                found += config_findings(config)
            found += _outside(h5py, content)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        found.append(Finding("damaged", f"is no whole HDF5 file: {error}"))
    return Scan("hdf5", tuple(found))


def _outside(h5py: Any, content: Any) -> Iterator[Finding]:
    """Links and data that lie in other files."""
    todo, seen = [content], set()
    while todo:
        group = todo.pop()
        if group.id.__hash__() in seen:
            continue
        seen.add(group.id.__hash__())
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield Finding("unsafe", f"takes {name} from another file, {link.filename}")
                continue
            item = group.get(name)
            if isinstance(item, h5py.Group):
                todo.append(item)
            elif isinstance(item, h5py.Dataset) and item.external:
                yield Finding("unsafe", f"takes {name} from another file, {item.external[0][0]}")
            elif isinstance(item, h5py.Dataset) and item.is_virtual:
                yield Finding("unsafe", f"puts {name} together from other files")


def _search(file: Path) -> Iterator[Finding]:
    with (
        file.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        kinds = sorted({match[1].decode() for match in _H5_LAMBDA.finditer(content)})
    for kind in kinds:
        yield Finding("unsafe", f"has a layer {kind}, which {_RUN[kind]}")
    yield Finding("unknown", "its bytes were searched only: `pip install h5py` to have it read")


def config_findings(text: bytes | str) -> Iterator[Finding]:
    """What a model's configuration asks for beyond layers of Keras, each thing once."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield Finding("damaged", f"has a configuration that cannot be read: {error}")
        return
    said = set()
    todo: list[Any] = [config]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo += item
        elif isinstance(item, dict):
            todo += item.values()
            for what in _faults(item):
                if what not in said:
                    said.add(what)
                    yield Finding("unsafe", what)


def _faults(item: dict[str, Any]) -> Iterator[str]:
    kind, module = item.get("class_name"), item.get("module")
    if not isinstance(kind, str):
        return
    if kind in _RUN:
        yield f"has a layer {kind}, which {_RUN[kind]}"
    if isinstance(module, str) and not _known(module):
        yield f"takes {kind} from the module {module}"
    registered = item.get("registered_name")
    if isinstance(registered, str) and ">" in registered and not _known(registered.split(">")[0]):
        yield f"needs {registered}, which is no layer of Keras"
    inner = item.get("config")
    vocabulary = inner.get("vocabulary") if isinstance(inner, dict) else None
    if isinstance(vocabulary, str):
        yield f"reads the vocabulary of {kind} from a file, {vocabulary}"


def _known(module: str) -> bool:
    package, *rest = module.split(".")
    parts = [part for part in rest if part not in _FACADES]
    return package in _PACKAGES and (not parts or parts[0] in _PARTS)
