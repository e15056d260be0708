"""Reading weights without running code, and writing them as safetensors.

A pickle is read by ``torch.load(weights_only=True)`` and nothing else. The scan of its opcodes
before that is advisory: it names what a refused file wanted to import, and it is not what keeps
us safe, since such scanners have bypasses.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import safetensors
import torch
from safetensors.torch import load_file, save

from catalog.errors import ConversionError, IntegrityError, UnsafeError

StateDict = dict[str, torch.Tensor]

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
# Under these names training scripts nest the weights, the averaged ones first.
_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")
_HARMLESS = ("torch", "collections.OrderedDict", "numpy", "_codecs.encode")
_PICKLES_IN_LEGACY_FILE = 5  # magic number, protocol, system info, the dict, storage keys
_SLACK_BYTES = 1 << 20
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


def read(file: Path) -> StateDict:
    """The tensors of a file by name, in the file's order, on the CPU.

    What the file is, its first bytes say, not its name.

    Raises:
        UnsafeError: loading it could run code or fill the memory; the message names the finding.
        IntegrityError: it is cut short or corrupted.
        ConversionError: it holds something else than tensors by name.
    """
    with file.open("rb") as stream:
        start = stream.read(9)
    if start[8:9] == b"{":
        try:
            return load_file(file)
        except safetensors.SafetensorError as error:
            raise _corrupted(file, error) from error
    return _tensors(file, _unpickle(file))


def write(state: Mapping[str, torch.Tensor], file: Path) -> None:
    """Write tensors as safetensors: the same bytes for the same tensors.

    Tensors that share memory are written one by one, as the format wants it.
    """
    # Through memory, so that a full disk is an OSError and the file's mode the user's own.
    file.write_bytes(save({name: state[name].clone().contiguous() for name in sorted(state)}))


def _corrupted(file: Path, error: Exception) -> IntegrityError:
    said = " ".join(str(error).split()) or type(error).__name__
    return IntegrityError(f"{file} is corrupted: {said}", hint="fetch it again")


def _unpickle(file: Path) -> Any:
    findings: set[str] = set()
    damage: Exception | None = None
    try:
        for name in _findings(file):
            findings.add(name)
    except UnsafeError:
        raise
    except Exception as error:  # damaged bytes make pickletools and zipfile raise anything
        damage = error
    if findings:
        raise UnsafeError(
            f"{file} was not loaded: it imports {', '.join(sorted(findings))}", hint=_ELSEWHERE
        )
    if damage is not None:
        raise _corrupted(file, damage) from damage
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch's first lines say how to load it all the same: not something to pass on.
        reason = re.search(r"WeightsUnpickler error: (.*)", str(error))
        raise UnsafeError(
            f"{file} was refused by torch.load(weights_only=True)"
            f"{f': {reason[1]}' if reason else ''}",
            hint=_ELSEWHERE,
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # and torch.load too
        raise _corrupted(file, error) from error


def _findings(file: Path) -> Iterator[str]:
    """The imports of a pickled file that weights have no need of."""
    if not zipfile.is_zipfile(file):
        with file.open("rb") as stream:
            for _ in range(_PICKLES_IN_LEGACY_FILE):
                yield from _imports(stream)
        return
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > 2 * file.stat().st_size + _SLACK_BYTES:
            raise UnsafeError(
                f"{file} was not loaded: {file.stat().st_size} bytes that unpack to {unpacked}",
                hint="this is no file that torch wrote; look for the model elsewhere",
            )
        for member in archive.namelist():
            if member.endswith(".pkl"):
                with archive.open(member) as stream:
                    yield from _imports(stream)


def _imports(stream: IO[bytes]) -> Iterator[str]:
    strings: list[str] = []
    memo: dict[int, str] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in {"GLOBAL", "INST", "STACK_GLOBAL"}:
            name = str(argument).replace(" ", ".") if argument else ".".join(strings[-2:])
            if not any(name == known or name.startswith(f"{known}.") for known in _HARMLESS):
                yield name
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = strings[-1] if strings else "?"
        elif opcode.name.endswith("PUT") and argument is not None:
            memo[int(argument)] = strings[-1] if strings else "?"
        elif opcode.name.endswith("GET") and argument is not None:
            strings.append(memo.get(int(argument), "?"))
        elif isinstance(argument, str):
            strings.append(argument)


def _tensors(file: Path, loaded: Any) -> StateDict:
    for key in _NESTED:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
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
