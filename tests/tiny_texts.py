"""Text models in the layout of a repository: tiny, with random weights that are alive."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.architectures.tiny import TEXT as CONFIGS
from benchmarks.architectures.tiny import text_network as network
from benchmarks.architectures.tiny import tokenizer
from catalog.record import ModelRecord

__all__ = ["CONFIGS", "files_in", "network", "record_of", "save"]


def save(
    model: torch.nn.Module,
    folder: Path,
    *,
    modules: Sequence[tuple[str, Mapping[str, Any]]] = (),
    tensors: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    **files: Any,
) -> dict[str, Path]:
    """The files of a repository; ``modules`` of sentence-transformers follow the transformer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**model.config.to_dict(), "architectures": [type(model).__name__]}
    config["id2label"] = {str(key): name for key, name in model.config.id2label.items()}
    state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(tokenizer().to_str(), encoding="utf-8")
    written = {
        "config.json": config,
        "tokenizer_config.json": {"pad_token": "[PAD]", "model_max_length": 10**30},
    }
    if modules:
        listed = [{"idx": 0, "name": "0", "path": "", "type": f"{_LIBRARY}.models.Transformer"}]
        for number, (kind, said) in enumerate(modules, 1):
            path = f"{number}_{kind}"
            listed.append({"idx": number, "path": path, "type": f"{_LIBRARY}.models.{kind}"})
            written[f"{path}/config.json"] = dict(said)
        written["modules.json"] = listed
    for name, content in {**written, **files}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")
    for path, state_ in (tensors or {}).items():
        save_file(dict(state_), folder / path / "model.safetensors")
    return files_in(folder)


_LIBRARY = "sentence_transformers"


def files_in(folder: Path) -> dict[str, Path]:
    """Every file of a folder by its name in it."""
    found = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path for path in found if path.is_file()}


def record_of(model: torch.nn.Module, labels: Sequence[str] = ()) -> ModelRecord:
    """As `tlhub.repositories` would describe it."""
    return ModelRecord(
        uid=f"test/{model.config.model_type}",
        framework="transformers",
        architecture=type(model).__name__,
        labels=tuple(labels),
        num_classes=len(labels) or None,
    )


def weather_and_food(file: Path, count: int) -> Path:
    """Texts of two classes in a table, half of each."""
    words = {"weather": ["rain", "snow", "wind"], "food": ["soup", "restaurant", "cold soup"]}
    random = np.random.default_rng(0)
    rows = ["text,label"]
    for n in range(count):
        label = ["weather", "food"][n % 2]
        rows.append(f"The {' and '.join(random.choice(words[label], 4))} {n},{label}")
    file.write_text("\n".join(rows), encoding="utf-8")
    return file
