"""What the same data give without transfer, on the same split: the measure of what it bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

import numpy as np
from PIL import Image

from catalog.record import ModelRecord, encode
from converters.interface import EMBEDDING
from finetuning import heads
from finetuning.calibration import Labels
from finetuning.features import Content, Extract, Extractor, Rows, key_of

PIXELS = "pixels"
ENOUGH = 200  # examples to learn from and to test random weights on
_SIDE = 32
_WORD = r"(?u)\b\w+\b"  # of one letter too


def majority(train: Labels, count: int) -> Labels:
    """Always the most frequent training class."""
    return np.full(count, np.bincount(train).argmax(), np.int64)


def closed_form(x: Rows, y: Labels, asked: Rows, groups: Sequence[str], seed: int) -> Labels:
    """What the best of LDA, ridge regression and neighbors makes of features, by evidence."""
    found = heads.evidence(x, y, groups, seed=seed, methods=(heads.LDA, heads.RIDGE))
    if found.best is None:
        return heads.neighbors(x, y, asked, 1)
    near = found.tried[-1]
    if near.accuracy > found.best.accuracy and near.strength is not None:
        return heads.neighbors(x, y, asked, int(near.strength))
    head = heads.fit(x, y, method=found.best.method, strength=found.best.strength)
    return head.predict(asked)


def bag_of_words(texts: Sequence[str], y: Labels, asked: Sequence[str], seed: int) -> Labels:
    """Logistic regression on TF-IDF of words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=_WORD)
    try:
        x = words.fit_transform(texts)
    except ValueError:  # no text has a word
        return majority(y, len(asked))
    model = LogisticRegression(C=10, max_iter=1000, random_state=seed).fit(x, y)
    said: Labels = model.predict(words.transform(asked))
    return said


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
