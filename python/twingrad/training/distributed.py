"""The processes that train one model together: one, or those that torchrun or Slurm's srun started."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..engine import choose_device
from ..errors import InputError, SideError, one_of

KINDS = ("ddp", "fsdp")
BAD_INPUT = 2
LEAD_SECONDS = 0.5
"""torchrun and srun end all processes once one has failed: the one that leads has this long to tell why."""

Result = TypeVar("Result")


class Team:
    """Processes that each take an equal part of every batch.

    `ddp` keeps a whole model in each process and averages the gradients; `fsdp` (FSDP2) spreads parameters, gradients
    and moments over the processes, for models that outgrow one GPU. A team of one does neither.

    All processes must call the methods that talk to the others, `wrap`, `sums`, `all_or_none` and `check_same`, in the
    same order. So what decides about such a call must be the same in all of them: a sum of `sums`, never a clock or a
    signal of one.
    """

    def __init__(self, kind: str = "", rank: int = 0, size: int = 1) -> None:
        self.kind, self.rank, self.size = kind, rank, size

    @property
    def leads(self) -> bool:
        """Whether this process writes files, shows progress and tells errors."""
        return self.rank == 0

    @property
    def spreads(self) -> bool:
        """Whether each process holds but a part of every parameter."""
        return self.size > 1 and self.kind == "fsdp"

    def share(self, batch: int) -> slice:
        """This process's part of a batch; raises InputError where the parts are not equal."""
        if batch % self.size:
            raise InputError("batch", expected=f"a multiple of {self.size}, the processes", found=str(batch))
        part = batch // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def wrap(self, model: nn.Module, blocks: nn.ModuleList, device: torch.device) -> nn.Module:
        """The module to call in training, on `device`.

        FSDP spreads `blocks` one by one, and the rest of the model as one more part: only the block that computes is
        ever whole, besides the rest. So a model that outgrows `device` must come on the CPU.
        """
        if self.size == 1:
            return model
        if self.kind == "ddp":
            return DistributedDataParallel(model)
        from torch.distributed.device_mesh import init_device_mesh  # imported here: they take two seconds
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(device.type, (self.size,))
        for block in blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model

    def compiled(self, module: nn.Module, blocks: nn.ModuleList) -> nn.Module:
        """The wrapped module with torch.compile; with FSDP the blocks are compiled, between which it fetches parts."""
        if self.spreads:
            for block in blocks:
                block.compile()
            return module
        compiled: nn.Module = torch.compile(module)  # type: ignore[assignment]
        return compiled

    def accumulating(self, module: Any, is_last: bool) -> AbstractContextManager[Any]:
        """Around one backward pass of an accumulated batch: gradients are averaged after the last one alone."""
        if self.spreads:
            module.set_requires_gradient_sync(is_last)
        elif self.size > 1 and not is_last:
            context: AbstractContextManager[Any] = module.no_sync()
            return context
        return nullcontext()

    def sums(self, *values: float) -> list[float]:
        """The sum of each number over the processes: the same bits in all of them."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def all_or_none(self, action: Callable[[], Result]) -> Result:
        """What `action` returns, done by the process that leads first, then by the others at once.

        Raises InputError in all processes where it did in one, so that none waits for one that has left.
        """
        if self.size == 1:
            return action()
        done: list[Result] = []
        for turn in (self.leads, not self.leads):
            error: InputError | None = None
            if turn:
                try:
                    done = [action()]
                except InputError as raised:
                    error = raised
            for rank, args in enumerate(self._from_all(error and error.args)):
                if args is not None:
                    where, expected, found, hint = args
                    where = f"process {rank}, {where}" if rank else where
                    raise InputError(where, expected=expected, found=found, hint=hint)
        return done[0]

    def check_same(self, where: str, value: str, hint: str) -> None:
        """Raise InputError in all processes where `value` is not the same in all."""
        if self.size == 1:
            return
        values = self._from_all(value)
        for rank, found in enumerate(values):
            if found != values[0]:
                expected, found = f"{values[0]} in all processes", f"{found} in process {rank}"
                raise InputError(where, expected=expected, found=found, hint=hint)

    def _from_all(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


@contextmanager
def team(kind: str, device: str) -> Iterator[Team]:
    """The team that the variables RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT describe.

    An error inside is raised by the process that leads; the others, where it is the same, say nothing and leave with
    exit status 2.

    Args:
        kind: "ddp" or "fsdp".
        device: "cpu", or "cuda": each process takes the GPU of its local rank.

    Raises:
        InputError: unknown kind or device, variables that are no numbers, or processes that do not find each other.
    """
    rank, size, local = (_number(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    together = Team(kind, rank, size)
    if size > 1:
        _meet(rank, size, with_gpus=device == "cuda" and torch.cuda.is_available())
    try:
        together.all_or_none(lambda: _check(kind, device, local))
        yield together
    except (InputError, SideError):
        if together.leads:
            raise
        time.sleep(LEAD_SECONDS)
        raise SystemExit(BAD_INPUT) from None
    finally:
        if size > 1:
            dist.destroy_process_group()


def _meet(rank: int, size: int, with_gpus: bool) -> None:
    try:  # gloo for what the processes agree on, NCCL for what GPUs exchange
        dist.init_process_group("cpu:gloo,cuda:nccl" if with_gpus else "gloo")
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0]
        raise InputError(f"process {rank}, {place}", expected=f"{size} processes to meet there", found=reason) from None


def _number(name: str) -> int:
    value = os.environ.get(name, "0")
    if not value.isdecimal():
        raise InputError(f"environment variable {name}", expected="a number", found=repr(value))
    return int(value)


def _check(kind: str, device: str, local: int) -> None:
    """Check kind and device, and take this process's GPU."""
    if kind not in KINDS:
        raise InputError("parallel", expected=one_of(KINDS), found=repr(kind))
    if choose_device(device).type == "cuda":
        count = torch.cuda.device_count()
        own = 0 if count == 1 else local  # Slurm may show each process its own GPU alone
        if own >= count:
            expected = f"a GPU for each process of a machine: at least {local + 1}"
            raise InputError("device", expected=expected, found=str(count))
        torch.cuda.set_device(own)
