"""Tensors of a file onto the tensors of an architecture: by name, else by order and shape."""

from __future__ import annotations

import torch

from catalog.errors import ConversionError
from converters.weights import StateDict

_COUNTER = "num_batches_tracked"  # of training only; old files lack it


def by_name(state: StateDict, module: torch.nn.Module) -> StateDict | None:
    """``state`` if its names are the module's, else None.

    Raises:
        ConversionError: the names are the same but a shape is not.
    """
    target = module.state_dict()
    if state.keys() - target.keys():
        return None
    if any(not name.endswith(_COUNTER) for name in target.keys() - state.keys()):
        return None
    for name, tensor in state.items():
        if tensor.shape != target[name].shape:
            raise ConversionError(
                f"{name} has shape {tuple(tensor.shape)}, "
                f"the architecture's has {tuple(target[name].shape)}"
            )
    return {name: state.get(name, tensor) for name, tensor in target.items()}


def by_order(state: StateDict, module: torch.nn.Module) -> StateDict:
    """The tensors under the module's names: the n-th of the file is the n-th of the module.

    Shapes, and the last part of each name (``weight``, ``running_mean``), must agree. That proves
    little: another architecture may agree as well.

    Raises:
        ConversionError: they do not agree; the message names the first that does not.
    """
    target = module.state_dict()
    if len(state) != len(target):
        raise ConversionError(
            f"the file has {len(state)} tensors, the architecture {len(target)}",
            hint="the record names the wrong architecture, or the file holds more than weights",
        )
    for (name, tensor), (wanted, place) in zip(state.items(), target.items(), strict=True):
        kinds = name.rpartition(".")[2], wanted.rpartition(".")[2]
        if tensor.shape != place.shape or kinds[0] != kinds[1]:
            raise ConversionError(
                f"{name} {tuple(tensor.shape)} of the file stands where the architecture has "
                f"{wanted} {tuple(place.shape)}",
                hint="the record names the wrong architecture",
            )
    return dict(zip(target, state.values(), strict=True))
