"""open_clip's pretrained tags, on some of our own."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from catalog.errors import DataError
from catalog.harvesters import open_clip
from catalog.record import ModelRecord

DIGEST = "0123456789abcdef" * 4
CONSTANTS = "MEAN = (0.1, 0.2, 0.3)\nSTD = (0.4, 0.5, 0.6)\n"
CONFIGS = f"""
from .constants import MEAN, STD
def _pcfg(url='', hf_hub='', **kwargs):
    return {{'url': url, 'hf_hub': hf_hub, 'mean': MEAN, 'std': STD,
        'interpolation': 'bicubic', 'resize_mode': 'shortest', **kwargs}}
_TOY = dict(
    openai=_pcfg(url="https://openaipublic.azureedge.net/clip/models/{DIGEST}/Toy.pt",
        hf_hub="timm/toy_clip.openai/", quick_gelu=True),
    laion400m_e32=_pcfg(
        url="https://github.com/mlfoundations/open_clip/releases/x/toy-46683a32.pt",
        hf_hub="timm/toy_clip.openai/"),
    laion2b_s1b=_pcfg(hf_hub="toys/CLIP-toy/", resize_mode='squash'),
    nowhere=_pcfg(),
    computed=load(),
)
_PRETRAINED = {{"ViT-Toy": _TOY, "Odd": odd()}}
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    (tmp_path / "open_clip_torch-9.9.dist-info").mkdir()
    (tmp_path / "open_clip_torch-9.9.dist-info/METADATA").write_text(
        "Name: open_clip_torch\nVersion: 9.9\nLicense: MIT\n"
    )
    folder = tmp_path / "open_clip"
    (folder / "model_configs").mkdir(parents=True)
    (folder / "pretrained.py").write_text(CONFIGS)
    (folder / "constants.py").write_text(CONSTANTS)
    shape = {"embed_dim": 512, "vision_cfg": {"image_size": 240}}
    (folder / "model_configs/ViT-Toy.json").write_text(json.dumps(shape))
    (folder / "latin.py").write_bytes(b"# \xe9")
    return tmp_path


def harvested(wheel: Path, **tables: Path) -> dict[str, ModelRecord]:
    return {record.uid: record for record in open_clip.harvest(wheel, **tables)}


def test_a_tag_is_a_record(wheel: Path) -> None:
    found = harvested(wheel)
    assert list(found) == [
        "open_clip/ViT-Toy/openai",
        "open_clip/ViT-Toy/laion400m_e32",
        "open_clip/ViT-Toy/laion2b_s1b",
    ]
    record = found["open_clip/ViT-Toy/laion2b_s1b"]
    assert record.hf_hub_id == "toys/CLIP-toy"
    assert record.artifacts[0].urls == ("hf:toys/CLIP-toy@main!open_clip_model.safetensors",)
    assert (record.input_size, record.embed_dim) == ((3, 240, 240), 512)
    assert record.preprocess is not None
    assert (record.preprocess.mean, record.preprocess.resize_mode) == ((0.1, 0.2, 0.3), "squash")
    assert [d.id for d in record.source_datasets] == ["laion-2b"]


def test_digests_are_read_from_urls_as_open_clip_does(wheel: Path) -> None:
    found = harvested(wheel)
    full = found["open_clip/ViT-Toy/openai"].artifacts[1].digest
    short = found["open_clip/ViT-Toy/laion400m_e32"].artifacts[0].digest
    assert full is not None
    assert (full.value, full.prefix) == (DIGEST, False)
    assert short is not None
    assert (short.value, short.prefix) == ("46683a32", True)


def test_a_repository_of_timm_or_of_another_tag_does_not_identify(wheel: Path) -> None:
    found = harvested(wheel)
    assert found["open_clip/ViT-Toy/openai"].hf_hub_id is None
    assert len(found["open_clip/ViT-Toy/openai"].artifacts) == 2
    assert len(found["open_clip/ViT-Toy/laion400m_e32"].artifacts) == 1


def test_tables_of_the_project_are_joined(wheel: Path, tmp_path: Path) -> None:
    profile, results = tmp_path / "profile.csv", tmp_path / "results.csv"
    profile.write_text("model,mparams,gflops\nViT-Toy,151.28,14.78\n")
    results.write_text("name,pretrained,ImageNet 1k\nViT-Toy-quickgelu,openai,0.6332\n")
    found = harvested(wheel, profile=profile, results=results)
    record = found["open_clip/ViT-Toy/openai"]
    assert (record.params, record.gmacs) == (151_280_000, 7.39)  # two operations a MAC
    assert record.top1 == 63.32
    assert not found["open_clip/ViT-Toy/laion2b_s1b"].evals
    with pytest.raises(DataError, match="openclip_results"):
        harvested(wheel, results=profile)


def test_broken_tags_are_named(wheel: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        harvested(wheel)
    for name in ("nowhere", "computed", "Odd"):
        assert name in caplog.text
