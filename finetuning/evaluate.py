"""`evaluate`: how any model that tlhub can run does on labelled data.

The figures are those of a run's own report, by the same code (`finetuning.scores`), of the answers
that `predict` gives.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from catalog.errors import DataError, UsageError
from converters.folder import ModelFolder
from converters.interface import EMBEDDING, PREDICTIONS, PROBABILITIES, SIMILARITIES
from converters.runtime import OnnxModel
from converters.session import Device
from finetuning import evaluation, scores
from finetuning.data.dataset import Dataset, Example, Kind, Part, Skipped, some
from finetuning.data.findings import Finding
from finetuning.data.options import Options
from finetuning.data.preparing import prepare
from finetuning.data.splits import check_search
from finetuning.objectives.classes import OneClass
from finetuning.objectives.embedding import Embedding
from finetuning.objectives.labels import SeveralLabels
from finetuning.results.kinds import objective_of
from finetuning.results.measures import of_embedding, of_labels, of_numbers
from finetuning.retrieval import search
from finetuning.runs import Run
from finetuning.scores import Scores

AUTO, TEST, ALL = "auto", "test", "all"


@dataclass(frozen=True)
class Measured:
    """What was measured, and of which examples."""

    scores: Scores
    modality: str
    examples: int
    said: str  # which examples they are, in words
    learned_from: int  # of them the model learned from these, by content
    skipped: tuple[Skipped, ...]
    findings: tuple[Finding, ...]


def evaluate(
    model: ModelFolder,
    data: Path,
    *,
    options: Options | None = None,
    split: str = AUTO,
    device: Device = "auto",
    progress: Callable[[str], None] = lambda _: None,
) -> Measured:
    """How ``model`` does on the labelled examples in ``data``.

    ``split`` says on which: `test` is what the data hold out, or what the model, a run, held out
    when it learned from them; `all` is everything; a split that was written, or a run's folder, is
    what that holds out. `auto` is the data's own test part where they have one, else everything
    but what the model learned from.

    Raises:
        DataError: the data cannot be used, or nothing of them is left.
        UsageError: what the model tells is not what the data tell.
    """
    options = options or Options()
    if split not in {AUTO, TEST, ALL}:
        if not Path(split).exists():
            raise UsageError(
                f"there is no split {split}",
                hint="auto, test, all, a file of `tlhub data split`, or the folder of a run",
            )
        options = replace(options, split=Path(split))
    progress(f"reading {data}")
    runner: OnnxModel[Any, Any] = OnnxModel.open(model.onnx, device=device)
    options = replace(options, kind=options.kind or _kind(runner))
    size = model.manifest.record.input_size
    dataset, findings = prepare(
        data, options, input_size=size[-1] if size else None, learns=False, progress=progress
    )
    objective = objective_of(dataset, learns=False)
    names = _names(model, runner, dataset)
    parts = _parts(model)
    examples, said = _chosen(dataset, parts, split)
    if isinstance(objective, Embedding):
        check_search(examples, dataset)
    truth = objective.truth(examples)
    progress(f"measuring {len(examples)} {dataset.modality}s")
    answers = evaluation.answers(runner, examples, objective.link.output, progress)
    seed, own = seed_of(model), [names.index(name) for name in objective.names]
    if isinstance(objective, Embedding):
        truth = truth.astype(np.int64)
        measures = of_embedding(search(answers, *truth.T), truth[:, 0], seed=seed)
        found = Scores(measures=measures)
    elif isinstance(objective, OneClass):
        found = scores.of(
            answers,
            np.array(own)[truth],
            names,
            [example.name for example in examples],
            learned=np.zeros(0, np.int64),
            seed=seed,
        )
    elif isinstance(objective, SeveralLabels):
        held = np.zeros((len(examples), len(names)))
        held[:, own] = truth
        measures = of_labels(answers, held, names, runner.thresholds, seed=seed)
        found = Scores(measures=measures)
    else:
        numbers = truth.astype(np.float64)
        measures = of_numbers(answers[:, own], numbers, objective.names, seed=seed)
        found = Scores(measures=measures)
    return Measured(
        scores=found,
        modality=dataset.modality,
        examples=len(examples),
        said=said,
        learned_from=sum(parts.get(example.sha256) == "train" for example in examples),
        skipped=dataset.skipped,
        findings=findings.items,
    )


def seed_of(model: ModelFolder) -> int:
    """The seed of a run, so that its intervals come out as in its report; else 0."""
    seed = (model.manifest.run or {}).get("seed", 0)
    return seed if isinstance(seed, int) else 0


def _kind(runner: OnnxModel[Any, Any]) -> Kind | None:
    """What the data have to tell for what a model tells; None: it has no head."""
    if SIMILARITIES in runner.outputs:
        return "embedding"
    if PREDICTIONS in runner.outputs:
        return "regression"
    if not runner.labels:
        return None
    return "multi-label" if runner.thresholds else "classification"


def _names(model: ModelFolder, runner: OnnxModel[Any, Any], dataset: Dataset) -> tuple[str, ...]:
    """What each answer of the model is called, where the data have nothing else.

    Raises:
        UsageError: they have, or the model says nothing that can be compared with them.
    """
    uid = model.manifest.uid
    again = f"`tlhub finetune MODEL --data {dataset.root}` makes a model of what the data tell"
    takes = model.manifest.record.modality
    if takes is not None and takes != dataset.modality:
        raise UsageError(
            f"{dataset.root} has {dataset.modality}s, and {uid} is a model of {takes}s",
            hint=f"give it {takes}s",
        )
    if dataset.kind == "embedding":
        if EMBEDDING not in runner.outputs:
            raise UsageError(f"{uid} has no embedding to compare examples by", hint=again)
        return dataset.classes
    if not runner.labels or not {PROBABILITIES, PREDICTIONS} & {*runner.outputs}:
        raise UsageError(f"{uid} has no classes to compare with the data's", hint=again)
    kind = _kind(runner)
    if kind != dataset.kind:
        raise UsageError(
            f"{dataset.root} is data for {dataset.kind}, and {uid} is a model for {kind}",
            hint="--label-column names another column",
        )
    told = dataset.classes or dataset.numbers
    unknown = [name for name in told if name not in runner.labels]
    if unknown:
        what = "numbers" if kind == "regression" else "classes"
        raise UsageError(
            f"{len(unknown)} of the {len(told)} {what} of {dataset.root} are none of {uid}'s: "
            f"{some(unknown)}; it knows {some(runner.labels, 5)}",
            hint=_renamed(unknown, runner.labels) or again,
        )
    return runner.labels


def _renamed(unknown: Sequence[str], known: Sequence[str]) -> str | None:
    """What the labels are probably meant to be, where every one of them is nearly a known one."""
    folded = {label.casefold().strip(): label for label in known}
    pairs = []
    for name in unknown:
        near = difflib.get_close_matches(name.casefold().strip(), folded, n=1, cutoff=0.8)
        if not near:
            return None
        pairs.append(f"{name!r} to {folded[near[0]]!r}")
    return f"rename {some(pairs)} in the data, if that is what they mean"


def _parts(model: ModelFolder) -> Mapping[str, Part]:
    """By the digest of its content, where each example was when a run learned."""
    rows = Run(model).split
    return {row["sha256"]: "test" if row["part"] == "test" else "train" for row in rows}


def _chosen(
    dataset: Dataset, parts: Mapping[str, Part], split: str
) -> tuple[tuple[Example, ...], str]:
    """The examples to measure on, and which they are in words.

    Raises:
        DataError: there are none.
        UsageError: nobody says what is held out.
    """
    everything = dataset.examples
    held = tuple(example for example in everything if example.part == "test")
    if split == ALL:
        return everything, "all of the data"
    if split not in {AUTO, TEST}:
        if not held:
            raise DataError(
                f"nothing of what {split} holds out is in {dataset.root}",
                hint="are all files there? `tlhub data check` says what was left out",
            )
        return held, f"what {split} holds out"
    if held:
        return held, "the test part of the data"
    if split == TEST:
        own = tuple(example for example in everything if parts.get(example.sha256) == "test")
        if own:
            return own, "what the run held out"
        raise UsageError(
            f"{dataset.root} has no test part, and the model held none of it out",
            hint="--split all measures on everything, and a file of `tlhub data split` on its part",
        )
    new = tuple(example for example in everything if parts.get(example.sha256) != "train")
    if not new:
        raise DataError(
            f"the model learned from everything in {dataset.root}",
            hint="give other data, or --split all for what it says of what it learned from",
        )
    left = Counter(parts.get(example.sha256) for example in new)
    if len(new) == len(everything):
        return new, "all of the data"
    if left["test"] == len(new):
        return new, "what the run held out"
    return new, "what it did not learn from"
