"""Data sets as publishers write them -> one identifier for each, as on the Hugging Face hub."""

from __future__ import annotations

import re

# Read in order on what is written, in lower case with `-` for `_` and blanks.
_NAMED: tuple[tuple[str, str], ...] = (
    (r"^imagenet-?(?:21k|22k)", "imagenet-21k"),
    (r"^(?:imagenet|ilsvrc)(?!.*colori)", "imagenet-1k"),
    (r"^(?:ms-?)?coco(?:-?20\d\d|-|91class|body|wholebody|captions|$)", "coco"),
    (r"^(?:detection-datasets/)coco", "coco"),
    (r"^(?:pascal-?)?voc-?2007", "pascal-voc-2007"),
    (r"^(?:pascal-?)?voc", "pascal-voc-2012"),
    (r"^cityscapes", "cityscapes"),
    (r"^ade(?:20k|challengedata)", "ade20k"),
    (r"^camvid", "camvid"),
    (r"^kinetics-?400", "kinetics-400"),
    (r"^wider", "wider-face"),
    (r"^market-?1501", "market-1501"),
    (r"^mini-?librispeech", "mini-librispeech"),
    (r"^libri-?speech", "librispeech"),
    (r"^libri-?tts", "libritts"),
    (r"^lj-?speech", "ljspeech"),
    (r"^squad", "squad"),
    (r"^nyu-?(?:depth-?)?v2", "nyu-depth-v2"),
    (r"^lfw", "lfw"),
    (r"^svt", "svt"),
    (r"^icdar-?(?:20)?(\d\d)", r"icdar-20\1"),
    (r"^conll-?2003", "conll2003"),
    (r"^hifitts|^hi-fi-tts", "hi-fi-tts"),
    (r"^semantic-?kitti", "semantic-kitti"),
    (r"^nuscenes?$", "nuscenes"),
    (r"^common-voice|^cv$", "common-voice"),
    (r"^mnist", "mnist"),
)

# What prose calls them.
_IN_TEXT: tuple[tuple[str, str], ...] = (
    (r"ImageNet[- ]?(?:21|22)[kK]", "imagenet-21k"),
    (r"ImageNet(?![- ]?2[12][kK])|ILSVRC", "imagenet-1k"),
    (r"\bCOCO\b|Common Objects in Context", "coco"),
    (r"VOC ?\*?2007", "pascal-voc-2007"),
    (r"VOC ?\*?2012", "pascal-voc-2012"),
    (r"Cityscapes", "cityscapes"),
    (r"ADE20[kK]", "ade20k"),
    (r"CamVid", "camvid"),
    (r"Kinetics[- ]?400", "kinetics-400"),
    (r"WIDER ?F(?:ACE|ace)", "wider-face"),
    (r"Market-?1501", "market-1501"),
    (r"Multilingual LibriSpeech", "multilingual-librispeech"),
    (r"(?<!Multilingual )(?:LibriSpeech|Librispeech)", "librispeech"),
    (r"Libri-Light|Libri-light", "libri-light"),
    (r"LibriTTS", "libritts"),
    (r"Libri2Mix", "libri2mix"),
    (r"LJ ?Speech", "ljspeech"),
    (r"HiFi-?TTS|HIFITTS|HiFITTS", "hi-fi-tts"),
    (r"VCTK", "vctk"),
    (r"VoxPopuli", "voxpopuli"),
    (r"Common ?-?Voice", "common-voice"),
    (r"MUSDB", "musdb"),
    (r"BABEL", "babel"),
    (r"VoxLingua107", "voxlingua107"),
    (r"GigaSpeech", "gigaspeech"),
    (r"SQuAD", "squad"),
    (r"NYU[- ]Depth[- ]V2", "nyu-depth-v2"),
    (r"MS-?Celeb-?1M|MS1M", "ms-celeb-1m"),
    (r"CASIA-WebFace", "casia-webface"),
    (r"VGGFace2", "vggface2"),
    (r"\bMNIST\b", "mnist"),
    (r"LibriMix", "librimix"),
)


def dataset_id(name: str) -> str:
    """The identifier of a data set: ``imagenet_1000_classes`` is ``imagenet-1k``."""
    plain = re.sub(r"[\s_]+", "-", name.strip().lower())
    for pattern, found in _NAMED:
        if match := re.match(pattern, plain):
            return match.expand(found)
    return re.sub(r"[^a-z0-9.+]+", "-", plain).strip("-")


def dataset_of_hub(repository: str) -> str:
    """The identifier of a data set on the hub: `ILSVRC/imagenet-1k` is `imagenet-1k`.

    Only a repository that is called exactly as a well-known data set is taken for it.
    """
    owner, _, name = repository.strip().rpartition("/")
    if not owner or name.lower() in {found for _, found in _NAMED}:
        return dataset_id(name)
    return repository.strip()


def datasets_in(text: str) -> tuple[str, ...]:
    """The well-known data sets that a text names, in the order of its naming them."""
    hits = [(m.start(), found) for p, found in _IN_TEXT if (m := re.search(p, text))]
    return tuple(dict.fromkeys(found for _, found in sorted(hits)))
