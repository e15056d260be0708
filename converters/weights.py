"""Reading weights without running code, and writing them as safetensors.

A pickle is read by ``torch.load(weights_only=True)`` and nothing else. The scan before that is
advisory: it names what a refused file wanted to import, and it is not what keeps us safe, since
such scanners have bypasses. Where the user trusts a file, the names that it imports stand for
inert placeholders: nothing of it is imported or run then either.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import safetensors
import torch
from safetensors.torch import load_file, save, save_file

from catalog.errors import ConversionError, IntegrityError, UnsafeError
from catalog.record import UNREADABLE
from converters import checkpoints, scanning
from converters.scan import Finding, Scan

StateDict = dict[str, torch.Tensor]

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
# Under these names training scripts nest the weights, the averaged ones first.
_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")
_SLACK_BYTES = 1 << 20
_NAMED = 5  # findings in a message
_MOST_MODULES = 100_000
_MOST_INDEX_BYTES = 64 << 20
_TRUST = (
    "weights need none of this; where you trust its publisher, --trust takes the tensors and "
    "leaves the rest unread: nothing of it is run"
)
_ELSEWHERE = "weights need none of this; look for the model as safetensors, or elsewhere"


def weights_file(files: Mapping[str, Path]) -> Path:
    """The one file among a model's files that has the weights; safetensors where there are two.

    Raises:
        ConversionError: there is none, or it is split over several.
    """
    for suffix in _SUFFIXES:
        found = [path for name, path in files.items() if name.endswith(suffix)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ConversionError(
                f"the weights are split over {len(found)} files, which is not read yet"
            )
    raise ConversionError(
        f"no weights among {', '.join(files) or 'no files'}: expected one of {', '.join(_SUFFIXES)}"
    )


def read(file: Path, *, trust: bool = False) -> StateDict:
    """The tensors of a file by name, in the file's order, on the CPU.

    What the file is, its first bytes say, not its name. With ``trust`` a pickle may name classes
    that weights do not need (the arguments of a training run, a whole module): they are neither
    imported nor made, the tensors in and beside them are taken. What is dangerous on its face
    stays refused.

    Raises:
        UnsafeError: loading it could run code or fill the memory; the message names the finding.
        IntegrityError: it is cut short or corrupted.
        ConversionError: it holds something else than tensors by name.
    """
    scan = scanning.scan(file)
    _judge(file, scan, trust=trust)
    if scan.format == "safetensors":
        try:
            return load_file(file)
        except safetensors.SafetensorError as error:
            raise _corrupted(file, error) from error
    return _tensors(file, _unpickle(file, checkpoints.unneeded_names(file) if trust else set()))


def _judge(file: Path, scan: Scan, *, trust: bool) -> None:
    """Refuse what the scan found; the gravest first."""
    for verdict in ("unsafe", "code", "trust"):
        found = [finding for finding in scan.findings if finding.verdict == verdict]
        if found and not (trust and verdict == "trust"):
            hint = _TRUST if verdict == "trust" else _ELSEWHERE
            raise UnsafeError(f"{file} was not loaded: it {_said(found)}", hint=hint)
    damage = [finding for finding in scan.findings if finding.verdict == "damaged"]
    if damage:
        raise _corrupted(file, damage[0].what)


def _said(found: list[Finding]) -> str:
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(finding.what for finding in found[:_NAMED]) + more


def read_folder(files: Mapping[str, Path], folder: str, *, trust: bool = False) -> StateDict:
    """The tensors that a library of Hugging Face saved in ``folder`` (empty, or with a slash).

    They are in one file or in several that an index lists; safetensors before pickles.

    Raises:
        ConversionError: there is none, or a file that the index lists is not there.
        IntegrityError: the files do not hold what the index says, or are corrupted.
        UnsafeError: as `read`.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        if f"{folder}{name}" in files:
            return read(files[f"{folder}{name}"], trust=trust)
        index = files.get(f"{folder}{name}.index.json")
        if index is not None:
            return _read_shards(index, files, folder, trust=trust)
    raise ConversionError(
        f"there are no weights in {folder or 'it'}: no model.safetensors, no pytorch_model.bin"
    )


def _read_shards(index: Path, files: Mapping[str, Path], folder: str, *, trust: bool) -> StateDict:
    if index.stat().st_size > _MOST_INDEX_BYTES:
        raise UnsafeError(f"{index} has {index.stat().st_size} bytes, which no index has")
    try:
        places = msgspec.json.decode(index.read_bytes(), type=_Index).weight_map
    except UNREADABLE as error:
        raise IntegrityError(f"{index} makes no sense: {error}") from error
    state: StateDict = {}
    for name in dict.fromkeys(places.values()):
        if f"{folder}{name}" not in files:
            raise ConversionError(f"the index of the weights lists {name!r}, which is not there")
        shard = read(files[f"{folder}{name}"], trust=trust)
        if {n for n, place in places.items() if place == name} != shard.keys():
            raise IntegrityError(f"{folder}{name} holds other tensors than its index says")
        state |= shard
    return state


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def write(state: Mapping[str, torch.Tensor], file: Path) -> None:
    """Write tensors as safetensors: the same bytes for the same tensors.

    Raises:
        OSError: it cannot be written.
    """
    file.touch()
    mode = file.stat().st_mode  # the user's own: the library makes a file that only they can read
    try:
        save_file(_apart(state), file)
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from error
    file.chmod(mode)


def packed(state: Mapping[str, torch.Tensor]) -> bytes:
    """The bytes that `write` writes."""
    return save(_apart(state))


def _apart(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors that share memory one by one, as the format wants it."""
    own: dict[str, torch.Tensor] = {}
    places: set[int] = set()
    for name in sorted(state):
        tensor = state[name].contiguous()
        place = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if place in places else tensor
        places.add(place)
    return own


def _corrupted(file: Path, error: Exception | str) -> IntegrityError:
    said = " ".join(str(error).split()) or type(error).__name__
    return IntegrityError(f"{file} is corrupted: {said}", hint="fetch it again")


def _unpickle(file: Path, placeholders: set[str]) -> Any:
    """The content of a pickled file, with something inert where it has one of the names."""
    inert: list[Any] = [(_placeholder(name), name) for name in sorted(placeholders)]
    try:
        with torch.serialization.safe_globals(inert), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the protocol of the pickle is another
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch's first lines say how to load it all the same: not something to pass on.
        reason = re.search(r"WeightsUnpickler error: (.+)", str(error))
        raise UnsafeError(
            f"{file} was refused by torch.load(weights_only=True)"
            f"{f': {reason[1]}' if reason else ''}",
            hint=_ELSEWHERE,
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make it raise anything
        raise _corrupted(file, error) from error


class _Placeholder:
    """What stands for an object whose class is not wanted: it takes all and does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state


def _placeholder(name: str) -> type[_Placeholder]:
    return type("Placeholder", (_Placeholder,), {"name": name})


def _state_of(module: _Placeholder) -> StateDict:
    """The state dict of a module of which only the attributes are there, as torch collects it.

    Raises:
        UnsafeError: there is no end to its modules, since some are within themselves.
    """
    state: StateDict = {}
    todo, visited = [("", module)], 0
    while todo:
        prefix, part = todo.pop()
        visited += 1
        if visited > _MOST_MODULES:
            raise UnsafeError(f"a module has over {_MOST_MODULES} within it", hint=_ELSEWHERE)
        attributes = getattr(part, "state", None)
        if not isinstance(attributes, dict):
            continue
        temporary = attributes.get("_non_persistent_buffers_set") or ()
        for kind in ("_parameters", "_buffers"):
            for name, tensor in dict(attributes.get(kind) or {}).items():
                if isinstance(tensor, torch.Tensor) and name not in temporary:
                    state[f"{prefix}{name}"] = tensor
        inner = dict(attributes.get("_modules") or {}).items()
        todo += [(f"{prefix}{n}.", m) for n, m in inner if isinstance(m, _Placeholder)][::-1]
    return state


def _tensors(file: Path, loaded: Any) -> StateDict:
    for key in _NESTED:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict | _Placeholder):
            loaded = loaded[key]
            break
    if isinstance(loaded, _Placeholder):
        loaded = _state_of(loaded)
    if not isinstance(loaded, dict) or not loaded:
        raise ConversionError(f"{file} holds a {type(loaded).__name__}, expected tensors by name")
    state: StateDict = {}
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ConversionError(
                f"{file} holds a {type(tensor).__name__} named {name!r}, expected tensors by name"
            )
        state[name.removeprefix("module.")] = tensor.detach()
    # A tensor of stride 0 can claim any size: the claim must be near what the file has.
    claimed, there = sum(t.numel() * t.element_size() for t in state.values()), file.stat().st_size
    if claimed > 4 * there + _SLACK_BYTES:
        raise UnsafeError(f"{file} has {there} bytes but claims tensors of {claimed}")
    return state
