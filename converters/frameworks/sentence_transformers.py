"""Sentence encoders in the layout of sentence-transformers, pooling and all, by transformers.

The library itself is not needed: `modules.json` is read by `converters.repository`, and each of
its modules is one of `converters.pooling`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from catalog.errors import ConversionError
from catalog.record import ModelRecord
from converters import weights
from converters.backbone import TorchBackbone
from converters.frameworks import transformers
from converters.pooling import Dense, Normalize, Pooling, Steps, activation
from converters.repository import Module, TextRepository, pooling_modes

LIBRARIES = transformers.LIBRARIES
_LARGEST = 1 << 16  # numbers in an embedding

fresh = transformers.fresh


def load(files: Mapping[str, Path], record: ModelRecord, *, trust: bool) -> TorchBackbone:
    """The sentence encoder in a repository's ``files``, by their names in it.

    Raises:
        ConversionError: it is none that is converted, or weights are missing or left over.
        UnsafeError: reading it could run code or fill the memory.
        IntegrityError: it is corrupted.
    """
    repository = TextRepository.of(files, lambda name: files[name].read_bytes())
    if repository.modules is None:
        return transformers.load(files, record, trust=trust)
    model = transformers.network(repository, files, trust=trust)
    modes = pooling_modes(repository.modules[1].config)
    steps = list(_steps(repository.modules[2:], files, trust=trust))
    module = transformers.TextEncoder(model, repository.inputs, Steps(Pooling(modes), steps))
    said = {
        "pooling": list(modes),
        "after_pooling": [type(step).__name__ for step in steps],
        "normalized": bool(steps) and isinstance(steps[-1], Normalize),
    }
    made = transformers.backbone(module, repository, files, record, said)
    own = {
        f"{m.folder}model.safetensors".removeprefix(repository.root): weights.packed(
            _state(m, files, trust=trust)
        )
        for m in repository.modules[2:]
        if m.kind in {"Dense", "LayerNorm"}
    }
    return dataclasses.replace(made, files={**made.files, **own})


def _steps(
    modules: tuple[Module, ...], files: Mapping[str, Path], *, trust: bool
) -> Iterator[torch.nn.Module]:
    for module in modules:
        config = module.config
        _refuse_other_tensors(module)
        if module.kind == "Normalize":
            yield Normalize()
        elif module.kind == "LayerNorm":
            with torch.device("meta"):
                norm = torch.nn.LayerNorm(_size(config, "dimension"))
            _fill({"norm": norm}, _state(module, files, trust=trust), module)
            yield norm
        elif module.kind == "Dense":
            yield _dense(module, _state(module, files, trust=trust))


def _dense(module: Module, state: weights.StateDict) -> Dense:
    config = module.config
    width, out = _size(config, "in_features"), _size(config, "out_features")
    residual: torch.nn.Module | None = None
    with torch.device("meta"):  # no memory for what only the configuration claims
        linear = torch.nn.Linear(width, out, bias=bool(config.get("bias", True)))
        parts: dict[str, torch.nn.Module] = {"linear": linear}
        if config.get("use_residual"):
            residual = torch.nn.Identity()
            if width != out:
                residual = parts["residual"] = torch.nn.Linear(width, out, bias=False)
    _fill(parts, state, module)
    name = config.get("activation_function") or "torch.nn.modules.activation.Tanh"
    return Dense(linear, activation(str(name)), residual)


def _refuse_other_tensors(module: Module) -> None:
    """Only what is done to the vector of the whole text is known here."""
    for key in ("module_input_name", "module_output_name"):
        name = module.config.get(key)
        if name not in {None, "sentence_embedding"}:
            raise ConversionError(f"its module {module.kind} works on {name!r}, not converted yet")


def _state(module: Module, files: Mapping[str, Path], *, trust: bool) -> weights.StateDict:
    return weights.read_folder(files, module.folder, trust=trust)


def _fill(parts: Mapping[str, torch.nn.Module], state: weights.StateDict, module: Module) -> None:
    wanted = {
        f"{part}.{name}": tensor.shape
        for part, layer in parts.items()
        for name, tensor in layer.state_dict().items()
    }
    there = {name: tensor.shape for name, tensor in state.items()}
    if wanted != there:
        raise ConversionError(
            f"the weights of {module.folder} are {_shapes(there)}, its configuration describes "
            f"{_shapes(wanted)}"
        )
    for part, layer in parts.items():
        own = {name: state[f"{part}.{name}"].float() for name in layer.state_dict()}
        layer.load_state_dict(own, assign=True)


def _shapes(shapes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in sorted(shapes.items())) or "none"


def _size(config: Mapping[str, Any], key: str) -> int:
    size = config.get(key)
    if not isinstance(size, int) or not 0 < size <= _LARGEST:
        raise ConversionError(f"a module says {key} is {size!r}, expected 1 to {_LARGEST}")
    return size
