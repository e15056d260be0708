"""`finetune`: a pretrained model and a little labelled data to a model for these data.

The recipe, from top to bottom: read the data; hold a part out; let the rest choose how a photo is
framed, where the network is cut, and which head is put there (`finetuning.probe`); put backbone and
head into one ONNX graph; measure that very file on what was held out, beside baselines that say
what transfer bought.
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save

from catalog.errors import UsageError
from converters.convert import WEIGHTS
from converters.folder import LABELS, ONNX, Manifest, ModelFolder
from converters.interface import EMBEDDING, TOKENIZER
from converters.runtime import OnnxModel
from converters.session import Device
from finetuning import (
    baselines,
    card,
    described,
    evaluation,
    graph,
    lineage,
    probe,
    report,
    runs,
)
from finetuning.data.dataset import Dataset, printable
from finetuning.data.options import Options
from finetuning.data.preparing import prepare
from finetuning.data.splits import SPLIT, Split, places, split
from finetuning.data.splits import write as write_split
from finetuning.engine import Engine
from finetuning.evaluation import HeldOut, SplitFiles
from finetuning.features import Features, extract, key_of
from finetuning.interrupted import is_finished
from finetuning.nearest import of_worst
from finetuning.probe import Probe, Work
from finetuning.ranks import ALONE, Ranks
from finetuning.results.kinds import facts_of, metrics_of, objective_of
from finetuning.runs import METRICS
from finetuning.tuning import strategy
from finetuning.tuning.journal import Journal

Progress = Callable[[str], None]


def finetune(
    model: ModelFolder,
    data: Path,
    out: Path,
    *,
    options: Options | None = None,
    seed: int = 0,
    test_fraction: float = 0.25,
    cut: bool = True,
    balanced: bool = False,
    unfreeze: str = "auto",
    seconds: float | None = 0.0,
    from_scratch: bool = False,
    cache: Path,
    device: Device = "auto",
    replace: bool = False,
    resume: bool = False,
    ranks: Ranks = ALONE,
    tensorboard: Path | None = None,
    command: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> ModelFolder:
    """The run folder at ``out``: ``model`` with a new head for what ``data`` tell.

    ``data`` is what `finetuning.data.reading` reads as ``options`` say, ``cache`` where features
    are kept between runs, ``command`` what the user typed, for the record. After a failure, kill -9
    included, ``out`` is what it was before. On one machine and device the same data and seed give
    the same weights, where time does not end the training.

    ``balanced`` makes rare classes count as much as others.

    ``unfreeze`` says how much of the network may be trained (`finetuning.tuning.tune.tune`), and
    ``seconds`` for how long: 0 fits a head alone, None takes what the data are worth.
    ``from_scratch`` trains the network from random weights as well, for comparison. ``resume`` goes
    on with a training that was interrupted. The first of ``ranks`` makes the run, and the others
    help. ``tensorboard`` is where the course of a training is logged.

    Raises:
        HelpedError: this process is none but a helper, and has done its share.
        DataError: the data cannot be used.
        UsageError: ``out`` is taken, or no place for a run; ``test_fraction`` makes no sense.
        ConversionError: ``model`` has no embedding to put a head on, or the exported file does
            not compute what was fitted.
        StorageError: ``out`` or ``cache`` cannot be written.
    """
    _check_place(model, data, out)
    engine = Engine(ranks, Journal.beside(out, ranks), tensorboard, shlex.join(command))
    asked: tuple[object, ...] = (data.resolve(), options, seed, test_fraction, cut, balanced)
    asked += (unfreeze, seconds, from_scratch)
    request = key_of("request", model.manifest.files[ONNX].sha256, *map(repr, asked))
    if is_finished(out, request, engine.journal, resume=resume, replace=replace):
        progress(f"{out} is finished already")
        engine.part()
        return ModelFolder.open(out)

    def fill(folder: Path) -> Manifest:
        if not resume:
            engine.journal.forget()  # no sooner: another process may have been making this run
        clock = _Clock(progress)
        uid = printable(f"run/{out.resolve().name}")

        with clock("reading", f"reading {data}"):
            size = model.manifest.record.input_size
            dataset, findings = prepare(
                data, options, input_size=size[-1] if size else None, progress=progress
            )
            _check_modality(dataset, model)
            strategy.check(model, unfreeze)
            split(dataset, seed=seed, test_fraction=test_fraction)  # fails early
            plain = _plain_features(dataset, cache, progress, ranks)
            dataset = dataset.without(plain.unreadable)
            sides = split(dataset, seed=seed, test_fraction=test_fraction)
        objective = objective_of(dataset, balanced=balanced)
        work = Work(
            model, dataset, objective, sides, seed, cache, device, progress, cut=cut, engine=engine
        )
        train, test = work.train, work.test
        learned, truth = work.truth(train), work.truth(test)

        with clock("fitting", f"features of {len(train.examples)} {dataset.modality}s"):
            frozen = found = probe.fit(work)
        with clock("held out", f"features of {len(test.examples)} held out"):
            frozen.see(work, test.examples)  # before the training, at which others may leave
        with clock("training", "training the network"):
            found, tuning = strategy.improve(
                work, frozen, unfreeze="none" if seconds == 0 else unfreeze, seconds=seconds
            )
        work = replaced(work, engine=engine.part())
        known = dataset.examples if objective.kind == "embedding" else ()  # what is compared with
        if found is not frozen:
            with clock("held out", f"features of {len(test.examples)} held out, trained"):
                found.see(work, known or test.examples)
        if known:
            found = found.knowing(known, len(dataset.classes))
        record = described.record_of(model, uid, dataset, objective, found)
        with clock("baselines", "baselines: what is had without transfer"):
            beside, absent = baselines.beside(work, plain, found)
        if from_scratch:
            with clock("from scratch", "the same network from random weights"):
                baselines.add_from_scratch(work, found, seconds, beside, absent)
        with clock("learning curve", "learning curve"):
            curve, more = evaluation.learning_curve(
                (frozen.rows(train.examples), learned),
                (frozen.rows(test.examples), truth),
                objective,
                method=frozen.head.method,
                strength=frozen.head.strength,
                seed=seed,
            )
        with clock("export", "exporting one ONNX file"):
            facts = described.metadata(model, record, found) | facts_of(objective, found.trust)
            tuned = found.network(facts)
            graph.save(tuned, folder / ONNX)
            _write_weights(model, found, dataset.classes, folder)
        with clock("evaluation", f"measuring it on {len(test.examples)} held out"):
            made: OnnxModel[Any, Any] = OnnxModel.open(folder / ONNX, device=device)
            answers = evaluation.answers(made, test.examples, objective.link.output, progress)
            expected = found.head.link(found.logits(test.examples))
            parity = evaluation.parity(answers, expected, objective, learned)

        extracted: Counter[str] = Counter(plain.extracted)
        for features in {id(some.features): some.features for some in (frozen, found)}.values():
            extracted.update(features.extracted)
        said = objective.said(answers)
        shared = {
            "schema_version": evaluation.SCHEMA_VERSION,
            "modality": dataset.modality,
            "described": objective.described,
            "n_train": len(train.examples),
            "n_test": len(test.examples),
            "baselines": {
                name: other.scorer(truth, objective)(None) for name, other in beside.items()
            }
            | dict.fromkeys(absent),
            "baselines_absent": absent,
            "onnx_agreement": 1.0 if parity.top1_agreement is None else parity.top1_agreement,
            "gain": evaluation.gain(said, beside, truth, objective, seed=seed),
            "learning_curve": curve,
            "worth": more,
            "framing": found.framing.name,
            "framings": found.framings,
            "stages": tuple(stage.name for stage in found.cut.stages),
            "share": found.cut.stages[-1].share,
            "cuts": found.cut.tried,
            "head": found.head.method,
            "strength": found.head.strength,
            "heads": found.evidence.tried,
            "tuning": tuning,
            "seed": seed,
            "command": printable(shlex.join(command)),
            "seconds": clock.seconds,
            "features_extracted": dict(extracted),
            "split": _split_files(dataset, sides, test_fraction),
            "skipped": dataset.skipped,
            "findings": findings.items,
        }
        own = None
        if objective.kind == "embedding":
            base: OnnxModel[Any, Any] = OnnxModel.open(model.onnx, device=device)
            own = evaluation.answers(base, test.examples, EMBEDDING, progress)
        held = HeldOut(test.examples, answers, truth, learned, found.trust, seed, own)
        metrics = metrics_of(shared, held, objective)
        worst = metrics.worst
        metrics = msgspec.structs.replace(
            metrics,
            nearest=metrics.nearest
            or of_worst(frozen, train, test, worst[: report.MISTAKES], count=report.NEIGHBORS),
            previous=runs.previous(out, places(dataset, sides), metrics.score, worst),
        )
        write_split(folder / SPLIT, dataset, sides)
        made_of = lineage.described(
            model,
            uid,
            found.cut.stages,
            found.framing.preprocess,
            trained=found.backbone is not None,
            projected=objective.kind == "embedding",
        )
        manifest = described.manifest(
            request, record, dataset, metrics, parity, described.layers(model, tuned), made_of
        )
        progress("writing the report")
        (folder / METRICS).write_bytes(msgspec.json.format(msgspec.json.encode(metrics)) + b"\n")
        report.write(folder / "report.html", out, manifest, metrics, dataset)
        card.write(folder / "README.md", manifest, metrics)
        return manifest

    if not ranks.first:
        fill(out)  # parts before anything is written
    run = ModelFolder.create(out, fill, replace=replace)
    engine.journal.forget()
    return run


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
        took = self.seconds.get(step, 0.0) + time.perf_counter() - start
        self.seconds[step] = round(took, 3)


def _check_place(model: ModelFolder, data: Path, out: Path) -> None:
    place, root, base = out.resolve(), data.resolve(), model.path.resolve()
    if place.is_relative_to(root) or root.is_relative_to(place):
        raise UsageError(
            f"the run {out} and the data {data} lie inside one another",
            hint="put the run elsewhere",
        )
    if base.is_relative_to(place):
        raise UsageError(f"the run {out} would replace the model it starts from")


def _check_modality(dataset: Dataset, model: ModelFolder) -> None:
    takes = "text" if (model.path / TOKENIZER).is_file() else "image"
    if takes != dataset.modality:
        raise UsageError(
            f"{dataset.root} has {dataset.modality}s, and {model.manifest.uid} is a model of "
            f"{takes}s",
            hint=f"tlhub search finds models of {dataset.modality}s",
        )


def _plain_features(dataset: Dataset, cache: Path, progress: Progress, ranks: Ranks) -> Features:
    """What is seen without a network; what cannot be read is noticed here."""
    if dataset.modality == "text":
        return Features({})
    return extract(dataset.examples, {"pixels": baselines.pixels()}, cache, progress, ranks)


def _write_weights(model: ModelFolder, found: Probe, classes: Sequence[str], folder: Path) -> None:
    """The head, the labels, and the backbone with its weights as they were, or as they are now."""
    head = found.head
    tensors = {  # safetensors takes any order
        name: np.ascontiguousarray(tensor, np.float32) for name, tensor in head.tensors.items()
    }
    (folder / lineage.HEAD).write_bytes(save(tensors))
    if classes:
        text = "".join(f"{name}\n" for name in classes)
        (folder / LABELS).write_text(text, encoding="utf-8")
    for name in filter(lineage.is_of_network, model.manifest.files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.path / name, folder / name)
    if found.backbone is not None:
        found.backbone.write_weights(folder / WEIGHTS)


def _split_files(dataset: Dataset, sides: Split, test_fraction: float) -> SplitFiles:
    return SplitFiles(
        given=sides.given,
        test_fraction=None if sides.given else test_fraction,
        train=tuple(dataset.examples[n].name for n in sides.train),
        test=tuple(dataset.examples[n].name for n in sides.test),
    )
