"""How the zoos that are pages of tables name things: their columns, tasks, data sets, licenses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from catalog.record import License, Modality

_Kind = tuple[str, str | None, Modality, str | None]
_Size = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Zoo:
    """A repository, where its tables are and what they mean.

    Patterns of ``kinds``, ``datasets``, ``sizes`` and ``left_out`` are searched in the page, the
    headings and the name of a row; the first that is found counts. Columns are named by patterns
    of their titles, metrics by whole titles in lower case without blanks.
    """

    repository: str
    framework: str
    pages: tuple[str, ...]
    kinds: tuple[_Kind, ...]  # pattern, task, modality, tag
    datasets: tuple[tuple[str, tuple[str, ...], tuple[str, ...], str], ...]  # first, then, tested
    metrics: Mapping[str, str]
    weights: str = r"\.(?:pkl|pyth|pth|torch|pt|pth\.tar)$"
    names: tuple[tuple[str, str], ...] = ()
    architecture: tuple[str, ...] = (r"^(?:name|model|architecture)$",)
    params: str = r"^(?:#?params|parameters)"
    operations: str = r"^g?flops"
    per_mac: int = 1
    size: str | None = None
    sizes: tuple[tuple[str, _Size], ...] = ()
    trained: str | None = None
    trained_names: Mapping[str, str] = field(default_factory=dict)
    licenses: tuple[tuple[str, License], ...] = ()  # of the weights, by page
    left_out: str = r"(?!)"
    format: str = "pytorch"


FAMILIES = (
    (r"mask2former|maskformer2", "mask2former"),
    (r"mask[ _-]?dino", "maskdino"),
    (r"densepose", "densepose"),
    (r"vitdet", "vitdet"),
    (r"mvit", "mvit"),
    (r"rev_vit", "vit"),
    (r"pointrend", "pointrend"),
    (r"tensormask", "tensormask"),
    (r"tridentnet", "tridentnet"),
    (r"panoptic[_-]?deeplab", "panopticdeeplab"),
    (r"panoptic_fpn", "panopticfpn"),
    (r"cascade_mask_rcnn", "cascademaskrcnn"),
    (r"mask_rcnn", "maskrcnn"),
    (r"keypoint_rcnn", "keypointrcnn"),
    (r"faster_rcnn", "fasterrcnn"),
    (r"fast_rcnn", "fastrcnn"),
    (r"slowfast_\d", "slowfast"),
    (r"r2plus1d", "r2plus1d"),
    (r"x3d", "x3d"),
    (r"i3d", "i3d"),
    (r"c2d", "c2d"),
    (r"csn_", "csn"),
    (r"slow(?:only)?_\d", "slow"),
    (r"yolox", "yolox"),
    (r"deitsmall|[_-]vit[_-]b", "vit"),
    (r"xcit", "xcit"),
    (r"/dino", "dino"),
    (r"detr(?:ex)?/|detr_|deta_", "detr"),
    (r"regnet", "regnet"),
    (r"resnext|\bX-\d+-\dx", "resnext"),
    (r"\bEN-B\d", "efficientnet"),
    (r"\bR-\d+-1x|[_/]rn?\d{2,3}|res(?:net)?\d{2,3}w?|[_/]resnet[_5]", "resnet"),
    (r"alexnet|caffenet", "alexnet"),
)

_VIDEO_METRICS = {
    "top1": "top1",
    "top5": "top5",
    "top130-view": "top1",
    "acc@1": "top1",
    "map": "map",
}
_KINETICS = (
    (r"ava/|AVA", ("kinetics-400",), ("ava",), "ava"),
    (
        r"(?i)ssv2|something",
        ("kinetics-400",),
        ("something-something-v2",),
        "something-something-v2",
    ),
    (r"(?i)charades", ("kinetics-400",), ("charades",), "charades"),
    (r"(?i)imagenet|in1k|rev_m?vit_[sb]$", ("imagenet-1k",), (), "imagenet-1k"),
    (r"k600", ("kinetics-600",), (), "kinetics-600"),
    (r"", ("kinetics-400",), (), "kinetics-400"),
)

ZOOS: dict[str, Zoo] = {
    "detectron2": Zoo(
        repository="facebookresearch/detectron2",
        framework="detectron2",
        pages=("MODEL_ZOO.md", "projects/*/README.md", "projects/DensePose/doc/*.md"),
        names=(
            (r"/detectron2/(.+?)/(?:f?\d+/)?model_\w+\.pkl$", r"\1"),
            (r"/(densepose/.+?)/(?:f?\d+/)?model_final_\w+\.pkl$", r"\1"),
        ),
        architecture=(r"^(?:name|method|maskhead)$", r"^backbone$"),
        kinds=(
            (r"(?i)densepose", "keypoint-detection", "image", "dense-pose"),
            (r"(?i)keypoint", "keypoint-detection", "image", None),
            (r"(?i)panoptic", "image-segmentation", "image", "panoptic-segmentation"),
            (
                r"(?i)SemanticSegmentation|DeepLab",
                "image-segmentation",
                "image",
                "semantic-segmentation",
            ),
            (
                r"(?i)mask|InstanceSegmentation|Cityscapes/",
                "image-segmentation",
                "image",
                "instance-segmentation",
            ),
            (r"", "object-detection", "image", None),
        ),
        datasets=(
            (r"DENSEPOSE_CSE.*Animal", ("lvis",), (), "densepose-lvis"),
            (r"(?i)densepose", ("densepose-coco",), (), "densepose-coco"),
            (r"PascalVOC", ("pascal-voc-2007", "pascal-voc-2012"), (), "pascal-voc-2007"),
            (r"(?i)cityscapes", ("cityscapes",), (), "cityscapes"),
            (r"LVIS", ("lvis",), (), "lvis"),
            (r"", ("coco",), (), "coco"),
        ),
        metrics={
            "boxap": "box_map",
            "apbox": "box_map",
            "maskap": "mask_map",
            "apmask": "mask_map",
            "segmap": "mask_map",
            "kp.ap": "keypoint_map",
            "pq": "panoptic_quality",
            "miou": "mean_iou",
            "ap": "box_map",
        },
        sizes=(
            (r"ViTDet|Large-Scale Jitter", (3, 1024, 1024)),
            (r"(?i)cityscapes", (3, 1024, 2048)),
            (r"PascalVOC|DeepLab", ()),
            (r"", (3, 800, 1333)),
        ),
        licenses=tuple(
            (
                page,
                License(
                    scope="weights",
                    spdx="CC-BY-SA-3.0",
                    raw="Creative Commons Attribution-ShareAlike 3.0",
                    url="https://creativecommons.org/licenses/by-sa/3.0/",
                    commercial="yes",
                ),
            )
            for page in ("MODEL_ZOO.md", "*/DENSEPOSE_IUV.md")
        ),
    ),
    "detrex": Zoo(
        repository="IDEA-Research/detrex",
        framework="detrex",
        pages=("projects/*/README.md", "docs/source/tutorials/Model_Zoo.md"),
        weights=r"^https://.*\.pth$",
        architecture=(r"^name$",),
        kinds=(
            (
                r"ADE20K Semantic",
                "image-segmentation",
                "image",
                "semantic-segmentation",
            ),
            (r"Panoptic", "image-segmentation", "image", "panoptic-segmentation"),
            (r"maskdino", "image-segmentation", "image", "instance-segmentation"),
            (r"", "object-detection", "image", None),
        ),
        datasets=(
            (r"_cityscapes", ("cityscapes",), (), "cityscapes"),
            (r"ADE20K", ("ade20k",), (), "ade20k"),
            (r"", ("coco",), (), "coco"),
        ),
        metrics={
            "boxap": "box_map",
            "apbox": "box_map",
            "ap": "box_map",
            "maskap": "mask_map",
            "pq": "panoptic_quality",
            "miou": "mean_iou",
        },
        trained=r"^pre-?train",
        trained_names={"IN1k": "imagenet-1k", "IN22k": "imagenet-21k"},
        sizes=((r"(?i)1280", (3, 1280, 1280)), (r"1536", (3, 1536, 1536)), (r"", (3, 800, 1333))),
    ),
    "mask2former": Zoo(
        repository="facebookresearch/Mask2Former",
        framework="mask2former",
        pages=("MODEL_ZOO.md",),
        names=(
            (r"/mask2former/(.+?)/model_final_\w+\.pkl$", r"\1"),
            (r"/([^/]+/[^/]+)/model_final_\w+\.pkl$", r"\1"),
        ),
        architecture=(r"^name$", r"^backbone$"),
        kinds=(
            (r"(?i)video", None, "video", "video-instance-segmentation"),
            (r"(?i)panoptic", "image-segmentation", "image", "panoptic-segmentation"),
            (r"(?i)instance", "image-segmentation", "image", "instance-segmentation"),
            (r"", "image-segmentation", "image", "semantic-segmentation"),
        ),
        datasets=(
            (r"(?i)2019", ("youtube-vis-2019",), (), "youtube-vis-2019"),
            (r"(?i)2021", ("youtube-vis-2021",), (), "youtube-vis-2021"),
            (r"(?i)cityscapes", ("cityscapes",), (), "cityscapes"),
            (r"(?i)ade20k", ("ade20k",), (), "ade20k"),
            (r"(?i)mapillary", ("mapillary-vistas",), (), "mapillary-vistas"),
            (r"", ("coco",), (), "coco"),
        ),
        metrics={"pq": "panoptic_quality", "ap": "mask_map", "miou": "mean_iou"},
        sizes=((r"(?i) coco", (3, 1024, 1024)), (r"(?i)cityscapes", (3, 1024, 2048))),
        licenses=(
            (
                "*",
                License(
                    scope="weights",
                    spdx="CC-BY-NC-4.0",
                    raw="Creative Commons Attribution-NonCommercial 4.0 International",
                    url="https://creativecommons.org/licenses/by-nc/4.0/",
                    commercial="no",
                ),
            ),
        ),
    ),
    "pycls": Zoo(
        repository="facebookresearch/pycls",
        framework="pycls",
        pages=("MODEL_ZOO.md",),
        names=((r"/([^/]+)_dds_\dgpu\.pyth$", r"\1"),),
        kinds=((r"", "image-classification", "image", None),),
        datasets=((r"", ("imagenet-1k",), (), "imagenet-1k"),),
        metrics={"error(top-1)": "top1_error"},
        sizes=(
            (r"EN-B1", (3, 240, 240)),
            (r"EN-B2", (3, 260, 260)),
            (r"EN-B3", (3, 300, 300)),
            (r"EN-B4", (3, 380, 380)),
            (r"EN-B5", (3, 456, 456)),
            (r"", (3, 224, 224)),
        ),
    ),
    "pytorchvideo": Zoo(
        repository="facebookresearch/pytorchvideo",
        framework="pytorchvideo",
        pages=("docs/source/model_zoo.md",),
        names=((r"/model_zoo/(.+)\.\w+$", r"\1"),),
        architecture=(r"^(?:arch|model)$", r"^depth$"),
        kinds=(
            (r"AVA", None, "video", "action-detection"),
            (r"", "video-classification", "video", None),
        ),
        datasets=_KINETICS,
        metrics=_VIDEO_METRICS,
    ),
    "slowfast": Zoo(
        repository="facebookresearch/SlowFast",
        framework="slowfast",
        pages=("projects/mvitv2/README.md", "projects/rev/README.md", "MODEL_ZOO.md"),
        names=(
            (r"/multigrid/model_zoo/(.+)\.\w+$", r"multigrid/\1"),
            (r"/model_zoo/(.+)\.\w+$", r"\1"),
            (r"/(?:rev|x3d_models|mvitv2_models)/(.+)\.\w+$", r"\1"),
        ),
        architecture=(r"^(?:architecture|name)$", r"^size$"),
        kinds=(
            (r"AVA", None, "video", "action-detection"),
            (r"(?i)imagenet", "image-classification", "image", None),
            (r"", "video-classification", "video", None),
        ),
        datasets=_KINETICS,
        metrics=_VIDEO_METRICS,
        size=r"^resolution$",
        sizes=((r"", (3, 224, 224)),),
    ),
    "vissl": Zoo(
        repository="facebookresearch/vissl",
        framework="vissl",
        pages=("MODEL_ZOO.md",),
        weights=r"/vissl/.*\.(?:torch|pth\.tar)$",
        names=(
            (r"/([^/]+)/model_(?:final|phase|iteration)[^/]*$", r"\1"),
            (r"/([^/]+)\.(?:torch|pth\.tar)$", r"\1"),
        ),
        architecture=(r"^model$",),
        kinds=(
            (r"> Supervised|emi-supervised", "image-classification", "image", None),
            (r"", "image-feature-extraction", "image", "self-supervised"),
        ),
        datasets=((r"", (), (), "imagenet-1k"),),
        metrics={
            "imagenettop-1acc.": "linear_probe_top1",
            "imagenettop-1linearacc.": "linear_probe_top1",
            "imagenetk-nnacc.": "knn_top1",
        },
        trained=r"^pretrain dataset",
        trained_names={
            "ImageNet": "imagenet-1k",
            "ImageNet-1K": "imagenet-1k",
            "ImageNet-22K": "imagenet-21k",
            "YFCC100M": "yfcc-100m",
            "Places205": "places205",
            "IG-1B public images, non EU": "instagram-1b",
            "Public Instagram Images": "instagram-1b",
        },
        sizes=((r"", (3, 224, 224)),),
    ),
    "yolox": Zoo(
        repository="Megvii-BaseDetection/YOLOX",
        framework="yolox",
        pages=("README.md",),
        weights=r"^https://github\.com/.*\.pth$",
        names=((r"/releases/download/([^/]+)/(\w+)\.pth$", r"\1/\2"),),
        kinds=((r"", "object-detection", "image", None),),
        datasets=((r"", ("coco",), (), "coco"),),
        metrics={"mapval0.5:0.95": "box_map"},
        per_mac=2,
        size=r"^size$",
    ),
}
