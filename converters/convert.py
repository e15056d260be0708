"""`convert`: a record and its files to a model folder whose ONNX graph is proven equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.record import ModelRecord
from converters.folder import (
    LABELS,
    ONNX,
    SCHEMA_VERSION,
    Manifest,
    ModelFolder,
    Options,
    sha256_of,
)
from converters.interface import BATCH_SIZES
from converters.labels import labels_of
from converters.registry import framework_of, load_backbone

if TYPE_CHECKING:
    from converters.backbone import Backbone

WEIGHTS = "model.safetensors"
_PLAIN = Options()


def convert(
    record: ModelRecord,
    files: Mapping[str, Path],
    out: Path,
    *,
    options: Options = _PLAIN,
    replace: bool = False,
    trust: bool = False,
    loaded: Backbone | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ModelFolder:
    """The model folder at ``out``, made of the record's ``files`` (by their names in the record).

    It holds the graph, the weights under the names of the record's architecture, and the labels.
    ``trust`` is that of `converters.weights.read`; ``loaded`` is what was loaded already.
    ``progress`` is told each step. After a failure
    ``out`` is what it was before.

    Raises:
        UnsafeError: reading the weights could run code.
        IntegrityError: the weights are corrupted.
        ConversionError: they do not fit the architecture, which may not take pictures of this
            size, cannot be exported, or the graph does not compute the same.
        UsageError: ``out`` exists and ``replace`` was not asked for, or there is no such layer.
        StorageError: ``out`` cannot be written.
    """

    def fill(folder: Path) -> Manifest:
        progress(f"loading the weights into {record.architecture} ({record.framework})")
        labels = labels_of(record)
        backbone = loaded or load_backbone(files, record, trust=trust)
        if options.side is not None:
            from converters.resizing import resized

            backbone = resized(backbone, options.side)

        from converters import export, fresh_process, parity

        layers = backbone.layers()
        backbone = backbone.asked(options.layers, preprocess=options.preprocess)
        progress(f"exporting to ONNX (opset {export.OPSET})")
        model = backbone.graph()
        source = {name: sha256_of(path) for name, path in files.items()}
        export.set_metadata(model, backbone, labels, layers, source, version("tlhub"))
        export.save(model, folder / ONNX)
        exporter = export.exporter_of(model)
        del model  # as large as the weights, which are copied next
        fresh_process.check(folder / ONNX)
        progress("writing the weights as safetensors")
        backbone.write_weights(folder / WEIGHTS)

        batches = ", ".join(map(str, BATCH_SIZES))
        progress(f"checking it against {backbone.reference} on batches of {batches}")
        figures = parity.check(folder / ONNX, backbone, folder)

        if labels:
            (folder / LABELS).write_text(
                "".join(f"{label}\n" for label in labels), encoding="utf-8"
            )
        for name, data in backbone.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        runtime = packages_distributions()["onnxruntime"]  # onnxruntime, onnxruntime-gpu or both
        tools = (*framework_of(record).LIBRARIES, "onnx", "onnxscript", *runtime, "tlhub")
        return Manifest(
            schema_version=SCHEMA_VERSION,
            kind="model",
            uid=record.uid,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            record=backbone.record,
            asked=record if backbone.record != record else None,
            options=options if options != _PLAIN else None,
            files={},
            tools={name: version(name) for name in tools},
            layers=layers,
            parity=figures,
            evidence=backbone.evidence,
            origin=backbone.origin,
            preprocess=backbone.front.description(),
            exporter=exporter,
        )

    return ModelFolder.create(out, fill, replace=replace)
