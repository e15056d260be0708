from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch
from safetensors.torch import load_file

from converters import registry
from converters.evidence import sample_photos


def test_listing_frameworks_imports_none():
    script = """
import sys
from converters.registry import FRAMEWORKS
assert {"timm", "torchvision"} <= set(FRAMEWORKS)
assert not {"torch", "timm", "torchvision", "onnx", "onnxruntime"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_random_weights_follow_their_seed_and_leave_torch_alone(record_of):
    photos = list(sample_photos().values())
    before = torch.random.get_rng_state()
    one, same, other = (
        registry.random_backbone(record_of(), seed).features(photos) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.shape == (2, 256)
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0


def test_mnasnet_is_told_that_its_weights_are_of_now(record_of, weights_of):
    record = record_of("mnasnet0_5", framework="torchvision", side=64, interpolation="bilinear")
    files = weights_of(record)
    state = registry.load_backbone(files, record).module.model.state_dict()
    [file] = files.values()
    written = load_file(file)
    assert all(torch.equal(state[name], tensor) for name, tensor in written.items())
