"""From a fitted head on to a network that was trained with it, where that helps."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import helper

from catalog.errors import ConversionError
from converters import parity
from converters.backbone import TorchBackbone
from converters.export import export
from converters.folder import ModelFolder
from converters.preprocess import recipe
from converters.text_front import TextFront
from finetuning import graph, heads, lineage
from finetuning.budget import rank_of
from finetuning.data.dataset import Example, Modality
from finetuning.data.splits import strata
from finetuning.features import Features, key_of
from finetuning.framing import tuned_framing
from finetuning.heads import FittedHead
from finetuning.objectives.objective import Objective, Truth
from finetuning.probe import Part, Probe, Work
from finetuning.ridge import Floats
from finetuning.stages import LAST
from finetuning.tuning import adapters
from finetuning.tuning.evidence import Evidence, untried
from finetuning.tuning.logs import logged
from finetuning.tuning.planning import Task
from finetuning.tuning.texts import Texts
from finetuning.tuning.training import TrainingError
from finetuning.tuning.tune import Tuned, tune
from finetuning.tuning.views import Examples, Photos

METHOD = "trained with the network"
_NOTHING = {"none", "0"}  # of the network is to learn
_ATTENTION = {"Softmax", "Attention"}  # operators of ONNX

# Of time, where no budget is given: in all, and an example. What is learned of few texts is worth
# more, and takes the whole of a network.
_UNASKED: dict[Modality, tuple[float, float]] = {"image": (30.0, 0.06), "text": (15.0, 0.32)}


def improve(
    work: Work, probe: Probe, *, unfreeze: str, seconds: float | None
) -> tuple[Probe, Evidence]:
    """The probe, or a candidate in its place whose network was trained; and what was tried.

    ``unfreeze`` is ``none`` (or 0), or as `finetuning.tuning.tune.tune` takes it. Without
    ``seconds`` it takes as long as the number of examples is worth.

    Raises:
        UsageError: there is no such layer to train from.
        ConversionError, TrainingError: the network cannot be trained, or the trained one not be
            exported as what it is; unasked the head stays then.
        StorageError: nothing can be written.

    Where several processes work, only the first has a trained candidate.
    """
    if unfreeze in _NOTHING:
        return probe, untried("the head alone was asked for")
    try:
        return _improved(work, probe, unfreeze, seconds)
    except (ConversionError, TrainingError) as error:
        if unfreeze != "auto":
            raise
        return probe, untried(f"the network cannot be trained: {error.message}")


def _improved(
    work: Work, probe: Probe, unfreeze: str, seconds: float | None
) -> tuple[Probe, Evidence]:
    budget = "auto" if seconds is None else str(seconds)
    if seconds is None:
        lacking = work.objective.lesson(work.truth(work.train)).lacking
        if lacking is not None and unfreeze == "auto":
            why = f"unasked it is {lacking} (--budget 10m tries it)"
            return probe, untried(f"training through the network was not tried: {why}")
        least, each = _UNASKED[work.dataset.modality]
        seconds = least + each * len(work.train.examples)
    task = _task(work, probe, rank_of(unfreeze))
    journal = work.engine.journal
    begun = journal.begun(_key(work, probe, task, unfreeze, budget), work.engine.command)
    with begun, logged(work.engine.tensorboard if work.engine.ranks.first else None) as log:
        tuned, evidence = tune(
            task,
            unfreeze=unfreeze,
            seconds=seconds,
            seed=work.seed,
            journal=journal,
            progress=work.progress,
            log=log,
        )
    if tuned is None or not work.engine.ranks.first:
        return probe, evidence
    return _candidate(work, probe, tuned), evidence


def check(base: ModelFolder, unfreeze: str) -> None:
    """See early that a network can be trained in a way, as far as its graph tells.

    Raises:
        UsageError: it has no attention, and adapters were asked for.
    """
    if rank_of(unfreeze) and not attends(base):
        raise adapters.no_transformer()


def attends(base: ModelFolder) -> bool:
    """Whether a network has attention within."""
    model = graph.load(base.onnx)
    outputs = {output.name for output in model.graph.output}
    inner = {node.op_type for node in model.graph.node if outputs.isdisjoint(node.output)}
    return not inner.isdisjoint(_ATTENTION)


def _task(work: Work, probe: Probe, rank: int) -> Task:
    train = work.train
    objective, truth = work.objective, work.truth(train)
    lesson = objective.lesson(truth)
    backbone, examples = examples_of(work, probe, network_of(work.base), train)
    factors, shifts = lesson.units
    strengths = {tried.method: tried.strength for tried in probe.evidence.tried}
    # Not LDA: from scores that are too sure of themselves there is no way on.
    able = (heads.LOGISTIC, heads.RIDGE, probe.head.method)
    method = next(one for one in able if one in heads.METHODS[objective.kind])

    def fit(x: NDArray[np.float32], y: Truth) -> FittedHead:
        strength = strengths.get(method)
        head = heads.fit(x, y, method=method, strength=strength, objective=objective)
        if objective.kind == "embedding":
            targets = lesson.targets(y)
            return head.knowing(x, targets, int(targets.max()) + 1)
        return head.adjusted(1 / factors, -shifts / factors)

    by, beside = np.ones(1), np.zeros(1)
    if probe.evidence.best is not None:
        by, beside, _ = objective.calibrated(probe.evidence.logits, probe.evidence.y)

    def chosen(learn: NDArray[np.int64], held: NDArray[np.int64]) -> Floats:
        rows, best = probe.rows(train.examples), probe.evidence.best
        method, strength = (best.method, best.strength) if best else (probe.head.method, None)
        head = heads.fit(
            rows[learn], truth[learn], method=method, strength=strength, objective=objective
        )
        return ((head.logits(rows[held]) * by + beside) - shifts) / factors

    cut = probe.cut.stages
    is_text, projected = work.dataset.modality == "text", lineage.network_of(work.base).projected
    if is_text and not projected and objective.kind != "embedding":
        cut = (LAST,)  # what a head finds in lower layers, training brings to the top and more
    spread, together = _parted(objective, train, truth)
    task = Task(
        backbone=backbone,
        stages=lineage.points(work.base, cut),
        examples=examples,
        truth=truth,
        lesson=lesson,
        strata=spread,
        groups=together,
        features=replace(probe, cut=replace(probe.cut, stages=cut)).rows(train.examples),
        fit=fit,
        chosen=chosen,
        device=device_of(work),
        ranks=work.engine.ranks,
        rank=rank,
    )
    # What is compared has to be as good from the start; else the last stage learns what all had.
    return task if objective.kind == "embedding" and task.ascends else task.on_last()


def _parted(
    objective: Objective, part: Part, truth: Truth
) -> tuple[Sequence[Sequence[int]], tuple[str, ...]]:
    """What examples are spread by where some are held back, and what stays together.

    Of an embedding that is whole classes; those that have one example alone always learn.
    """
    if objective.kind != "embedding":
        targets = [example.target for example in part.examples]
        return strata(objective.kind, targets), tuple(part.groups)
    several = np.bincount(np.unique(truth, axis=0)[:, 0]) > 1
    classes = truth[:, 0].tolist()
    return [(0 if several[n] else 1 + n,) for n in classes], tuple(map(str, classes))


def network_of(base: ModelFolder) -> TorchBackbone:
    """The network of a base with its weights, to be trained.

    Raises:
        ConversionError: it is none of torch, or cannot be loaded.
    """
    backbone = lineage.load(base)
    if not isinstance(backbone, TorchBackbone):
        framework = backbone.record.framework or "ONNX"
        raise ConversionError(f"its weights are in {framework}, not in torch")
    return backbone


def examples_of(
    work: Work, probe: Probe, backbone: TorchBackbone, part: Part
) -> tuple[TorchBackbone, Examples]:
    """The backbone framed as the probe's is, and the examples of a part as its tensors.

    Raises:
        ConversionError: it is not known how its pictures are prepared.
    """
    preprocess = probe.framing.preprocess
    if isinstance(backbone.front, TextFront):
        return backbone, Texts.of([example.text for example in part.examples], backbone.front)
    if work.dataset.modality != "image" or preprocess is None:
        raise ConversionError("it is not known how its pictures are prepared")
    backbone = lineage.framed(backbone, preprocess)
    _, size = recipe(backbone.record)
    photos = Photos([_reader(example) for example in part.examples], preprocess, size, work.seed)
    return backbone, photos


def device_of(work: Work) -> torch.device:
    """Where a network is trained."""
    return torch.device("cuda" if work.device != "cpu" and torch.cuda.is_available() else "cpu")


def _reader(example: Example) -> Callable[[], NDArray[np.uint8]]:
    return example.image


def _candidate(work: Work, probe: Probe, tuned: Tuned) -> Probe:
    """The trained network as an ONNX graph that was checked, with its head."""
    work.progress("exporting the trained network, and checking it against torch")
    network = export(tuned.backbone)
    helper.set_model_props(network, {p.key: p.value for p in probe.framing.network.metadata_props})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = Path(folder, "model.onnx")
        graph.save(network, file)
        parity.check(file, tuned.backbone, Path(folder))
    framing = tuned_framing(work.base, probe.framing, network, tuned.stages, work.device)
    objective, truth = work.objective, work.truth(work.train)
    units = objective.lesson(truth).units
    judged = tuned.judged * units[0] + units[1]
    factors, shifts, trust = objective.calibrated(judged, truth[tuned.held])
    weight, bias = tuned.weight.astype(np.float64), tuned.bias.astype(np.float64)
    head = FittedHead(weight, bias, METHOD, link=objective.link).adjusted(*units)
    return replace(
        probe,
        framing=framing,
        cut=replace(probe.cut, stages=tuned.stages),
        head=head.adjusted(factors, shifts),
        trust=trust,
        features=Features({}),
        backbone=tuned.backbone,
    )


def _key(work: Work, probe: Probe, task: Task, unfreeze: str, budget: str) -> str:
    """What the course of a training depends on."""
    examples = [f"{item.sha256} {item.target} {item.unit}" for item in work.train.examples]
    base = sorted(f"{name} {file.sha256}" for name, file in work.base.manifest.files.items())
    asked = [repr(work.objective), unfreeze, budget, str(work.seed), str(work.engine.ranks.world)]
    stages = [stage.name for stage in task.stages]
    return key_of("training", *base, *examples, probe.framing.name, *stages, *asked)
