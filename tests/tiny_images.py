"""Image models in the layout of a repository: tiny, with random weights that are alive."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_texts import files_in

from benchmarks.architectures.tiny import image_side, vision_config
from catalog.record import ModelRecord, Preprocess
from converters.evidence import sample_photos
from converters.preprocess import pixel_values
from converters.vision_repository import FAMILIES, VisionRepository


def network(
    model_type: str, labels: Sequence[str] = (), *, ending: str | None = None, **more: Any
) -> transformers.PreTrainedModel:
    """A living network: an encoder, or a classifier where there are labels."""
    if labels:
        more = {"id2label": dict(enumerate(labels)), "num_labels": len(labels), **more}
    config = vision_config(model_type, **more)
    ending = ending or ("ForImageClassification" if labels else "Model")
    class_ = getattr(transformers, f"{FAMILIES[model_type].prefix}{ending}")
    if not isinstance(config, class_.config_class):
        config = config.vision_config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = class_(config)
        enliven(model, image_side(config))
    return model.eval()


def enliven(model: torch.nn.Module, side: int) -> None:
    """Random weights large enough that every place counts.

    Convolutions before batch norms stay as they are, with the statistics of photos, but for those
    of one channel each, which are made to blur: a deep chain of random ones would make anything of
    a pixel that is rounded otherwise.
    """
    generator = torch.Generator().manual_seed(0)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            fresh = torch.rand(tensor.shape, generator=generator)
            if tensor.ndim <= 1:
                tensor.copy_(fresh + 0.5 if name.endswith("weight") else fresh - 0.5)
            elif not norms:
                inputs = tensor[0].numel() if tensor.ndim == 4 else tensor.shape[-1]
                tensor.copy_((fresh - 0.5) * 3 / inputs**0.5)
            elif tensor.ndim == 4 and tensor.shape[1] == 1:
                tensor.abs_()
        for norm in norms:
            norm.momentum = 1.0
        if norms:
            photos = [
                photo[y:, x:]
                for photo in sample_photos().values()
                for y in (0, 200)
                for x in (0, 300)
            ]
            how = Preprocess(mean=_HALF, std=_HALF, interpolation="bicubic", resize_mode="squash")
            model.train()(torch.stack([pixel_values(p, how, (side, side)) for p in photos]))


_HALF = (0.5, 0.5, 0.5)


def save(
    model: transformers.PreTrainedModel, folder: Path, processor: Mapping[str, Any] | None = None
) -> dict[str, Path]:
    """The files of a repository as transformers saves it; by default photos are squashed."""
    model.save_pretrained(folder)
    if processor is None:
        side = image_side(model.config)
        size: dict[str, int] = {"height": side, "width": side}
        name = FAMILIES[model.config.model_type].processor
        if name == "ConvNextImageProcessor":
            size = {"shortest_edge": side}
        processor = {"image_processor_type": name, "size": size, "do_center_crop": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return files_in(folder)


def record_of(files: Mapping[str, Path]) -> ModelRecord:
    """As `tlhub.repositories` would describe it."""
    from tlhub import repositories

    record = ModelRecord(uid="test/tiny", framework="transformers")
    said = repositories.look(record, files, files)
    assert said.obstacle is None, said.obstacle
    return said.record


def described(files: Mapping[str, Path]) -> VisionRepository:
    found = VisionRepository.of(files, lambda name: files[name].read_bytes())
    assert found is not None
    return found
