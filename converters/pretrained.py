"""Networks of transformers with the weights of a repository in them.

The weights go through `converters.weights` into a network that transformers builds from
`config.json`; its own loading is used for what it knows of older names of tensors. Nothing of a
repository is imported, and nothing is fetched.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from catalog.errors import ConversionError, UnsafeError
from converters.repository import CONFIG
from converters.weights import StateDict

try:
    import transformers
except ImportError as missing:
    raise ConversionError(
        "models of transformers are converted by transformers, which is not installed",
        hint="pip install 'transformers>=5.0'",
    ) from missing

_SLACK_BYTES = 64 << 20  # of tensors that a network has and its file has not
# What a configuration could say of how to compute: code fetched from a hub, or another compiler.
_NOT_TAKEN = (
    *("attn_implementation", "experts_implementation", "quantization_config", "auto_map"),
    *("reference_compile", "torch_dtype", "dtype", "gradient_checkpointing", "use_kernels"),
)


def config_of(said: Mapping[str, Any], model_type: str, architecture: str) -> Any:
    """The configuration as transformers has it, without what is not for a repository to say.

    Raises:
        ConversionError: it makes no sense to transformers.
    """
    with quiet(), explained(architecture):
        return transformers.CONFIG_MAPPING[model_type].from_dict(_taken(said))


def image_processor(name: str, options: Mapping[str, Any]) -> Any:
    """An image processor of transformers by the name of its class, that on torchvision.

    Raises:
        ConversionError: the options make no sense to transformers.
    """
    with quiet(), explained(name):
        return getattr(transformers, name)(**options)


def _taken(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _taken(value) if key.endswith("_config") and isinstance(value, dict) else value
        for key, value in said.items()
        if key not in _NOT_TAKEN and not key.startswith("_")
    }


def load(
    name: str,
    config: Any,
    state: StateDict,
    *,
    architecture: str,
    left_out: tuple[str, ...],
    random: tuple[str, ...] = (),
) -> torch.nn.Module:
    """A network of transformers by the name of its class, with weights, float32, not in training.

    ``architecture`` is the class that the weights were saved from, for messages;
    ``left_out`` is how tensors may begin that the file has and the network has not, ``random`` how
    those that it has and the file has not: nothing may be made of them.

    Raises:
        ConversionError: a tensor is missing, left over or of another shape.
        UnsafeError: the configuration wants far more than there is.
    """
    class_ = getattr(transformers, name)
    with quiet(), explained(architecture), torch.device("meta"):
        empty = class_(config)
    _check_size(empty, state)
    attention = "sdpa" if getattr(empty, "_supports_sdpa", False) else "eager"
    with quiet(), explained(architecture):
        model, report = class_.from_pretrained(
            None,
            config=config,
            state_dict=state,
            attn_implementation=attention,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    _check_loaded(model, report, left_out, random)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _check_size(empty: torch.nn.Module, state: StateDict) -> None:
    """Refuse a network that is far larger than its file before memory is taken for it."""
    tensors = [*empty.parameters(), *empty.buffers()]
    wanted = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    there = sum(tensor.numel() * 4 for tensor in state.values())
    if wanted > 2 * there + _SLACK_BYTES:
        raise UnsafeError(
            f"{CONFIG} describes a network of {wanted} bytes, but there are weights of {there}"
        )


def _check_loaded(
    model: torch.nn.Module,
    report: Mapping[str, Any],
    left_out: tuple[str, ...],
    random: tuple[str, ...],
) -> None:
    """Nothing of the network may be random, and nothing of the file unused but known heads."""
    for name, theirs, ours in sorted(report["mismatched_keys"]):
        raise ConversionError(f"{name} has shape {tuple(theirs)}, {CONFIG} describes {tuple(ours)}")
    missing = sorted(n for n in report["missing_keys"] if not n.startswith(random))
    if missing:
        raise ConversionError(
            f"the weights lack {_named(missing)} of {type(model).__name__}: they would be random"
        )
    left = sorted(n for n in report["unexpected_keys"] if not n.startswith(left_out))
    if left:
        raise ConversionError(
            f"the weights hold {_named(left)}, which {type(model).__name__} has no place for"
        )


def _named(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers; what goes wrong it raises, and what is missing it returns."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.CRITICAL)
    theirs.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def explained(architecture: str) -> Iterator[None]:
    """Say of a configuration that makes no sense to transformers whose it is."""
    try:
        yield
    except (MemoryError, OSError):
        raise
    except Exception as error:  # transformers raises anything over it
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConversionError(
            f"transformers {transformers.__version__} cannot build {architecture}: {lines[0]}"
        ) from error
