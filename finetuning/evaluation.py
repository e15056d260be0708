"""What a run measured: `metrics.json`, and the arithmetic behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from catalog.errors import ConversionError
from converters.folder import Parity
from converters.runtime import OnnxModel
from finetuning.calibration import Labels
from finetuning.cut import Tried
from finetuning.data.dataset import Example, Kind, Skipped
from finetuning.data.findings import Finding
from finetuning.heads import HeadTried, fit
from finetuning.nearest import Near
from finetuning.objectives.objective import Objective, Scorer, Trust, Truth, interval
from finetuning.runs import Previous
from finetuning.scores import Score
from finetuning.tuning.evidence import Evidence
from finetuning.worth import Worth, worth

SCHEMA_VERSION = 3

# What a model is measured against, in words.
BASELINES = {
    "chance": "any other example",
    "majority": "always the most frequent class",
    "frequency": "how often each label holds",
    "mean": "always the mean",
    "pixels": "32 x 32 pixels, no network",
    "words": "bag of words, no network",
    "random_weights": "the same network, random weights",
    "from_scratch": "the same network, trained from random weights",
}

_FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
_REPEATS = 3

# max|file - head| / max|head| over answers: fp32 against fp64, batches of other sizes.
TOLERANCE = 1e-3
_PREDICT = 64  # photos between two lines of progress


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """The held-out score of heads that learned from ``n_train`` of the training images."""

    n_train: int
    score: float  # the mean over the draws
    lowest: float
    highest: float
    draws: int


class SplitFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Which files were on which side, relative to the data folder."""

    given: bool  # by the data's own parts, or a split that was written down
    test_fraction: float | None  # None where given
    train: tuple[str, ...]
    test: tuple[str, ...]


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """The held-out score over that of the best baseline."""

    over: str  # a key of BASELINES
    value: float
    interval: tuple[float, float]  # 95 %, by a bootstrap of the held-out examples, or classes


class Metrics(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """`metrics.json`: what is the same for all kinds of targets.

    Accuracies and the like are fractions, measured with the exported ONNX file. Every loss is of
    training examples that were left out in turn.
    """

    schema_version: int
    modality: Literal["image", "text"]
    described: str  # what is told, in words
    score: Score
    n_train: int
    n_test: int
    baselines: Mapping[str, float | None]  # the score of each, by the keys of BASELINES
    baselines_absent: Mapping[str, str]  # why one of them is None
    gain: Gain
    onnx_agreement: float  # held-out examples on which the file and the fitted head agree
    learning_curve: tuple[CurvePoint, ...]
    worth: Worth | None = None  # of more examples; None where there are too few to say
    nearest: Mapping[str, tuple[Near, ...]] = {}  # training examples, by the worst mistakes
    previous: Previous | None = None  # a run on the same data before this one
    framing: str  # how a photo is fitted to the network
    framings: Mapping[str, float]  # tried -> loss; empty where there is one way
    stages: tuple[str, ...]  # whose vectors, side by side, the head is on
    share: float  # of the backbone's multiply-accumulates that are left
    cuts: tuple[Tried, ...]
    head: str
    strength: float | None
    heads: tuple[HeadTried, ...]
    tuning: Evidence  # what training through the network was tried, and with what result
    seed: int
    command: str
    seconds: Mapping[str, float]  # by step
    features_extracted: Mapping[str, int]  # the others came from the cache
    split: SplitFiles
    skipped: tuple[Skipped, ...]
    findings: tuple[Finding, ...]  # what `tlhub data check` says of the data

    @property
    def kind(self) -> Kind:
        """What the targets are."""
        kind: Kind = self.__struct_config__.tag  # type: ignore[assignment]
        return kind

    @property
    def worst(self) -> tuple[str, ...]:
        """The held-out examples of the mistakes, the worst first."""
        return ()

    def figures(self) -> dict[str, float]:
        """The figures of the model by the names that the hubs have for them."""
        return {self.score.measure.replace(" ", "_"): self.score.value}

    def summary(self) -> dict[str, Any]:
        """What only this kind has, in short."""
        return {}


@dataclass(frozen=True)
class HeldOut:
    """What the exported file said of the held-out examples, and what a run made of it needs."""

    examples: Sequence[Example]
    answers: NDArray[np.float64]  # (N, K)
    truth: Truth
    learned: Truth  # that of the training examples
    trust: Trust | None
    seed: int
    untouched: NDArray[np.floating] | None = None  # the network's own embedding (N, D)


def answers(
    model: OnnxModel[Any, Any],
    examples: Sequence[Example],
    output: str,
    progress: Callable[[str], None],
) -> NDArray[np.float64]:
    """What the model gives of each example, from the example's own file on, float64 (N, K)."""
    # What is shorter than the rest of its batch would be padded.
    order = np.argsort([example.length for example in examples], kind="stable")
    rows = []
    for start in range(0, len(examples), _PREDICT):
        part = [examples[n] for n in order[start : start + _PREDICT]]
        given = [item.text if isinstance(item.content, str) else item.data() for item in part]
        rows += model.rows(given, output)
        progress(f"measured {min(start + _PREDICT, len(examples))} of {len(examples)}")
    return np.stack(rows).astype(np.float64)[np.argsort(order)]


def parity(
    seen: NDArray[np.float64], expected: NDArray[np.float64], objective: Objective, learned: Truth
) -> Parity:
    """How near the file's answers are to the fitted head's; numbers by how much they vary.

    Raises:
        ConversionError: not near enough, or another class comes first without a tie.
    """
    unit = np.abs(expected).max()
    if objective.kind == "regression":
        unit = learned.std(axis=0) + TOLERANCE * np.abs(learned).max(axis=0)
    difference = float((np.abs(seen - expected) / unit).max())

    def agreement(top: int) -> float | None:
        if objective.kind != "classification":
            return None
        best = -np.sort(-expected, axis=1)[:, :top]
        chosen = np.take_along_axis(expected, np.argsort(-seen, axis=1)[:, :top], axis=1)
        return float((np.abs(best - chosen).max(axis=1) <= TOLERANCE).mean())

    first = agreement(1)
    if not difference <= TOLERANCE or (first is not None and first < 1):
        said = "" if first is None else f", the first class agrees on {first:.1%} of them"
        raise ConversionError(
            f"the exported model does not compute what was fitted: {objective.link.output} of "
            f"what was held out differ by {difference:.1e}{said}",
            hint="nothing was kept; please report the model and the device",
        )
    return Parity(
        reference=f"scikit-learn {version('scikit-learn')}",
        tolerance=TOLERANCE,
        max_rel_diff=difference,
        top1_agreement=first,
        top5_agreement=agreement(5),
        photo_max_rel_diff=difference,
        outputs={objective.link.output: difference},
        batch_sizes=(),  # `predict` groups the photos by their sizes
        photos=len(seen),
    )


@dataclass(frozen=True)
class Baseline:
    """What something else says of held-out examples, and of which of them."""

    said: NDArray[Any]
    places: NDArray[np.int64] | slice = field(default_factory=lambda: slice(None))

    def scorer(self, truth: Truth, objective: Objective) -> Scorer:
        """Its score on these."""
        return objective.scorer(self.said, truth[self.places])


def gain(
    said: NDArray[Any],
    baselines: Mapping[str, Baseline],
    truth: Truth,
    objective: Objective,
    *,
    seed: int,
) -> Gain:
    """How much better ``said`` is than what the best baseline says, where that says something."""
    scorers = {name: other.scorer(truth, objective) for name, other in baselines.items()}
    over = max(scorers, key=lambda name: scorers[name](None))
    places, other = baselines[over].places, scorers[over]
    truth, own = truth[places], objective.scorer(said[places], truth[places])
    value = own(None) - other(None)
    within = interval((own, other), len(truth), seed=seed, clusters=objective.clusters(truth))
    return Gain(over=over, value=value, interval=within)


def learning_curve(
    train: tuple[NDArray[np.float32], Truth],
    test: tuple[NDArray[np.float32], Truth],
    objective: Objective,
    *,
    method: str,
    strength: float | None,
    seed: int,
) -> tuple[tuple[CurvePoint, ...], Worth | None]:
    """The score on ``test`` (features, truth) by how much of ``train`` was learned from.

    Parts are drawn class by class, at least one image of each, several times; a smaller part of a
    draw lies within a larger one. Of an embedding they are whole classes. Beside it, what more
    examples are worth.
    """
    x, y = train
    strata, whole = objective.strata(y), objective.clusters(y) is not None
    points: dict[int, list[Scorer]] = {}
    for fraction in _FRACTIONS:
        for draw in range(_REPEATS if fraction < 1 else 1):
            random = np.random.default_rng([seed, draw])
            rows = _part(strata, fraction, random, whole=whole)
            head = fit(x[rows], y[rows], method=method, strength=strength, objective=objective)
            said = objective.said(head.logits(test[0]))
            points.setdefault(len(rows), []).append(objective.scorer(said, test[1]))
    scores = {n: [scorer(None) for scorer in scorers] for n, scorers in points.items()}
    curve = tuple(
        CurvePoint(
            n_train=n,
            score=float(np.mean(values)),
            lowest=min(values),
            highest=max(values),
            draws=len(values),
        )
        for n, values in scores.items()
    )
    held = objective.clusters(test[1])
    return curve, worth(points, len(test[1]), seed=seed, clusters=held)


def _part(
    strata: Labels, fraction: float, random: np.random.Generator, *, whole: bool
) -> NDArray[np.int64]:
    """The places of a fraction of each stratum, or of a fraction of the strata, at least two."""
    names = np.unique(strata)
    if whole:
        names = random.permutation(names)[: max(2, round(fraction * len(names)))]
        return np.flatnonzero(np.isin(strata, names))
    return np.concatenate(
        [
            random.permutation(own)[: max(1, round(fraction * len(own)))]
            for own in (np.flatnonzero(strata == label) for label in names)
        ]
    )
