"""The optimizers, with the schedule, clipping and decay of `schedule.py`.

The same file on the Julia side is `julia/src/optimizers.jl`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .control.simplex import project_simplex
from .schedule import AdamWSettings, Schedule, SGDSettings


class Optimizer:
    """One of torch's optimizers on all parameters of a model, with the schedule, clipping and decay of `settings`.

    The parameters that the model's `simplex` names are projected after each step (Duchi et al., ICML 2008).
    """

    MOMENTS: ClassVar[tuple[str, ...]]
    """torch's names of what the optimizer remembers: the first moment of the gradients, the second if it has one."""

    def __init__(self, model: nn.Module, settings: Schedule, steps_taken: int = 0) -> None:
        self.settings, self.steps_taken = settings, steps_taken
        self.params = dict(model.named_parameters())
        self.simplex: Mapping[str, float] = getattr(model, "simplex", {})
        matrices = [param for param in self.params.values() if param.ndim >= 2]
        others = [param for param in self.params.values() if param.ndim < 2]
        groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.inner = self._inner([group for group in groups if group["params"]])

    def _inner(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        raise NotImplementedError

    def step(self) -> tuple[float, float]:
        """Take a step by the parameters' `.grad` where they are finite; returns learning rate and their joint norm."""
        rate = self.settings.rate(self.steps_taken)
        for group in self.inner.param_groups:
            group["lr"] = rate
        limit = self.settings.clip or math.inf
        norm = float(whole(nn.utils.clip_grad_norm_(self.params.values(), limit)))
        if math.isfinite(norm):
            self.inner.step()
            self._project()
            self.steps_taken += 1
        return rate, norm

    @torch.no_grad()
    def _project(self) -> None:
        """Put the parameters that live on a simplex back on it."""
        for name, total in self.simplex.items():
            param = self.params[name]
            param.copy_(like(param, project_simplex(whole(param), total)))

    def moments(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The first and the second moment by parameter; empty before the first step, or where there is none."""
        states = {name: self.inner.state[param] for name, param in self.params.items() if param in self.inner.state}
        found: list[dict[str, Tensor]] = [{}, {}]
        for place, key in enumerate(self.MOMENTS):
            found[place] = {name: state[key] for name, state in states.items() if state.get(key) is not None}
        return found[0], found[1]

    def restore(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
        """Go on from the moments of an earlier run after `steps_taken` steps; they are copied."""
        for name, param in self.params.items():
            moments = zip(self.MOMENTS, (first, second), strict=False)
            state = {key: like(param, values[name]) for key, values in moments if values}
            self.inner.state[param] = state | {"step": torch.tensor(float(self.steps_taken), device=param.device)}


class AdamW(Optimizer):
    """torch's AdamW."""

    MOMENTS = ("exp_avg", "exp_avg_sq")
    settings: AdamWSettings

    def _inner(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        betas = (self.settings.beta1, self.settings.beta2)
        return torch.optim.AdamW(groups, self.settings.learning_rate, betas, self.settings.eps, fused=True)


class SGD(Optimizer):
    """torch's SGD with momentum; gradient descent where the momentum is 0."""

    MOMENTS = ("momentum_buffer",)
    settings: SGDSettings

    def _inner(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, self.settings.learning_rate, self.settings.momentum)


def make_optimizer(model: nn.Module, settings: Schedule, steps_taken: int = 0) -> Optimizer:
    """The optimizer that the settings are of."""
    kind = SGD if isinstance(settings, SGDSettings) else AdamW
    return kind(model, settings, steps_taken)


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
