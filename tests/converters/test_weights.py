from __future__ import annotations

import resource
from collections import OrderedDict

import pytest
import torch

from catalog.errors import ConversionError
from converters import weights


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "stem.weight": torch.randn(4, 3, generator=generator).t(),  # not contiguous
        "head.bias": torch.arange(5, dtype=torch.float16),
        "counter": torch.tensor(7),
    }


def _same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_wrote_is_read_in_its_order(legacy, state, tmp_path):
    file = tmp_path / "weights.bin"
    torch.save(OrderedDict(state), file, _use_new_zipfile_serialization=not legacy)
    seen = weights.read(file)
    assert list(seen) == list(state)
    assert _same(seen, state)


@pytest.mark.parametrize("key", ["state_dict", "model", "state_dict_ema"])
def test_nested_weights_and_prefixes_are_found(key, state, tmp_path):
    nested = {key: {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}
    torch.save(nested, tmp_path / "checkpoint.pth")
    assert _same(weights.read(tmp_path / "checkpoint.pth"), state)


def test_safetensors_are_written_the_same_whatever_the_order_or_sharing(state, tmp_path):
    shared = {**state, "tied.weight": state["stem.weight"]}
    weights.write(shared, tmp_path / "one.safetensors")
    weights.write(dict(reversed(shared.items())), tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (
        tmp_path / "two.safetensors"
    ).read_bytes()
    assert _same(weights.read(tmp_path / "one.safetensors"), shared)


def test_the_weights_among_the_files(tmp_path):
    def pick(*names):
        return weights.weights_file({name: tmp_path / name for name in names}).name

    assert pick("config.json", "pytorch_model.bin") == "pytorch_model.bin"
    assert pick("pytorch_model.bin", "model.safetensors") == "model.safetensors"
    with pytest.raises(ConversionError, match="no weights among config"):
        pick("config.json")
    with pytest.raises(ConversionError, match="split over 2 files"):
        pick("model-1.safetensors", "model-2.safetensors")


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}, {}, {"state_dict": {"a": "b"}}])
def test_what_is_no_tensors_by_name_is_said(content, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ConversionError, match="expected tensors by name"):
        weights.read(tmp_path / "x.pth")


def test_a_file_of_weights_is_the_users_own_and_a_full_disk_is_an_oserror(state, tmp_path):
    file, other = tmp_path / "weights.safetensors", tmp_path / "other"
    weights.write(state, file)
    other.touch()
    assert file.stat().st_mode == other.stat().st_mode
    assert file.read_bytes() == weights.packed(state)
    with pytest.raises(OSError, match="directory"):
        weights.write(state, tmp_path / "none" / "weights.safetensors")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limit[1]))
    try:
        with pytest.raises(OSError, match=r"[Ff]ile too large"):
            weights.write(state, tmp_path / "large.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
