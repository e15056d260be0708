"""What a run says of itself: its record, the metadata of its graph, and its manifest."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import packages_distributions, version
from typing import Any

import msgspec
import onnx

from catalog.record import Evaluation, ModelRecord, Provenance, SourceDataset
from converters.folder import ONNX, SCHEMA_VERSION, Layer, Manifest, ModelFolder, Parity
from converters.preprocess import description
from finetuning import graph
from finetuning.data.dataset import Dataset, printable
from finetuning.evaluation import Metrics
from finetuning.probe import Probe
from finetuning.results.kinds import AnyObjective

TASKS = {"image": "image-classification", "text": "text-classification"}
_EMBEDDINGS = {"image": "image-feature-extraction", "text": "sentence-similarity"}


def record_of(
    model: ModelFolder, uid: str, dataset: Dataset, objective: AnyObjective, found: Probe
) -> ModelRecord:
    """What is known of the new model before it is measured."""
    base = model.manifest.record
    name = printable(dataset.root.resolve().name)
    return msgspec.structs.replace(
        base,
        uid=uid,
        description=f"{model.manifest.uid} with a new head for {objective.described}",
        tags=(),
        origin_url=None,
        hf_hub_id=None,
        source_datasets=(*base.source_datasets, SourceDataset(id=name, role="finetune")),
        task=_task(objective, dataset),
        modality=dataset.modality,
        embed_dim=len(found.head.weight) if objective.kind == "embedding" else found.head.features,
        num_classes=len(dataset.classes) or None,
        labels=dataset.classes,
        label_set=None,
        params=None,  # the old head's are gone, and a record does not say how many they were
        gmacs=None,
        gmacs_at=None,
        preprocess=found.framing.preprocess,
        base_model=model.manifest.uid,
        relation="finetune",
        evals=(),
        artifacts=(),
        provenance=(
            Provenance(fields=("labels", "evals"), source=f"tlhub {version('tlhub')} finetune"),
        ),
    )


def _task(objective: AnyObjective, dataset: Dataset) -> str | None:
    """What the hubs call it; they have no name for numbers of images or texts."""
    if objective.kind == "regression":
        return None
    return (_EMBEDDINGS if objective.kind == "embedding" else TASKS)[dataset.modality]


def metadata(model: ModelFolder, record: ModelRecord, found: Probe) -> dict[str, str]:
    """What a stranger needs to know of the new graph, for its `metadata_props`."""
    facts = {
        "tlhub.schema_version": "1",
        "tlhub.uid": record.uid,
        "tlhub.base_model": model.manifest.uid,
        "tlhub.task": record.task or "regression",
        "tlhub.stages": json.dumps([stage.name for stage in found.cut.stages]),
        "tlhub.head": found.head.method,
        "tlhub.source": json.dumps({ONNX: model.manifest.files[ONNX].sha256}),
        "tlhub.version": version("tlhub"),
    }
    size = record.input_size
    if record.preprocess is not None and size is not None and len(size) == 3:
        facts["tlhub.preprocess"] = json.dumps(description(record.preprocess, (size[1], size[2])))
    return facts


def layers(model: ModelFolder, tuned: onnx.ModelProto) -> tuple[Layer, ...]:
    """The layers of the base that are still there."""
    made = graph.tensors_of(tuned)
    return tuple(layer for layer in model.manifest.layers if layer.name in made)


def manifest(
    request: str,
    record: ModelRecord,
    dataset: Dataset,
    metrics: Metrics,
    parity: Parity,
    layers: tuple[Layer, ...],
    made_of: Mapping[str, Any],
) -> Manifest:
    """All that a run keeps about itself, and the digests of its files later.

    ``made_of`` is what `finetuning.lineage.described` says.
    """
    measured = tuple(
        Evaluation(
            task_type=record.task or metrics.kind,
            dataset=record.source_datasets[-1].id,
            split="held-out",
            metric_type=name,
            value=value if metrics.kind == "regression" else 100 * value,
            unit=None if metrics.kind == "regression" else "%",
            higher_is_better=name not in {"mae", "rmse"},
            eval_input_size=record.input_size,
            verified="measured",
        )
        for name, value in metrics.figures().items()
    )
    summary: Mapping[str, Any] = {
        "data": {
            "folder": printable(str(dataset.root)),
            "kind": dataset.kind,
            "classes": len(dataset.classes),
            f"{dataset.modality}s": len(dataset.examples),
            "skipped": len(dataset.skipped),
        },
        "request": request,
        "seed": metrics.seed,
        "command": metrics.command,
        "seconds": round(sum(metrics.seconds.values()), 3),
        "metrics": {
            "kind": metrics.kind,
            "score": msgspec.to_builtins(metrics.score),
            "n_train": metrics.n_train,
            "n_test": metrics.n_test,
            "baselines": dict(metrics.baselines),
            "gain": msgspec.to_builtins(metrics.gain),
            "stages": metrics.stages,
            "share": metrics.share,
            "head": metrics.head,
            "framing": metrics.framing,
            "tuning": metrics.tuning.said,
            **metrics.summary(),
        },
        **made_of,
    }
    runtime = packages_distributions()["onnxruntime"][0]
    tools = ("tlhub", "onnx", runtime, "scikit-learn", "numpy", "pillow", "torch")
    return Manifest(
        schema_version=SCHEMA_VERSION,
        kind="run",
        uid=record.uid,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        record=msgspec.structs.replace(record, evals=measured),
        files={},
        tools={"python": sys.version.split()[0], **{name: version(name) for name in tools}},
        layers=layers,
        parity=parity,
        run=summary,
    )
