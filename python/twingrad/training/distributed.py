"""The processes that train one model together: one, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from ..errors import InputError, one_of

KINDS = ("ddp", "fsdp")


class Team:
    """Processes that each take an equal part of every batch.

    `ddp` keeps a whole model in each process and averages the gradients; `fsdp` (FSDP2) spreads parameters, gradients
    and moments over the processes, for models that outgrow one GPU. A team of one does neither.
    """

    def __init__(self, kind: str = "", rank: int = 0, size: int = 1) -> None:
        self.kind, self.rank, self.size = kind, rank, size

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """This process's part of a batch; raises InputError where the parts are not equal."""
        if batch % self.size:
            raise InputError("batch", expected=f"a multiple of {self.size}, the processes", found=str(batch))
        part = batch // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def wrap(self, model: nn.Module, blocks: nn.ModuleList) -> nn.Module:
        """The module to call in training; `blocks` are what FSDP spreads one by one."""
        if self.kind == "ddp":
            return DistributedDataParallel(model)
        if self.kind == "fsdp":
            for block in blocks:
                fully_shard(block)
            fully_shard(model)
        return model

    def accumulating(self, module: nn.Module, is_last: bool) -> AbstractContextManager[Any]:
        """Around one backward pass of an accumulated batch: gradients are averaged after the last one alone."""
        if isinstance(module, DistributedDataParallel) and not is_last:
            return module.no_sync()
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(is_last)
        return nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a number over the processes."""
        if self.size > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
            value /= self.size
        return value

    def agrees(self, flag: bool, device: torch.device) -> bool:
        """Whether any process says so."""
        if self.size == 1:
            return flag
        count = torch.tensor(float(flag), device=device)
        dist.all_reduce(count)
        return float(count) > 0

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.size > 1:
            dist.barrier()


STARTED_BY_TORCHRUN = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""Variables that torchrun sets, and srun with a script that does."""


@contextmanager
def team(kind: str, device: str) -> Iterator[Team]:
    """The team that the variables of torchrun describe; a team of one without them.

    Args:
        kind: "ddp" or "fsdp".
        device: "cpu" (gloo) or "cuda" (NCCL; each process takes the GPU of its local rank).
    """
    if kind not in KINDS:
        raise InputError("parallel", expected=one_of(KINDS), found=repr(kind))
    if not os.environ.keys() >= STARTED_BY_TORCHRUN:
        yield Team()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Team(kind, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
