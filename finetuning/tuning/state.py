"""All that changes from step to step of a training, and how it is kept and taken up again."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from catalog.disk import replacing, writing
from finetuning.ranks import Ranks
from finetuning.tuning.learner import Learner

_log = logging.getLogger(__name__)


@dataclass
class State:
    """All that changes from step to step."""

    learner: Learner
    optimizer: torch.optim.AdamW
    average: dict[str, torch.Tensor]
    step: int = 0
    failures: int = 0  # losses that were no number; each halves the rates
    parts: int = 1  # of a batch, one after the other, where memory is short
    ended: bool = False  # there is nothing more to learn
    losses: list[float] = field(default_factory=list)

    @property
    def slower(self) -> float:
        """What the rates are multiplied by."""
        return float(0.5**self.failures)

    def kept(self) -> dict[str, Any]:
        """A copy of it all."""
        return {
            "learner": self.learner.weights(),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "average": {k: v.clone() for k, v in self.average.items()},
            "step": self.step,
            "failures": self.failures,
            "parts": self.parts,
            "ended": self.ended,
            "losses": list(self.losses),
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Become what was kept."""
        with torch.no_grad():
            for name, parameter in self.learner.learned().items():
                parameter.copy_(kept["learner"][name])
        self.optimizer.load_state_dict(copy.deepcopy(kept["optimizer"]))
        self.average = {
            name: kept["average"][name].to(value.device, copy=True)
            for name, value in self.average.items()
        }
        self.step, self.failures, self.parts = kept["step"], kept["failures"], kept["parts"]
        self.ended = kept["ended"]
        self.losses = list(kept["losses"])


def save(state: State, good: Mapping[str, Any], file: Path) -> None:
    """Keep the state, and the good one that a loss that is no number leads back to.

    Raises:
        StorageError: it cannot be written.
    """
    with writing(file), replacing(file) as stream:
        torch.save({"now": state.kept(), "good": dict(good)}, stream)


def resume(state: State, file: Path | None, ranks: Ranks) -> dict[str, Any]:
    """Go on from what was saved, where it was; the good state to lead back to."""
    kept = ranks.agreed(_read(file) if ranks.first else None)
    if kept is not None:
        try:
            state.restore(kept["now"])
        except (RuntimeError, LookupError, ValueError) as error:
            _log.warning("training starts again: %s is of another one (%s)", file, error)
        else:
            _log.info("training goes on at step %d", state.step)
            return dict(kept["good"])
    return state.kept()


def _read(file: Path | None) -> Any:
    if file is None or not file.exists():
        return None
    try:
        return torch.load(file, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, LookupError, ValueError, EOFError, UnpicklingError) as error:
        _log.warning("training starts again: %s cannot be read (%s)", file, error)
        return None
