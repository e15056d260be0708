from __future__ import annotations

from pathlib import Path

import pytest
from unpacked import unpacked

from catalog.harvesters.qai_hub_models import DEVICE, harvest
from catalog.record import ModelRecord

FOONET = """\
id: foonet50
use_case: Image Classification
domain: Computer Vision
description: A net.
dataset: [imagenet-1k, imagenet-22k]
license: https://example.org/LICENSE
license_type: mit
research_paper: https://arxiv.org/abs/2101.00001
numerics_benchmark:
  {dataset_name: imagenet, metric_name: Top-1 Accuracy, unit: '%', value: 76.1,
   source: 'https://example.org'}
technical_details:
  Input resolution: 224x224
  Number of parameters: 25.5M
  Model checkpoint: Imagenet
"""
FOONET_RECIPE = """\
import torchvision.models as tv_models

DEFAULT_WEIGHTS = "IMAGENET1K_V1"
PATTERN = "\\d"


class FooNet:
    model_builder = tv_models.foonet50
"""
PERF = f"""\
precisions:
  float:
    components:
      FooNet:
        performance_metrics:
          {DEVICE}:
            onnx: {{inference_time_milliseconds: 2.5}}
            tflite: {{inference_time_milliseconds: 1.5}}
"""
STREETS = """\
id: streets
use_case: Semantic Segmentation
domain: Computer Vision
templates: [segmentation]
license: https://huggingface.co/foo/streets/blob/main/LICENSE
license_type: other-license
technical_details:
  Input resolution: 2048x1024
  Number of parameters (encoder): 1.5M
  Number of parameters (decoder): 500K
  Model checkpoint: foo/streets-b0
"""
TEMPLATE = """\
class Segmentation:
    def get_input_spec(self, batch_size: int = 1, height: int = 1024, width: int = 2048):
        return {}
"""
NUMERICS = """\
metrics:
  - {metric_name: Mean Intersection Over Union, dataset_name: cityscapes,
     partial_torch_metric: 77.5, num_partial_samples: 500}
"""
TALKER = """\
id: bar_vl_2b
use_case: Text Generation
domain: Generative AI
license_type: apache-2.0
source_repo: https://huggingface.co/foo/Bar-VL-2B
"""
PLACE = "qai_hub_models/models"


@pytest.fixture
def records(tmp_path: Path) -> dict[str, ModelRecord]:
    wheel = unpacked(
        tmp_path,
        "qai_hub_models",
        {
            f"{PLACE}/foonet50/manifest.yaml": FOONET,
            f"{PLACE}/foonet50/model.py": FOONET_RECIPE,
            f"{PLACE}/foonet50/perf.yaml": PERF,
            f"{PLACE}/streets/manifest.yaml": STREETS,
            f"{PLACE}/streets/model.py": "no python (",
            f"{PLACE}/streets/numerics.yaml": NUMERICS,
            f"{PLACE}/streets/perf.yaml": "precisions: [",
            f"{PLACE}/templates/segmentation/model.py": TEMPLATE,
            f"{PLACE}/templates/segmentation/manifest.yaml": "no: model",
            f"{PLACE}/bar_vl_2b/manifest.yaml": TALKER,
            f"{PLACE}/broken/manifest.yaml": "id: broken",
            f"{PLACE}/latin/manifest.yaml": b"id: caf\xe9",
        },
        "BSD-3-Clause",
    )
    return {record.uid: record for record in harvest(wheel)}


def test_a_recipe_says_what_it_converts(records: dict[str, ModelRecord]) -> None:
    record = records["qai_hub_models/foonet50"]
    assert (record.task, record.modality) == ("image-classification", "image")
    assert record.base_model == "torchvision/foonet50.IMAGENET1K_V1"
    assert record.relation == "converted"
    assert [d.id for d in record.source_datasets] == ["imagenet-1k"]
    assert (record.params, record.input_size) == (25_500_000, (3, 224, 224))
    assert record.top1 == 76.1
    latency = record.evals[-1]
    assert (latency.metric_type, latency.value, latency.unit) == ("latency", 1.5, "ms")
    assert latency.config == f"{DEVICE}, tflite, float"
    assert not latency.higher_is_better
    assert record.license is not None
    assert (record.license.spdx, record.license.scope) == ("MIT", "project")
    assert not record.artifacts


def test_sides_are_put_in_order_and_parts_added_up(records: dict[str, ModelRecord]) -> None:
    record = records["qai_hub_models/streets"]
    assert record.input_size == (3, 1024, 2048)  # written with the width first
    assert record.params == 2_000_000
    assert record.base_model == "foo/streets-b0"
    assert record.license is not None
    assert record.license.scope == "weights"  # it lies with them
    (own,) = record.evals
    assert (own.metric_type, own.value, own.config) == ("mean_iou", 77.5, "500 samples")


def test_tasks_are_narrower_than_use_cases(records: dict[str, ModelRecord]) -> None:
    record = records["qai_hub_models/bar_vl_2b"]
    assert (record.task, record.modality) == ("image-text-to-text", "multimodal")
    assert record.base_model == "foo/Bar-VL-2B"


def test_broken_manifests_are_named(
    tmp_path: Path, records: dict[str, ModelRecord], caplog: pytest.LogCaptureFixture
) -> None:
    assert len(records) == 3
    list(harvest(tmp_path))
    for name in ("broken/manifest.yaml", "latin/manifest.yaml", "streets/perf.yaml"):
        assert name in caplog.text
    assert "templates/segmentation/manifest.yaml" not in caplog.text
