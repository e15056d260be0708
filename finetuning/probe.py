"""The head alone: framing, cut, head and temperature, all by what left-out examples say.

This is the first strategy, and the start of any other: a `Probe` is a network with its head, the
evidence for it, and what it says of examples, by which the exported file is checked. A strategy
that goes on from here takes the `Work` and the `Probe`, and gives a `Probe` too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from converters.folder import ModelFolder
from converters.session import Device
from finetuning import cut, graph, heads
from finetuning.cut import Cut
from finetuning.data.dataset import Dataset, Example
from finetuning.data.splits import Split
from finetuning.engine import Engine
from finetuning.features import Features, Rows, extract
from finetuning.framing import Framing, framings
from finetuning.heads import Evidence, FittedHead
from finetuning.objectives.objective import Objective, Trust, Truth, drawn
from finetuning.ridge import Floats
from finetuning.stages import LAST

if TYPE_CHECKING:
    from converters.backbone import TorchBackbone

_SAMPLE = 600  # training examples are enough to choose a framing by


@dataclass(frozen=True)
class Part:
    """One side of the split."""

    examples: tuple[Example, ...]

    @classmethod
    def of(cls, dataset: Dataset, places: Sequence[int]) -> Part:
        """The examples at these places."""
        return cls(tuple(dataset.examples[n] for n in places))

    @property
    def groups(self) -> list[str]:
        """What of each must be left out together: its group, else copies of the same content."""
        return [example.group or example.sha256 for example in self.examples]


@dataclass(frozen=True)
class Work:
    """What every strategy is given."""

    base: ModelFolder
    dataset: Dataset
    objective: Objective
    split: Split
    seed: int
    cache: Path
    device: Device
    progress: Callable[[str], None]
    cut: bool = True  # whether layers may be cut off; else the head is on the embedding
    engine: Engine = field(default_factory=Engine)

    @property
    def train(self) -> Part:
        """What is learned from."""
        return Part.of(self.dataset, self.split.train)

    @property
    def test(self) -> Part:
        """What is held out."""
        return Part.of(self.dataset, self.split.test)

    def truth(self, part: Part) -> Truth:
        """What is to be said of the examples of a part."""
        return self.objective.truth(part.examples)

    def features(self, examples: Sequence[Example], ways: Sequence[Framing]) -> Features:
        """Features of examples, framed in these ways."""
        extractors = {way.name: way.extractor for way in ways}
        return extract(examples, extractors, self.cache, self.progress, self.engine.ranks)


@dataclass(frozen=True)
class Probe:
    """A head on frozen features, fitted on the training part."""

    framing: Framing
    framings: Mapping[str, float]  # tried -> loss of left-out examples
    cut: Cut
    evidence: Evidence
    head: FittedHead  # calibrated
    trust: Trust | None  # None where there are too few examples to tell
    features: Features
    backbone: TorchBackbone | None = None  # with what it learned, where more than a head was

    @property
    def loss(self) -> float | None:
        """The loss of left-out training examples."""
        return self.evidence.best.loss if self.evidence.best else None

    def knowing(self, examples: Sequence[Example], classes: int) -> Probe:
        """The same with the direction of the mean of each class, of examples that were seen."""
        targets = np.array([example.target for example in examples], np.int64)
        return replace(self, head=self.head.knowing(self.rows(examples), targets, classes))

    def see(self, work: Work, examples: Sequence[Example]) -> None:
        """Compute the features of further examples, held-out ones for instance."""
        self.features.add(work.features(examples, (self.framing,)))

    def rows(self, examples: Sequence[Example]) -> Rows:
        """What the head is put on: features (N, D) of examples that were seen."""
        return _rows(self.features, self.framing, self.cut, examples)

    def logits(self, examples: Sequence[Example]) -> Floats:
        """The scores of examples (N, classes) by the head."""
        return self.head.logits(self.rows(examples))

    def network(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The one graph of backbone, cut, and head."""
        return graph.with_head(self.framing.network, self.cut.stages, self.head, metadata)


def fit(work: Work) -> Probe:
    """The best head on a frozen network.

    Raises:
        ConversionError: the network has no embedding.
        UsageError: the device is not there.
        StorageError: features cannot be kept.
    """
    ways = framings(work.base, work.device)
    if not work.cut:
        ways = tuple(way.ending_with((LAST,)) for way in ways)
    train = work.train
    way, losses, found, chosen = _framed(work, ways)
    if chosen is None:
        found.add(work.features(train.examples, (way,)))
        work.progress(f"choosing where to cut, on {len(train.examples)} {work.dataset.modality}s")
        chosen = _cut(work, way, found, train)
    x, y = _rows(found, way, chosen, train.examples), work.truth(train)
    work.progress(f"fitting heads on {x.shape[1]} features")
    objective = work.objective
    evidence = heads.evidence(x, y, train.groups, seed=work.seed, objective=objective)
    best = evidence.best
    if best is None:
        head = heads.fit(x, y, method=heads.METHODS[objective.kind][0], objective=objective)
        return Probe(way, losses, chosen, evidence, head, None, found)
    head = heads.fit(x, y, method=best.method, strength=best.strength, objective=objective)
    factors, shifts, trust = objective.calibrated(evidence.logits, evidence.y)
    return Probe(way, losses, chosen, evidence, head.adjusted(factors, shifts), trust, found)


def _framed(
    work: Work, ways: Sequence[Framing]
) -> tuple[Framing, dict[str, float], Features, Cut | None]:
    """The framing that does best on a part of the training examples, and their features.

    The cut as well, where that part is all of them.
    """
    if len(ways) == 1:
        return ways[0], {}, Features({}), None
    train = work.train
    places = drawn(work.objective, work.truth(train), _SAMPLE, seed=work.seed)
    sample = Part(tuple(train.examples[n] for n in places))
    work.progress(f"features of {len(sample.examples)} images, framed in {len(ways)} ways")
    found = work.features(sample.examples, ways)
    cuts = {way.name: _cut(work, way, found, sample) for way in ways}
    losses = {name: chosen.loss for name, chosen in cuts.items()}
    best = min(ways, key=lambda way: losses[way.name])
    whole = len(sample.examples) == len(train.examples)
    return best, losses, found, cuts[best.name] if whole else None


def _cut(work: Work, way: Framing, found: Features, part: Part) -> Cut:
    vectors = {
        stage.output: found.of(way.name, stage.output, part.examples) for stage in way.stages
    }
    y, groups = work.truth(part), part.groups
    return cut.choose(way.stages, vectors, y, groups, seed=work.seed, objective=work.objective)


def _rows(found: Features, way: Framing, chosen: Cut, examples: Sequence[Example]) -> Rows:
    return np.hstack([found.of(way.name, stage.output, examples) for stage in chosen.stages])
