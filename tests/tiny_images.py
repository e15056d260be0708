"""Image models in the layout of a repository: tiny, with random weights that are alive."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from tiny_texts import files_in

from benchmarks.architectures.tiny import processor_of
from benchmarks.architectures.tiny import vision_network as network
from catalog.record import ModelRecord
from converters.vision_repository import VisionRepository

__all__ = ["described", "network", "record_of", "save"]


def save(
    model: transformers.PreTrainedModel, folder: Path, processor: Mapping[str, Any] | None = None
) -> dict[str, Path]:
    """The files of a repository as transformers saves it; by default photos are squashed."""
    model.save_pretrained(folder)
    processor = processor_of(model.config) if processor is None else processor
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
