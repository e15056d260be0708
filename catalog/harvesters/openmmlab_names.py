"""What the names of OpenMMLab's configurations say: `mask-rcnn_r50_fpn_1x_coco`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from catalog.families import family_of
from catalog.record import Evaluation

# Whole words of names that say what was trained on; with None the word is its name.
_DATASETS: tuple[tuple[str, str | None], ...] = (
    (r"(?:ft-)?in1k(?:-pre)?|imagenet(?:1k)?", "imagenet-1k"),
    (r"in21k|imagenet22k", "imagenet-21k"),
    (r"cifar100", "cifar-100"),
    (r"cifar10", "cifar-10"),
    (r"(?:facebook-)?(?:kinetics-?|k)400(?:-rgb)?", "kinetics-400"),
    (r"(?:kinetics-?|k)600(?:-rgb)?", "kinetics-600"),
    (r"(?:kinetics-?|k)700(?:-rgb)?", "kinetics-700"),
    (r"(?:kinetics-?|k)710(?:-rgb)?", "kinetics-710"),
    (r"mitv1(?:-rgb)?", "moments-in-time-v1"),
    (r"sthv1(?:-rgb)?", "something-something-v1"),
    (r"sthv2(?:-rgb)?", "something-something-v2"),
    (r"voc(?:07|0712|2007|2012)?", "pascal-voc"),
    (r"openimages\w*", "open-images"),
    (r"cityscapes", "cityscapes"),
    (r"ade20k", "ade20k"),
    (r"coco", "coco"),
    (r"crowdhuman", "crowdhuman"),
    (r"(?:objects|obj|o)365(?:-.*)?", "objects365"),
    (r"imagenetvid", "imagenet-vid"),
    (r"places", "places365"),
    (r"comp1k", "composition-1k"),
    (r"refcoco", "refcoco"),
    (r"cub", "cub-200-2011"),
    (
        r"facades|horse2zebra|summer2winter|edges2shoes|metfaces|lasot|mot\d\d(?:-half)?|lsun-\w+|df2k",
        None,
    ),
    (r"div2k", "div2k"),
    (r"df2k-?os(?:t)?", "df2k-ost"),
    (r"reds4?", "reds"),
    (r"vimeo-?90k(?:-b[id])?", "vimeo-90k"),
    (r"celeba-?hq", "celeba-hq"),
    (r"celeba(?:-cropped)?", "celeba"),
    (r"ffhq", "ffhq"),
    (r"gopro", "gopro"),
    (r"nus-\w+", "nuscenes"),
    (r"nuim", "nuimages"),
    (r"synthtext", "synthtext"),
    (r"sa1b", "sa-1b"),
    (r"activitynet(?:-.*)?", "activitynet-v1.3"),
)
# A word that speaks of the training run: from there on a name no longer says what the model is.
_RUN = re.compile(
    r"(?:\d+x\w*b\d+|\d+x\d+(?:x\d+)*|\d+x|\d+e|\d+k|b\d+x\d+|ms|mstrain|amp|fp16|3rdparty|ft|u\d+)"
    r"(?:-.*)?|.*-\d+x\w*b\d+.*|in\d+k.*|.*-pre|.*-pretrained-(?!r|swin|mobile).*|bs\d+|\d+px"
)
_CLASSES = {
    ("image-classification", "imagenet-1k"): 1000,
    ("image-classification", "cifar-10"): 10,
    ("image-classification", "cifar-100"): 100,
    ("image-classification", "cub-200-2011"): 200,
    ("image-classification", "stanford-cars"): 196,
    ("video-classification", "kinetics-400"): 400,
    ("video-classification", "kinetics-600"): 600,
    ("video-classification", "kinetics-700"): 700,
    ("video-classification", "something-something-v1"): 174,
    ("video-classification", "something-something-v2"): 174,
    ("video-classification", "ucf101"): 101,
    ("video-classification", "hmdb51"): 51,
    ("object-detection", "coco"): 80,
    ("image-segmentation", "coco"): 80,
    ("image-segmentation", "ade20k"): 150,
    ("image-segmentation", "cityscapes"): 19,
    ("image-segmentation", "pascal-voc-2012-aug"): 21,
    ("image-segmentation", "loveda"): 7,
}
# What the heads of a task and a data set are known by, lest a region proposer get 80 classes.
_HEADS = {"top1", "box_map", "mask_map", "mean_iou"}


def dataset_in(name: str) -> str | None:
    """The data set that the last fitting word of a name stands for."""
    for word in reversed(name.lower().split("_")):
        short = re.sub(r"(?:-\d+(?:x\d+|px)?)+$", "", word)
        for pattern, found in _DATASETS:
            match = re.fullmatch(pattern, word) or re.fullmatch(pattern, short)
            if match:
                return found or match[0]
    return None


def size_in(name: str) -> tuple[int, int] | None:
    """Height and width from `…-512x1024`, `…_384px`, `…-384` or `ssd300`."""
    pairs = re.findall(r"(?<![\dx])(\d{2,4})x(\d{2,4})(?![\dx])", name)
    fit = [(int(h), int(w)) for h, w in pairs if int(h) >= 28 and int(w) >= 28]
    if fit:
        return fit[-1]
    sides = re.findall(r"[-_](\d{2,4})px", name) or re.findall(
        r"(?:in\d+k-|res|ssd|608-|ft_)(\d{3})(?:$|[-_])", name
    )
    return (int(sides[0]), int(sides[0])) if sides else None


def architecture_of(name: str) -> str:
    """The start of a name, up to how it was trained: `pspnet_r50-d8`."""
    first, *words = name.removesuffix(".py").split("_")
    kept = [first]
    for word in words:
        word = re.sub(r"^(?:imagenet|kinetics400)-pretrained-", "", word)
        if _RUN.fullmatch(word) or dataset_in(word):
            break
        kept.append(word)
    return "_".join(kept)


def family_of_name(architecture: str, source: str) -> str:
    """The family of what classifies, or the method that detects, segments or tracks."""
    name = re.sub(r"^(?:hv|rotated|oriented|topdown_heatmap|td-\w+)_", "", architecture.lower())
    word = re.sub(r"^res(?=\d+$)", "resnet", name.partition("_")[0])
    if "rcnn" in word or "detr" in word:
        return word.replace("-", "")
    if source in {"mmpretrain", "mmcls", "mmselfsup"}:
        return family_of(word.replace("-", "_"))
    match = re.match(r"[a-z]+?(?=v\d|\d\d|\d?[^a-z\d]|\d?$)|[a-z]+\d[a-z]+", word)
    return match[0] if match else word


def classes_of(task: str | None, dataset: str | None, evals: Iterable[Evaluation]) -> int | None:
    """The size of the head that was evaluated on the data set it was trained for."""
    metrics = {item.metric_type for item in evals if item.dataset == dataset}
    return _CLASSES.get((task or "", dataset or "")) if metrics & _HEADS else None


def unfit(name: str, url: str) -> int:
    """How many words of a name, up to what it is tested on, are not in an address."""
    address = set(_words(url))
    return sum(word not in address for word in _words(name.partition("_test-")[0]))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+\d*|\d+[a-z\d]*", text.lower())
