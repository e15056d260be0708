"""The processes that make one run together: each is a rank, and the first leads.

torch's launcher starts them (`launch`), on one machine or on each of several; every one runs the
same recipe. They share what is long (features, the lower part of a network, the pictures of a
step), agree on what was measured or decided by a clock, and the first alone writes the run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

from catalog.errors import UsageError
from converters.machine import cores

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run; each method is called by all of them alike."""

    rank: int = 0
    world: int = 1
    local: int = 1  # of them on this machine

    @property
    def first(self) -> bool:
        """Whether this one leads."""
        return self.rank == 0

    def own(self, count: int) -> range:
        """Which of ``count`` things this process does."""
        return range(self.rank, count, self.world)

    def agreed(self, value: T) -> T:
        """What the first has for ``value``."""
        if self.world == 1:
            return value
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def collected(self, value: T) -> list[T]:
        """What each has for ``value``, by rank."""
        if self.world == 1:
            return [value]
        from torch import distributed

        found: list[T | None] = [None] * self.world
        distributed.all_gather_object(found, value)
        return [item for item in found if item is not None]

    def sum_up(self, tensor: torch.Tensor) -> None:
        """Make ``tensor`` the sum of those that all have, in place."""
        if self.world > 1:
            from torch import distributed

            distributed.all_reduce(tensor)

    def sum_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Make each gradient the sum of those that all have; none where nobody has one."""
        if self.world == 1:
            return
        import torch

        there = torch.tensor([float(p.grad is not None) for p in parameters])
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([there.to(grads[0].device), *(grad.flatten() for grad in grads)])
        self.sum_up(flat)
        sizes = [len(parameters), *(grad.numel() for grad in grads)]
        used, *sums = torch.split(flat, sizes)
        for parameter, total, count in zip(parameters, sums, used.tolist(), strict=True):
            # In the parameter's order of memory, which fused optimizers take for granted.
            summed = torch.empty_like(parameter).copy_(total.view(parameter.shape))
            parameter.grad = summed if count else None

    def spread(self, tensors: Sequence[torch.Tensor]) -> None:
        """Make each tensor the one that the first has, in place."""
        if self.world > 1:
            from torch import distributed

            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def leave(self) -> None:
        """Part from the others."""
        if self.world > 1:
            from torch import distributed

            distributed.destroy_process_group()

    def gathered(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        """Rows of all ``count`` things, where each process has those of its own (on the CPU)."""
        if self.world == 1:
            return rows
        import torch
        from torch import distributed

        most = len(range(0, count, self.world))
        padded = torch.zeros(most, *rows.shape[1:], dtype=rows.dtype)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        distributed.all_gather(parts, padded)
        return torch.stack(parts, 1).flatten(0, 1)[:count]


ALONE = Ranks()


def is_one() -> bool:
    """Whether torch's launcher started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_helper() -> bool:
    """Whether it did, and this process is not the first."""
    return is_one() and os.environ.get("RANK") != "0"


@contextlib.contextmanager
def joined(devices: int | None, nodes: int, *, cuda: bool) -> Iterator[Ranks]:
    """This process among those that the launcher started; alone where it started none.

    Raises:
        UsageError: there are not as many as were asked for.
    """
    wanted = None if devices is None else devices * nodes
    if not is_one():
        if wanted not in {None, 1}:
            raise UsageError(
                f"{wanted} processes were asked for, and this one was started alone",
                hint="the command `tlhub finetune` starts them, or torchrun",
            )
        yield ALONE
        return
    from torch import distributed

    _end_with_launcher()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    try:
        world = distributed.get_world_size()
        if wanted not in {None, world}:
            raise UsageError(
                f"{wanted} processes were asked for, and {world} were started",
                hint="leave --devices and --nodes to torchrun where that starts them",
            )
        yield Ranks(distributed.get_rank(), world, int(os.environ.get("LOCAL_WORLD_SIZE", world)))
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def check(devices: int, nodes: int, rendezvous: str | None, *, cuda: bool) -> None:
    """See that what is asked for is there, on this machine.

    Raises:
        UsageError: it is not.
    """
    if devices < 1 or nodes < 1:
        raise UsageError(f"{devices} devices on {nodes} nodes make no sense")
    if nodes > 1 and rendezvous is None:
        raise UsageError(
            f"{nodes} nodes do not know of one another",
            hint="run this on each of them with the same --rendezvous HOST:PORT, of one of them",
        )
    if cuda:
        import torch

        there, what = torch.cuda.device_count(), "CUDA devices"
    else:
        there, what = cores(), "CPU cores"
    if devices > there:
        raise UsageError(
            f"{devices} devices were asked for, and this machine has {there} {what}",
            hint="a process takes one: ask for fewer with --devices, or for more --nodes",
        )


def launch(command: Sequence[str], devices: int, nodes: int, rendezvous: str | None) -> int:
    """Run ``command`` (of Python) in ``devices`` processes on each of ``nodes``; the exit code.

    Other nodes run the same with the same ``rendezvous``, HOST:PORT of one of them.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // devices)))
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=devices,
        run_id="tlhub" if nodes > 1 else f"tlhub-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous or "localhost:0",
        max_restarts=0,
        local_addr=None if nodes > 1 else "localhost",
        virtual_local_rank=True,  # every process sees one GPU, its own
    )
    logging.disable(logging.ERROR)  # the processes say themselves what went wrong
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code > 0 else 128 - code
    except SignalException as stop:
        return 130 if stop.sigval is signal.SIGINT else 128 + stop.sigval
    finally:
        logging.disable(logging.NOTSET)
    return 0


def end(code: int) -> NoReturn:
    """End a process that the launcher started, all that it wrote flushed.

    Not by the interpreter: under load the threads of torch's process group may abort it then, and
    a run that is whole would count as failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_launcher() -> None:
    """Have this process killed where its launcher was. Linux: prctl(2) with PR_SET_PDEATHSIG."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
