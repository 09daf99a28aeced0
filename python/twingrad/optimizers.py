"""AdamW with the schedule, clipping and decay of `schedule.py`.

The same file on the Julia side is `julia/src/optimizers.jl`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .schedule import AdamWSettings


class AdamW:
    """torch's AdamW on all parameters of a model, with the schedule, the clipping and the decay of `settings`."""

    def __init__(self, model: nn.Module, settings: AdamWSettings, steps_taken: int = 0) -> None:
        self.settings, self.steps_taken = settings, steps_taken
        self.params = dict(model.named_parameters())
        matrices = [param for param in self.params.values() if param.ndim >= 2]
        others = [param for param in self.params.values() if param.ndim < 2]
        self.inner = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            eps=settings.eps,
            fused=True,
        )

    def step(self) -> tuple[float, float]:
        """Take a step by the parameters' `.grad` where they are finite; returns learning rate and their joint norm."""
        rate = self.settings.rate(self.steps_taken)
        for group in self.inner.param_groups:
            group["lr"] = rate
        limit = self.settings.clip or math.inf
        norm = float(whole(nn.utils.clip_grad_norm_(self.params.values(), limit)))
        if math.isfinite(norm):
            self.inner.step()
            self.steps_taken += 1
        return rate, norm

    def moments(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The running means of the gradients and of their squares, by parameter; empty before the first step."""
        states = {name: self.inner.state[param] for name, param in self.params.items() if param in self.inner.state}
        first, second = ({name: state[key] for name, state in states.items()} for key in ("exp_avg", "exp_avg_sq"))
        return first, second

    def restore(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
        """Go on from the moments of an earlier run after `steps_taken` steps; they are copied."""
        for name, param in self.params.items():
            state = {"exp_avg": like(param, first[name]), "exp_avg_sq": like(param, second[name])}
            self.inner.state[param] = state | {"step": torch.tensor(float(self.steps_taken), device=param.device)}


def whole(tensor: Any) -> Tensor:
    """The tensor, collected from all processes where each holds a part (FSDP)."""
    collected: Tensor = tensor.full_tensor() if _is_spread(tensor) else tensor
    return collected


def like(param: Any, values: Tensor) -> Tensor:
    """A copy of `values` on the device of `param`, laid out over the processes as it is."""
    if _is_spread(param):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(values.to(param.device), param.device_mesh, param.placements)
    return values.to(param.device, copy=True)


def _is_spread(tensor: Any) -> bool:
    """Whether it is a DTensor, a class whose import takes two seconds."""
    return hasattr(tensor, "full_tensor")
