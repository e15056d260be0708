"""`finetune`: a pretrained model and a folder of labelled images to a model of these classes.

The recipe, from top to bottom: read the images; compute their features once, for each way a photo
can be framed; hold a part out; let the training part choose the framing and the strength of a
linear head; put backbone and head into one ONNX graph; measure that very file on the held-out
images, beside three baselines that say what transfer bought.
"""

from __future__ import annotations

import json
import math
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save

from catalog.errors import ConversionError, UsageError
from catalog.record import Evaluation, ModelRecord, Provenance, SourceDataset
from converters.folder import LABELS, ONNX, SCHEMA_VERSION, Manifest, ModelFolder, Parity
from converters.preprocess import description
from converters.session import Device
from finetuning import baselines, card, evaluation, graph, heads, report
from finetuning.data.dataset import Dataset, Example, printable
from finetuning.data.reading import read
from finetuning.data.splits import Split, split
from finetuning.evaluation import Metrics, SplitFiles, accuracy
from finetuning.features import Features, extract
from finetuning.framing import Framing, framings
from finetuning.heads import Labels, LinearHead

METRICS, HEAD = "metrics.json", "head.safetensors"

Progress = Callable[[str], None]


def finetune(
    model: ModelFolder,
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    test_fraction: float = 0.25,
    cache: Path,
    device: Device = "auto",
    replace: bool = False,
    command: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> ModelFolder:
    """The run folder at ``out``: ``model`` with a new head for the classes of ``data``.

    ``data`` is what `finetuning.data.reading` reads, ``cache`` where features are kept between
    runs, ``command`` what the user typed, for the record. After a failure, kill -9
    included, ``out`` is what it was before. On one machine and device the same data and seed give
    the same weights.

    Raises:
        DataError: the data cannot be used.
        UsageError: ``out`` is taken, or no place for a run; ``test_fraction`` makes no sense.
        ConversionError: ``model`` has no embedding to put a head on, or the exported file does
            not compute what was fitted.
        StorageError: ``out`` or ``cache`` cannot be written.
    """
    _check_place(model, data, out)

    def fill(folder: Path) -> Manifest:
        clock = _Clock(progress)
        uid = printable(f"run/{out.resolve().name}")
        ways = framings(model, device)

        with clock("reading", f"reading {data}"):
            dataset = _of_image_classes(read(data))
            split(dataset, seed=seed, test_fraction=test_fraction)  # fails early
        with clock("features", f"features of {len(dataset.examples)} images"):
            extractors = {way.name: way.extractor for way in ways}
            extractors["pixels"] = baselines.pixels()
            found = extract(dataset.examples, extractors, cache, progress)
            dataset = dataset.without(found.unreadable)
        sides = split(dataset, seed=seed, test_fraction=test_fraction)
        train, test = _Part.of(dataset, sides.train), _Part.of(dataset, sides.test)

        with clock("head", f"fitting a head on {len(train.photos)} images"):
            way, head, losses = _choose(ways, found, train, seed)
            x_train, x_test = found.of(way.name, train.photos), found.of(way.name, test.photos)
        record = _record(model, uid, dataset, way)
        record = msgspec.structs.replace(record, embed_dim=x_train.shape[1])
        with clock("baselines", "baselines: majority, pixels, random weights"):
            base_record = msgspec.structs.replace(model.manifest.record, preprocess=way.preprocess)
            beside, absent = _baselines(base_record, found, train, test, seed, cache)
        with clock("learning curve", "learning curve"):
            curve = evaluation.learning_curve(
                (x_train, train.labels), (x_test, test.labels), strength=head.strength, seed=seed
            )
        with clock("export", "exporting one ONNX file"):
            tuned = graph.with_head(way.network, head, _metadata(model, record))
            graph.save(tuned, folder / ONNX)
            _write_weights(model, head, dataset.classes, folder)
        with clock("evaluation", f"measuring it on {len(test.photos)} held-out images"):
            probabilities = evaluation.probabilities(
                folder / ONNX, test.photos, dataset.classes, device=device, progress=progress
            )
            parity = evaluation.parity(probabilities, head.logits(x_test))

        predicted = probabilities.argmax(axis=1)
        counts = evaluation.confusion(predicted, test.labels, len(dataset.classes))
        names = [photo.name for photo in test.photos]
        metrics = Metrics(
            schema_version=evaluation.SCHEMA_VERSION,
            accuracy=accuracy(predicted, test.labels),
            interval=evaluation.wilson(int(counts.trace()), len(test.photos)),
            n_train=len(train.photos),
            n_test=len(test.photos),
            baselines=beside,
            baselines_absent=absent,
            onnx_agreement=parity.top1_agreement or 0.0,
            classes=evaluation.by_class(counts, dataset.classes, train.labels),
            confusion=tuple(tuple(row) for row in counts.tolist()),
            mistakes=evaluation.mistakes(names, probabilities, test.labels, dataset.classes),
            learning_curve=curve,
            framing=way.name,
            framings=losses,
            head="logistic regression",
            strength=head.strength,
            strengths={f"{strength:g}": loss for strength, loss in head.evidence.items()},
            seed=seed,
            command=printable(shlex.join(command)),
            seconds=clock.seconds,
            features_extracted=found.extracted,
            split=_split_files(dataset, sides, test_fraction),
            skipped=dataset.skipped,
        )
        manifest = _manifest(record, dataset, metrics, parity)
        progress("writing the report")
        (folder / METRICS).write_bytes(msgspec.json.format(msgspec.json.encode(metrics)) + b"\n")
        report.write(folder / "report.html", out, manifest, metrics, dataset)
        card.write(folder / "README.md", manifest, metrics)
        return manifest

    return ModelFolder.create(out, fill, replace=replace)


class _Part:
    """One side of the split."""

    def __init__(self, photos: Sequence[Example]) -> None:
        self.photos = photos
        self.labels: Labels = np.array([photo.target for photo in photos], np.int64)

    @classmethod
    def of(cls, dataset: Dataset, indices: Sequence[int]) -> _Part:
        return cls([dataset.examples[n] for n in indices])


class _Clock:
    """Says each step and keeps its seconds."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def __call__(self, step: str, text: str) -> Iterator[None]:
        self._progress(text)
        start = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - start, 3)


def _check_place(model: ModelFolder, data: Path, out: Path) -> None:
    place, root, base = out.resolve(), data.resolve(), model.path.resolve()
    if place.is_relative_to(root) or root.is_relative_to(place):
        raise UsageError(
            f"the run {out} and the data {data} lie inside one another",
            hint="put the run elsewhere",
        )
    if base.is_relative_to(place):
        raise UsageError(f"the run {out} would replace the model it starts from")


def _of_image_classes(dataset: Dataset) -> Dataset:
    """The data, where this recipe can learn from them."""
    if (dataset.kind, dataset.modality) != ("classification", "image"):
        raise UsageError(
            f"{dataset.root} is data for {dataset.kind} of {dataset.modality}s, and only images "
            "with one class each can be learned from yet",
            hint="`tlhub data check` reads them all the same",
        )
    return dataset


def _choose(
    ways: Sequence[Framing], found: Features, train: _Part, seed: int
) -> tuple[Framing, LinearHead, dict[str, float | None]]:
    """The framing whose head does best on training images it was not fitted on."""
    fitted = [
        (way, heads.fit(found.of(way.name, train.photos), train.labels, seed=seed)) for way in ways
    ]
    # With too few images to choose by, it is the first: as the network was trained.
    best = min(fitted, key=lambda item: math.inf if item[1].loss is None else item[1].loss)
    return *best, {way.name: head.loss for way, head in fitted}


def _baselines(
    record: ModelRecord, found: Features, train: _Part, test: _Part, seed: int, cache: Path
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Accuracies on the same split, and why one is absent."""

    def measure(features: Features, name: str) -> float:
        head = heads.fit(features.of(name, train.photos), train.labels, seed=seed)
        return accuracy(head.predict(features.of(name, test.photos)), test.labels)

    beside: dict[str, float | None] = {
        "majority": baselines.majority(train.labels, test.labels),
        "pixels": measure(found, "pixels"),
        "random_weights": None,
    }
    name, photos = "random_weights", [*train.photos, *test.photos]
    try:
        random = extract(
            photos, {name: baselines.random_weights(record, seed)}, cache, lambda _: None
        )
    except ConversionError as error:
        return beside, {name: error.message}
    beside[name] = measure(random, name)
    return beside, {}


def _record(model: ModelFolder, uid: str, dataset: Dataset, way: Framing) -> ModelRecord:
    """What is known of the new model before it is measured."""
    base = model.manifest.record
    name = printable(dataset.root.resolve().name)
    return msgspec.structs.replace(
        base,
        uid=uid,
        description=f"{model.manifest.uid} with a new head for {len(dataset.classes)} classes",
        tags=(),
        origin_url=None,
        hf_hub_id=None,
        source_datasets=(*base.source_datasets, SourceDataset(id=name, role="finetune")),
        task="image-classification",
        modality="image",
        num_classes=len(dataset.classes),
        labels=dataset.classes,
        label_set=None,
        params=None,  # the old head's are gone, and a record does not say how many they were
        gmacs=None,
        gmacs_at=None,
        preprocess=way.preprocess,
        base_model=model.manifest.uid,
        relation="finetune",
        evals=(),
        artifacts=(),
        provenance=(
            Provenance(fields=("labels", "evals"), source=f"tlhub {version('tlhub')} finetune"),
        ),
    )


def _metadata(model: ModelFolder, record: ModelRecord) -> dict[str, str]:
    """What a stranger needs to know of the new graph, for its `metadata_props`."""
    facts = {
        "tlhub.schema_version": "1",
        "tlhub.uid": record.uid,
        "tlhub.base_model": model.manifest.uid,
        "tlhub.task": "image-classification",
        "tlhub.labels": json.dumps(record.labels, ensure_ascii=False),
        "tlhub.source": json.dumps({ONNX: model.manifest.files[ONNX].sha256}),
        "tlhub.version": version("tlhub"),
    }
    size = record.input_size
    if record.preprocess is not None and size is not None and len(size) == 3:
        facts["tlhub.preprocess"] = json.dumps(description(record.preprocess, (size[1], size[2])))
    return facts


def _write_weights(
    model: ModelFolder, head: LinearHead, classes: Sequence[str], folder: Path
) -> None:
    """The head, the labels, and the backbone's weights as they were."""
    tensors = {
        "weight": head.weight.astype(np.float32),
        "bias": head.bias.astype(np.float32),
    }
    (folder / HEAD).write_bytes(save(tensors))
    (folder / LABELS).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    for name in model.manifest.files:
        if name.endswith(".safetensors") and name != HEAD:
            shutil.copyfile(model.path / name, folder / name)


def _split_files(dataset: Dataset, sides: Split, test_fraction: float) -> SplitFiles:
    return SplitFiles(
        given=sides.given,
        test_fraction=None if sides.given else test_fraction,
        train=tuple(dataset.examples[n].name for n in sides.train),
        test=tuple(dataset.examples[n].name for n in sides.test),
    )


def _manifest(record: ModelRecord, dataset: Dataset, metrics: Metrics, parity: Parity) -> Manifest:
    measured = Evaluation(
        task_type="image-classification",
        dataset=record.source_datasets[-1].id,
        split="held-out",
        metric_type="accuracy",
        value=100 * metrics.accuracy,
        unit="%",
        eval_input_size=record.input_size,
        verified="measured",
    )
    summary: Mapping[str, Any] = {
        "data": {
            "folder": printable(str(dataset.root)),
            "classes": len(dataset.classes),
            "images": len(dataset.examples),
            "skipped": len(dataset.skipped),
        },
        "seed": metrics.seed,
        "command": metrics.command,
        "seconds": round(sum(metrics.seconds.values()), 3),
        "metrics": {
            "accuracy": metrics.accuracy,
            "interval": metrics.interval,
            "n_train": metrics.n_train,
            "n_test": metrics.n_test,
            "baselines": dict(metrics.baselines),
        },
    }
    runtime = packages_distributions()["onnxruntime"][0]
    tools = ("tlhub", "onnx", runtime, "scikit-learn", "numpy", "pillow", "torch")
    return Manifest(
        schema_version=SCHEMA_VERSION,
        kind="run",
        uid=record.uid,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        record=msgspec.structs.replace(record, evals=(measured,)),
        files={},
        tools={"python": sys.version.split()[0], **{name: version(name) for name in tools}},
        parity=parity,
        run=summary,
    )
