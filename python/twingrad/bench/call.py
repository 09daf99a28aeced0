"""What is timed: a call without arguments, on arrays that are there already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..engine import choose_device, choose_dtype, to_tensors
from ..specs import Arrays
from .saved import Work


@dataclass(frozen=True)
class Call:
    """A call, and what its result is checked by."""

    run: Callable[[], Any]
    checksum: Callable[[Any], float] = float
    """Of what the very first call returns: a number that no side's way of computing changes, but for rounding."""
    units: int = 1
    """What a call makes, where its time is told for one of them: tokens."""


@dataclass(frozen=True)
class Problem:
    """A workload's arrays as tensors, in its dtype on its device.

    Models compute "bfloat16" as training does: float32 weights, products in bfloat16. Layers and matrices are bfloat16
    themselves.
    """

    work: Work
    groups: Mapping[str, Arrays]
    dtype: torch.dtype = field(init=False)
    device: torch.device = field(init=False)
    inputs: dict[str, Tensor] = field(init=False)
    targets: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        dtype = "float32" if self.mixed else self.work.dtype
        put = object.__setattr__  # what follows from the rest, in a frozen class
        put(self, "dtype", choose_dtype(dtype))
        put(self, "device", choose_device(self.work.device))
        for group in ("inputs", "targets"):
            put(self, group, to_tensors(self.groups[group], self.dtype, self.device))

    @property
    def mixed(self) -> bool:
        """Whether weights and products are of two dtypes."""
        return self.work.dtype == "bfloat16" and self.work.kind in ("model", "generate")

    def params(self) -> dict[str, Tensor]:
        """A fresh copy of the parameters."""
        return to_tensors(self.groups["params"], self.dtype, self.device)

    def precision(self) -> AbstractContextManager[Any]:
        """A context for forward passes."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.mixed else nullcontext()
