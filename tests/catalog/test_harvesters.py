from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from catalog.errors import DataError, UsageError
from catalog.harvesters import timm, torchvision, wheels
from catalog.harvesters.counting import count
from catalog.harvesters.registry import HARVESTERS, harvester
from catalog.record import ModelRecord, decode, encode
from catalog.tasks import TASKS

ROWS = """\
model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation
resnet50.a1_in1k,288,81.240,18.760,95.112,4.888,25.56,1.000,bicubic
resnet50.a1_in1k,224,80.382,19.618,94.598,5.402,25.56,0.950,bicubic
"""


@pytest.fixture(scope="module")
def from_timm() -> dict[str, ModelRecord]:
    return {r.uid: r for r in timm.harvest(count=False)}


@pytest.fixture(scope="module")
def from_torchvision() -> dict[str, ModelRecord]:
    return {r.uid: r for r in torchvision.harvest()}


def test_every_harvested_record_validates(
    from_timm: dict[str, ModelRecord], from_torchvision: dict[str, ModelRecord]
) -> None:
    records = [*from_timm.values(), *from_torchvision.values(), *wheels.harvest()]
    assert len(from_timm) > 1_700
    assert len(from_torchvision) >= 160
    for record in records:
        assert decode(encode(record)) == record
        assert record.task in TASKS or "optical-flow" in record.tags
        named = {field for item in record.provenance for field in item.fields}
        assert "task" in named
        assert "artifacts" in named or not record.artifacts


def test_resnet50_has_the_published_figures_from_both_sources(
    from_torchvision: dict[str, ModelRecord],
) -> None:
    said = from_torchvision["torchvision/resnet50.IMAGENET1K_V2"]
    (counted,) = timm.harvest(pattern="resnet50.a1_in1k")
    assert said.params == counted.params == 25_557_032
    assert said.gmacs == pytest.approx(4.09, abs=0.01)  # He et al.: 4.1; FLOPs would be 8.2
    assert counted.gmacs == pytest.approx(4.09, abs=0.01)
    assert counted.gmacs_at == (3, 224, 224)


def test_timm_says_what_is_said_and_marks_what_is_derived(
    from_timm: dict[str, ModelRecord],
) -> None:
    record = from_timm["timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"]
    assert [(d.id, d.role) for d in record.source_datasets] == [
        ("imagenet-21k", "pretrain"),
        ("imagenet-1k", "finetune"),
    ]
    assert record.license is not None
    assert (record.license.spdx, record.license.scope) == ("Apache-2.0", "weights")
    said, derived = record.provenance
    assert not said.derived
    assert "preprocess" in said.fields
    assert derived.derived
    assert {"task", "source_datasets", "family"} <= set(derived.fields)
    assert not set(said.fields) & set(derived.fields)


def test_timm_artifacts_are_the_safe_file_first_then_the_one_with_a_hash_in_its_name(
    from_timm: dict[str, ModelRecord],
) -> None:
    safe, pickled = from_timm["timm/resnet50.a1_in1k"].artifacts
    assert safe.urls == ("hf:timm/resnet50.a1_in1k@main!model.safetensors",)
    assert safe.safe is True
    assert pickled.safe is False
    assert pickled.digest is not None
    assert (pickled.digest.value, pickled.digest.prefix) == ("14fe96d1", True)


def test_a_head_that_gives_embeddings_is_no_classifier(from_timm: dict[str, ModelRecord]) -> None:
    record = from_timm["timm/vit_base_patch16_clip_quickgelu_224.openai"]
    assert record.task == "image-feature-extraction"
    assert record.num_classes is None
    assert record.also == ("timm/vit_base_patch16_clip_224.openai",)  # one repository, once


def test_results_are_joined_and_the_size_the_weights_are_used_at_comes_first(
    tmp_path: Path,
) -> None:
    table = tmp_path / "results.csv"
    table.write_text(ROWS)
    (record,) = timm.harvest(pattern="resnet50.a1_in1k", results=table, count=False)
    assert record.top1 == 80.382
    assert [e.value for e in record.evals if e.metric_type == "top1"] == [80.382, 81.24]
    assert record.provenance[-1].fields == ("evals",)


@pytest.mark.parametrize(
    "broken", ["model,top1\nresnet50.a1_in1k,80\n", ROWS.replace("81.240", "")]
)
def test_a_broken_results_table_is_refused_with_its_line(tmp_path: Path, broken: str) -> None:
    table = tmp_path / "results.csv"
    table.write_text(broken)
    with pytest.raises(DataError, match="line 2"):
        next(timm.harvest(results=table, count=False))


def test_counts_are_kept_between_builds(tmp_path: Path) -> None:
    kept = tmp_path / "counts.jsonl"
    first = list(timm.harvest(pattern="test_efficientnet.*", counts=kept))
    assert first[0].params
    kept.write_text(kept.read_text().replace(str(first[0].params), "12345"))
    assert next(timm.harvest(pattern="test_efficientnet.*", counts=kept)).params == 12345


def test_torchvision_preprocessing_resizes_to_what_its_transforms_say(
    from_torchvision: dict[str, ModelRecord],
) -> None:
    from torchvision import models

    checked = 0
    for record in from_torchvision.values():
        if record.preprocess is None or record.input_size is None:
            continue
        name = record.uid.rpartition(".")[2]
        said = models.get_model_weights(record.architecture)[name].transforms()
        side = record.input_size[-1]
        assert said.crop_size == [side]
        assert int(side / record.preprocess.crop_pct) == said.resize_size[0]
        checked += 1
    assert checked > 120


def test_torchvision_knows_tasks_quantized_twins_and_licenses(
    from_torchvision: dict[str, ModelRecord],
) -> None:
    tasks = {r.task for r in from_torchvision.values()}
    assert {"object-detection", "image-segmentation", "video-classification"} <= tasks
    quantized = from_torchvision["torchvision/quantized_resnet50.IMAGENET1K_FBGEMM_V2"]
    assert quantized.relation == "quantized"
    assert quantized.base_model in from_torchvision
    swag = from_torchvision["torchvision/vit_b_16.IMAGENET1K_SWAG_LINEAR_V1"]
    assert swag.license is not None
    assert swag.license.commercial == "no"
    plain = from_torchvision["torchvision/resnet18.IMAGENET1K_V1"]
    assert plain.license is not None
    assert plain.license.scope == "project"  # never promoted to the weights
    assert plain.artifacts[0].size_bytes is None  # rounded by the publisher: not to check by


def test_figures_of_the_wheels_are_those_of_their_architecture() -> None:
    import timm as library

    for record in wheels.harvest():
        assert record.input_size is not None
        name = record.architecture
        counted = count(lambda n=name: library.create_model(n), record.input_size)  # type: ignore[misc]
        assert (record.params, record.gmacs) == counted
        assert record.preprocess is not None
        side = record.input_size[-1]
        assert int(side / record.preprocess.crop_pct) == side + 32  # EfficientNet's crop padding
        (artifact,) = record.artifacts
        assert artifact.digest is not None
        assert f"-{artifact.digest.value[:8]}.pth" in artifact.path  # the publisher's own prefix
        assert all(e.verified == "reported" and e.source_url for e in record.evals)


def test_listing_harvesters_imports_none() -> None:
    code = (
        "import sys; from catalog.harvesters.registry import HARVESTERS;"
        "assert not any(m in sys.modules for m in [*HARVESTERS.values(), 'torch', 'timm'])"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(callable(harvester(name)) for name in HARVESTERS)
    with pytest.raises(UsageError, match="no harvester"):
        harvester("nowhere")
