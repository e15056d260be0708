"""The head alone: framing, cut, head and temperature, all by what left-out examples say.

This is the first strategy, and the start of any other: a `Candidate` is a network with its head,
the evidence for it, and what it says of examples, by which the exported file is checked. A
strategy that goes on from here takes the `Work` and the `Probe`, and gives a `Candidate` too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx

from converters.folder import ModelFolder
from converters.session import Device
from finetuning import calibration, cut, graph, heads
from finetuning.calibration import Abstention, Calibration, Labels
from finetuning.cut import Cut
from finetuning.data.dataset import Dataset, Example
from finetuning.data.splits import Split
from finetuning.features import Features, Rows, extract
from finetuning.framing import Framing, framings
from finetuning.heads import Evidence, LinearHead
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
    def labels(self) -> Labels:
        """The class of each example (N,)."""
        return np.array([example.target for example in self.examples], np.int64)

    @property
    def groups(self) -> list[str]:
        """What of each must be left out together: its group, else copies of the same content."""
        return [example.group or example.sha256 for example in self.examples]


@dataclass(frozen=True)
class Work:
    """What every strategy is given."""

    base: ModelFolder
    dataset: Dataset
    split: Split
    seed: int
    cache: Path
    device: Device
    progress: Callable[[str], None]
    cut: bool = True  # whether layers may be cut off; else the head is on the embedding

    @property
    def train(self) -> Part:
        """What is learned from."""
        return Part.of(self.dataset, self.split.train)

    @property
    def test(self) -> Part:
        """What is held out."""
        return Part.of(self.dataset, self.split.test)


@dataclass(frozen=True)
class Probe:
    """A head on frozen features, fitted on the training part."""

    framing: Framing
    framings: Mapping[str, float]  # tried -> log loss of left-out examples
    cut: Cut
    evidence: Evidence
    head: LinearHead  # with its temperature
    calibration: Calibration | None  # None where there are too few examples for one
    abstention: Abstention | None
    features: Features
    backbone: TorchBackbone | None = None  # with what it learned, where more than a head was

    @property
    def loss(self) -> float | None:
        """The log loss of left-out training examples."""
        return self.evidence.best.loss if self.evidence.best else None

    def see(self, work: Work, examples: Sequence[Example]) -> None:
        """Compute the features of further examples, held-out ones for instance."""
        way = self.framing
        self.features.add(extract(examples, {way.name: way.extractor}, work.cache, work.progress))

    def rows(self, examples: Sequence[Example]) -> Rows:
        """What the head is put on: features (N, D) of examples that were seen."""
        return _rows(self.features, self.framing, self.cut, examples)

    def logits(self, examples: Sequence[Example]) -> Floats:
        """What the head says of examples (N, classes)."""
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
    way, losses, found = _framed(work, ways)
    found.add(extract(train.examples, {way.name: way.extractor}, work.cache, work.progress))
    work.progress(f"choosing where to cut, on {len(train.examples)} {work.dataset.modality}s")
    chosen = _cut(way, found, train, work.seed)
    x, y = _rows(found, way, chosen, train.examples), train.labels
    work.progress(f"fitting heads on {x.shape[1]} features")
    evidence = heads.evidence(x, y, train.groups, seed=work.seed)
    best = evidence.best
    if best is None:
        head = heads.fit(x, y, method=heads.LDA)
        return Probe(way, losses, chosen, evidence, head, None, None, found)
    head = heads.fit(x, y, method=best.method, strength=best.strength)
    calibrated, abstains, by = _calibrated(evidence)
    return Probe(way, losses, chosen, evidence, head.cooled(by), calibrated, abstains, found)


def _framed(work: Work, ways: Sequence[Framing]) -> tuple[Framing, dict[str, float], Features]:
    """The framing that does best on a part of the training examples, and their features."""
    if len(ways) == 1:
        return ways[0], {}, Features({})
    train = work.train
    order = np.random.default_rng(work.seed).permutation(len(train.examples))
    sample = Part(tuple(train.examples[n] for n in np.sort(order[:_SAMPLE])))
    extractors = {way.name: way.extractor for way in ways}
    work.progress(f"features of {len(sample.examples)} images, framed in {len(ways)} ways")
    found = extract(sample.examples, extractors, work.cache, work.progress)
    losses = {way.name: _cut(way, found, sample, work.seed).loss for way in ways}
    best = min(ways, key=lambda way: losses[way.name])
    return best, losses, found


def _cut(way: Framing, found: Features, part: Part, seed: int) -> Cut:
    vectors = {
        stage.output: found.of(way.name, stage.output, part.examples) for stage in way.stages
    }
    return cut.choose(way.stages, vectors, part.labels, part.groups, seed=seed)


def _rows(found: Features, way: Framing, chosen: Cut, examples: Sequence[Example]) -> Rows:
    return np.hstack([found.of(way.name, stage.output, examples) for stage in chosen.stages])


def _calibrated(evidence: Evidence) -> tuple[Calibration, Abstention, float]:
    logits, y = evidence.logits, evidence.y
    by = calibration.temperature(logits, y)
    before = np.exp(calibration.log_softmax(logits))
    after = np.exp(calibration.log_softmax(logits / by))
    found = Calibration(
        temperature=by,
        error_before=calibration.calibration_error(before, y),
        error=calibration.calibration_error(after, y),
    )
    return found, calibration.abstention(after, y), by


def on_held_out(
    probe: Probe, probabilities: Floats, y: Labels
) -> tuple[Calibration | None, Abstention | None]:
    """Calibration and abstention with what the exported file does on held-out examples."""
    if probe.calibration is None or probe.abstention is None:
        return None, None
    error = calibration.calibration_error(probabilities, y)
    return (
        msgspec.structs.replace(probe.calibration, held_out_error=error),
        calibration.measured(probe.abstention, probabilities, y),
    )
