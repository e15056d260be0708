from __future__ import annotations

from pathlib import Path

import pytest
from unpacked import unpacked

from catalog.harvesters.torchgeo import harvest

REVISION = "ab" * 20
MODELS = f"""\
_bands = ["B1", "B2"]
_meta = {{"dataset": "Weather", "license": "MIT"}}
_transforms = nn.Sequential(T.Resize((256, 256)), T.CenterCrop(224), T.Normalize(mean=[0]))


class ResNet18_Weights(WeightsEnum):
    SENTINEL_MOCO = Weights(
        url="https://hf.co/foo/bar/resolve/{REVISION}/net-0123abcd.pth",
        transforms=_transforms,
        meta={{
            "dataset": "SSL4EO-S12, fMoW Dataset",
            "in_chans": 4,
            "model": "resnet50",
            "publication": "https://arxiv.org/abs/2101.00001",
            "ssl_method": "moco",
            "bands": _bands,
            "unknown": call(),
        }},
    )
    BROKEN = Weights(transforms=_transforms)
    NO_META = Weights(url="https://example.org/x.pth", meta=call())


class Aurora_Weights(WeightsEnum):
    BASE = Weights(
        url="https://example.org/aurora.ckpt",
        transforms=_transforms,
        meta=_meta | {{"model": "AuroraBase"}},
    )


class Unet_Weights(WeightsEnum):
    FIELDS = Weights(
        url="https://example.org/unet.pth",
        transforms=nn.Identity(),
        meta={{"model": "U-Net", "in_chans": 8, "num_classes": 2, "license": "non-commercial"}},
    )
"""


def test_weights_enums_are_read_from_their_source(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files: dict[str, str | bytes] = {
        "torchgeo/models/foo.py": MODELS,
        "torchgeo/models/latin.py": b"# caf\xe9",
    }
    records = {r.uid: r for r in harvest(unpacked(tmp_path, "torchgeo", files, "MIT"))}
    assert len(records) == 3
    net = records["torchgeo/ResNet18_Weights.SENTINEL_MOCO"]
    assert net.architecture == "resnet18"  # that of the enum, whatever `meta` says
    assert net.input_size == (4, 224, 224)
    assert net.params == 11_689_512 - 513_000 + 64 * 49  # no head, a channel more
    assert net.gmacs == pytest.approx(1.85, abs=0.05)
    assert [d.id for d in net.source_datasets] == ["ssl4eo-s12", "fmow"]
    assert net.paper_ids == ("2101.00001",)
    assert {"remote-sensing", "self-supervised", "moco"} <= set(net.tags)
    (artifact,) = net.artifacts
    assert artifact.urls[0] == f"hf:foo/bar@{REVISION}!net-0123abcd.pth"
    assert artifact.digest is not None
    assert artifact.digest.prefix
    assert net.license is not None
    assert net.license.scope == "project"
    weather = records["torchgeo/Aurora_Weights.BASE"]
    assert (weather.task, weather.family, weather.tags) == (None, "aurora", ("weather",))
    assert weather.license is not None
    assert weather.license.scope == "weights"
    fields = records["torchgeo/Unet_Weights.FIELDS"]
    assert (fields.task, fields.num_classes) == ("image-segmentation", 2)
    assert fields.license is not None
    assert fields.license.commercial == "no"
    for name in ("ResNet18_Weights.BROKEN", "ResNet18_Weights.NO_META", "latin.py"):
        assert name in caplog.text
