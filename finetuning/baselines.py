"""What the same data give without transfer, on the same split: the measure of what it bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from catalog.errors import ConversionError, TlhubError
from catalog.record import ModelRecord, encode
from converters.interface import EMBEDDING
from finetuning import heads
from finetuning.evaluation import Baseline
from finetuning.features import Content, Extract, Extractor, Features, Rows, extract, key_of
from finetuning.objectives.objective import Objective, Truth, drawn
from finetuning.probe import Part, Probe, Work

if TYPE_CHECKING:
    from converters.backbone import TorchBackbone

PIXELS = "pixels"
ENOUGH = 200  # examples to learn from and to test random weights on
_SIDE = 32
_SEARCHED = 2000  # held-out examples that random weights are measured on, of an embedding
_TEXTS = 32  # at once
_WORD = r"(?u)\b\w+\b"  # of one letter too


def beside(work: Work, plain: Features, found: Probe) -> tuple[dict[str, Baseline], dict[str, str]]:
    """What each says of the held-out examples, and why one is absent."""
    train, test, objective = work.train, work.test, work.objective
    y = work.truth(train)
    said = {objective.constant: Baseline(objective.always(y, len(test.examples)))}
    if work.dataset.modality == "text":
        texts = [[item.text for item in part.examples] for part in (train, test)]
        words = bag_of_words(texts[0], y, texts[1], objective, work.seed)
        said["words"] = Baseline(words)
    else:
        own, asked = (plain.of("pixels", PIXELS, part.examples) for part in (train, test))
        pixels = closed_form(own, y, asked, train.groups, objective, work.seed)
        said["pixels"] = Baseline(pixels)
    name, absent = "random_weights", {}
    try:
        said[name] = _random_weights(work, found)
    except ConversionError as error:
        absent = {name: error.message}
    return said, absent


def _random_weights(work: Work, found: Probe) -> Baseline:
    """The same network with random weights, of as many examples as it takes to tell."""
    order = np.random.default_rng(work.seed).permutation(len(work.train.examples))
    train = Part(tuple(work.train.examples[n] for n in np.sort(order[:ENOUGH])))
    test, objective = work.test, work.objective
    is_embedding = objective.kind == "embedding"
    if is_embedding and len(test.examples) > _SEARCHED:
        raise ConversionError(f"there are over {_SEARCHED:,} held out")
    # Of a part of the classes to come the nearest would be too easily right.
    count = len(test.examples) if is_embedding else ENOUGH
    places = drawn(objective, work.truth(test), count, seed=work.seed)
    test = Part(tuple(test.examples[n] for n in places))
    x, asked = _random_features(work, found, (train, test))
    y = work.truth(train)
    few = objective.renumbered(y)
    said = closed_form(x, few, asked, train.groups, objective, work.seed)
    return Baseline(objective.original(said, y), places)


def _random_features(work: Work, found: Probe, parts: Sequence[Part]) -> list[Rows]:
    if work.dataset.modality == "text":
        from finetuning.tuning import scratch

        backbone = scratch.fresh(work)
        return [embeddings(backbone, [item.text for item in part.examples]) for part in parts]
    base = msgspec.structs.replace(work.base.manifest.record, preprocess=found.framing.preprocess)
    name = "random_weights"
    features = extract(
        [item for part in parts for item in part.examples],
        {name: random_weights(base, work.seed)},
        work.cache,
        lambda _: None,
    )
    return [features.of(name, EMBEDDING, part.examples) for part in parts]


def add_from_scratch(
    work: Work,
    found: Probe,
    seconds: float | None,
    said: dict[str, Baseline],
    absent: dict[str, str],
) -> None:
    """Add what the network says that was trained from nothing, or why there is none."""
    from finetuning.tuning import scratch

    try:
        said["from_scratch"] = Baseline(scratch.answers(work, found, seconds))
    except TlhubError as error:  # a run is not lost for what stands beside it
        absent["from_scratch"] = error.message


def closed_form(
    x: Rows, y: Truth, asked: Rows, groups: Sequence[str], objective: Objective, seed: int
) -> NDArray[Any]:
    """What the best of LDA, ridge regression and neighbors says by features, by evidence."""
    found = heads.evidence(x, y, groups, seed=seed, methods=heads.CLOSED, objective=objective)
    best = found.best
    if objective.kind != "embedding":
        near = found.tried[-1] if found.tried else None
        if best is None or near is None or near.score > best.score:
            count = 1 if near is None else int(near.strength or 1)
            return objective.said(heads.neighbors(x, objective.columns(y), asked, count))
    method = best.method if best else heads.METHODS[objective.kind][0]
    strength = best.strength if best else None
    head = heads.fit(x, y, method=method, strength=strength, objective=objective)
    return objective.said(head.logits(asked))


def bag_of_words(
    texts: Sequence[str], y: Truth, asked: Sequence[str], objective: Objective, seed: int
) -> NDArray[Any]:
    """What a linear model says by TF-IDF of words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=_WORD)
    try:
        x = words.fit_transform(texts)
    except ValueError:  # no text has a word
        return objective.always(y, len(asked))
    return objective.of_words(x, y, words.transform(asked), seed=seed)


def pixels() -> Extractor:
    """The picture itself, 32 x 32 RGB in 0..1, as features (3072,)."""
    return Extractor({PIXELS: key_of("pixels", str(_SIDE))}, lambda: _thumbnails)


def random_weights(record: ModelRecord, seed: int) -> Extractor:
    """Features of the record's architecture with fresh random weights, by torch.

    Opening it raises ConversionError where torch has no such architecture.
    """
    versions = [version(name) for name in ("torch", "torchvision", "timm")]
    key = key_of("random", *versions, str(seed), encode(record).decode())
    return Extractor({EMBEDDING: key}, lambda: _random(record, seed))


def embeddings(backbone: TorchBackbone, texts: Sequence[str]) -> Rows:
    """What a network says of texts, float32 (N, D), by torch."""
    from converters.text_front import TextFront

    front = backbone.front
    if not isinstance(front, TextFront):
        raise TypeError("a network of pictures was given texts")
    batches = (front.given(texts[start : start + _TEXTS]) for start in range(0, len(texts), _TEXTS))
    return np.concatenate([backbone.expected(batch)[EMBEDDING] for batch in batches])


def _thumbnails(images: Sequence[Content], _: Sequence[str]) -> Mapping[str, Rows]:
    return {PIXELS: np.stack([_thumbnail(image) for image in images])}


def _thumbnail(image: Content) -> Rows:
    small = Image.fromarray(np.asarray(image)).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).ravel() / np.float32(255)


def _random(record: ModelRecord, seed: int) -> Extract:
    import torch

    from converters.registry import random_backbone

    backbone = random_backbone(record, seed)
    backbone.module.to(memory_format=torch.channels_last)

    def extract(images: Sequence[Content], _: Sequence[str]) -> Mapping[str, Rows]:
        # One image keeps few cores busy, and every layer waits for the last of them.
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads // 2))
        try:
            return {EMBEDDING: backbone.features([np.asarray(image) for image in images])}
        finally:
            torch.set_num_threads(threads)

    return extract
