"""The family an architecture belongs to, read from its name, and what the family is known for.

A record's `family` and the tags from here are always marked as derived.
"""

from __future__ import annotations

import re

# Prefixes that say who ported a network or what was varied, not what it is.
_VARIANTS = re.compile(r"^(?:(?:quantized|legacy|tf|test|gc|dm|nf|eca|ese|bat|wide)_)+")

# The first pattern found at the start of the name (see `family_of`) names the family.
_FAMILIES: tuple[tuple[str, str], ...] = (
    ("efficientnet-lite", r"efficientnet_lite"),
    ("efficientnet", r"efficientnet"),
    ("efficientformer", r"efficientformer"),
    ("efficientvit", r"efficientvit"),
    ("mobilenet", r"mobilenet"),
    ("mobilevit", r"mobilevit"),
    ("mobileone", r"mobileone"),
    ("mnasnet", r"(?:se)?mnasnet|spnasnet"),
    ("fbnet", r"fbnet"),
    ("lcnet", r"lcnet"),
    ("mixnet", r"mixnet"),
    ("tinynet", r"tinynet"),
    ("ghostnet", r"ghostnet"),
    ("repghost", r"repghost"),
    ("shufflenet", r"shufflenet"),
    ("squeezenet", r"squeezenet"),
    ("resnext", r"(?:se|sk|gc|cs)?resnext|(?:bot|halo|coat)next"),
    ("resnet", r"(?:se|sk|gc|cs|eca)?resnet|res2net|resnest|res2next"),
    ("regnet", r"regnet"),
    ("convnext", r"convnext"),
    ("densenet", r"densenet"),
    ("inception", r"inception|googlenet"),
    ("xception", r"xception"),
    ("vgg", r"vgg"),
    ("repvgg", r"repvgg"),
    ("swin", r"swin"),
    ("deit", r"deit"),
    ("beit", r"beit"),
    ("eva", r"eva"),
    ("clip", r".*_clip(?:_|$)"),
    ("vit", r"vit_|flexivit|vitamin|vit$"),
    ("tinyvit", r"tiny_vit"),
)

# Families of models of text and sound, by a word in their names; the more specific first.
_IN_NAMES = (
    *("colbert", "colpali", "colqwen", "colsmol", "splade", "siglip", "clip", "dinov2", "dinov3"),
    *("e5", "bge", "gte", "stella", "jina", "nomic", "arctic-embed", "mxbai", "granite", "gritlm"),
    *(
        "llm2vec",
        "potion",
        "model2vec",
        "labse",
        "sonar",
        "simcse",
        "modernbert",
        "minilm",
        "mpnet",
    ),
    *("gemma", "qwen3", "qwen2", "qwen", "llama", "mistral", "roberta", "deberta", "bert", "t5"),
    *("whisper", "wav2vec2", "hubert", "wavlm", "clap", "blip", "data2vec", "align"),
)

_MOBILE = frozenset(
    [
        "cpubone",
        "edgenext",
        "efficientformer",
        "efficientnet-lite",
        "fasternet",
        "fbnet",
        "ghostnet",
        "hardcorenas",
        "lcnet",
        "lowformer",
        "mixnet",
        "mnasnet",
        "mobilenet",
        "mobileone",
        "mobilevit",
        "repghost",
        "repvit",
        "shufflenet",
        "shvit",
        "squeezenet",
        "starnet",
        "swiftformer",
        "tinynet",
    ]
)


def family_of(architecture: str) -> str:
    """The family of an architecture as timm or torchvision spell it: ``tf_efficientnet_lite0``."""
    name = architecture.lower()
    for candidate in (name, _VARIANTS.sub("", name)):
        for family, pattern in _FAMILIES:
            if re.match(pattern, candidate):
                return family
    letters = re.match(r"[a-z]+?(?=v\d|[^a-z]|$)", _VARIANTS.sub("", name))
    return letters[0] if letters else name


def family_in(name: str) -> str | None:
    """The family that a name such as ``multilingual-e5-small`` has a word of."""
    words = name.lower()
    for pattern in (r"(?<![a-z]){}(?![a-z])", r"(?<![a-z]){}", r"{}"):
        for family in _IN_NAMES:
            if re.search(pattern.format(re.escape(family)), words):
                return family
    return None


def tags_of(family: str, architecture: str) -> tuple[str, ...]:
    """What the family is known for: ``mobile`` was designed to run on phones and small boards."""
    found = set()
    if family in _MOBILE or "edgetpu" in architecture:
        found.add("mobile")
    if "clip" in architecture:
        found.add("clip")
    if family in {"vit", "deit", "beit", "swin", "eva", "clip"} and "resnet" not in architecture:
        found.add("transformer")
    return tuple(sorted(found))
