"""Words that people type -> the words of the catalog, and words that say nothing."""

from __future__ import annotations

# Words that say nothing about which model is meant.
STOP_WORDS = frozenset(
    [
        "a",
        "ai",
        "an",
        "and",
        "any",
        "best",
        "for",
        "from",
        "good",
        "in",
        "is",
        "mine",
        "model",
        "models",
        "my",
        "network",
        "networks",
        "neural",
        "of",
        "on",
        "or",
        "pretrained",
        "some",
        "that",
        "the",
        "to",
        "use",
        "using",
        "weights",
        "which",
        "with",
    ]
)

# Those of them that stand inside what is said: `remove the background`.
ARTICLES = frozenset(["a", "an", "my", "the"])

# A word -> other words that mean it in the names of models.
WORD_SYNONYMS: dict[str, tuple[str, ...]] = {
    "b": ("base",),
    "base": ("b",),
    "g": ("giant",),
    "giant": ("g",),
    "h": ("huge",),
    "huge": ("h",),
    "l": ("large",),
    "large": ("l",),
    "s": ("small",),
    "small": ("s",),
    "t": ("tiny",),
    "ti": ("tiny",),
    "tiny": ("t", "ti"),
    "edge": ("mobile",),
    "embedded": ("mobile",),
    "phone": ("mobile",),
    "smartphone": ("mobile",),
    "int8": ("quantized",),
    "photo": ("image",),
    "picture": ("image",),
    "vision": ("image",),
    "googlenet": ("inception",),
    "imagenet1k": ("in1k",),
    "imagenet21k": ("in21k",),
    "handwriting": ("handwritten",),
    "int4": ("quantized",),
    "reid": ("reidentification",),
    "reidentification": ("reid",),
    "nano": ("n",),
    "n": ("nano",),
    "m": ("medium",),
    "medium": ("m",),
    "xlarge": ("x", "xl"),
    "xl": ("xlarge", "x"),
    "light": ("small", "lite", "mobile"),
    "lightweight": ("small", "lite", "mobile"),
    "compact": ("small",),
    "little": ("small",),
    "big": ("large", "l"),
    "android": ("mobile",),
    "iphone": ("mobile",),
    "ios": ("mobile",),
    "raspberry": ("mobile",),
    "jetson": ("mobile",),
    "many": ("multilingual", "multi"),
    "multilingual": ("multi",),
    "multi": ("multilingual",),
    "licence": ("license",),
    "colour": ("color",),
    "greyscale": ("gray",),
    "recognize": ("recognition",),
    "recognise": ("recognition",),
    "recognizer": ("recognition",),
    "2x": ("x2",),
    "3x": ("x3",),
    "4x": ("x4",),
    "8x": ("x8",),
    "pascal": ("voc", "pascalvoc"),
    "people": ("person",),
    "human": ("person",),
    "automobile": ("car", "vehicle"),
    "car": ("vehicle",),
    "mood": ("emotion",),
    "expression": ("emotion",),
}

# Ends of the names of networks that say what they are made after.
STEMS = ("bert", "gan", "rcnn")


def singular(word: str) -> str:
    """The word without a plural `s`: ``classifiers`` is ``classifier``."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] not in "su" else word
