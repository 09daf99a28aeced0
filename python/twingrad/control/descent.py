"""Gradient descent with the adaptive step (backtracking) of Benning et al. 2019.

The same file on the Julia side is `julia/src/control/descent.jl`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..evaluation import Evaluation
from ..models.control_net import ControlNet
from .simplex import project_simplex

FIRST_STEP_CONSTANT = 0.1
SHRINK, GROW, MAX_TRIES = 0.99, 1.5, 200


def trained_params(model: ControlNet, freeze: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The names of the parameters that descent changes: K, b, W, mu, and dt where learned, less the frozen ones."""
    names = ("K", "b", "W", "mu", "dt") if model.config.learns_dt else ("K", "b", "W", "mu")
    return tuple(name for name in names if name not in freeze)


@dataclass
class Descent:
    """Descent on a model's objective over one batch.

    Args:
        model: changed in place.
        gradient: gives loss and gradients, e.g. `costate_gradient` or `autograd_gradient`.
        inputs, targets: the batch, x (samples, d) and c (samples,).
        trained: names of the parameters to change.
        step_constant: L, the inverse of the step size, of the first try.
    """

    model: ControlNet
    gradient: Callable[[ControlNet, Mapping[str, Tensor], Mapping[str, Tensor]], Evaluation]
    inputs: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    trained: tuple[str, ...]
    step_constant: float = FIRST_STEP_CONSTANT

    @torch.no_grad()
    def objective(self) -> float:
        """J at the model's present parameters."""
        return float(self.model.loss(self.model(**self.inputs), **self.targets))

    def step(self) -> tuple[float, float, float] | None:
        """One step; returns J before, J after and the accepted L, or None if no try was accepted.

        Try δ = -∇J/L, projected where Δt lives on the simplex; accept it when
        J(new) <= J(old) + ⟨g, δ⟩ + L/2 ‖δ‖², then L <- 0.99 L; else L <- 1.5 L.
        """
        here = self.gradient(self.model, self.inputs, self.targets)
        params = dict(self.model.named_parameters())
        old = {name: params[name].detach().clone() for name in self.trained}
        before, L = float(here.loss), self.step_constant
        with torch.no_grad():
            for _ in range(MAX_TRIES):
                slope, square = 0.0, 0.0
                for name in self.trained:
                    new = old[name] - here.grads[name] / L
                    if name == "dt" and self.model.config.network == "odenet-simplex":
                        new = project_simplex(new)
                    delta = new - old[name]
                    slope += float(torch.sum(here.grads[name] * delta))
                    square += float(torch.sum(delta * delta))
                    params[name].copy_(new)
                after = self.objective()
                if after <= before + slope + 0.5 * L * square:
                    self.step_constant = SHRINK * L
                    return before, after, L
                L *= GROW
            for name in self.trained:
                params[name].copy_(old[name])
        return None
