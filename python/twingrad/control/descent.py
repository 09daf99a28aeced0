"""Gradient descent with the adaptive step (backtracking) of Benning et al. 2019.

The same file on the Julia side is `julia/src/control/descent.jl`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..evaluation import Evaluation
from ..kernels.path import Reference
from ..models.control_net import ControlNet
from .costate import costate_gradient
from .simplex import project_simplex

FIRST_STEP_CONSTANT = 0.1
SHRINK, GROW, MAX_TRIES = 0.99, 1.5, 200


def trained_params(model: ControlNet, freeze: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The names of the parameters that descent changes: K, b, W, mu, and dt where learned, less the frozen ones."""
    names = ("K", "b", "W", "mu", "dt") if model.config.learns_dt else ("K", "b", "W", "mu")
    return tuple(name for name in names if name not in freeze)


class Costate(Reference):
    """The gradient by the costate equation, as `costate.py` has it."""

    def gradient(self, model: ControlNet, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Evaluation:
        """Loss and gradients, without autograd."""
        return costate_gradient(model, inputs, targets)


@dataclass
class Descent:
    """Descent on a model's objective over one batch.

    Args:
        model: changed in place.
        path: gives loss and gradients: a path of `kernels/path.py`, or `Costate`.
        inputs, targets: the batch, x (samples, d) and c (samples,).
        trained: names of the parameters to change.
        step_constant: L, the inverse of the step size, of the first try.
    """

    model: ControlNet
    path: Reference
    inputs: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    trained: tuple[str, ...]
    step_constant: float = FIRST_STEP_CONSTANT

    def objective(self) -> float:
        """J at the model's present parameters."""
        return self.path.objective(self.model, self.inputs, self.targets)

    def step(self) -> tuple[float, float, float] | None:
        """One step; returns J before, J after and the accepted L, or None if no try was accepted.

        Try δ = -∇J/L, projected where Δt lives on the simplex; accept it when
        J(new) <= J(old) + ⟨g, δ⟩ + L/2 ‖δ‖², then L <- 0.99 L; else L <- 1.5 L.
        """
        here = self.path.gradient(self.model, self.inputs, self.targets)
        params = dict(self.model.named_parameters())
        old = {name: params[name].detach().clone() for name in self.trained}
        before, L = float(here.loss), self.step_constant
        with torch.no_grad():
            for _ in range(MAX_TRIES):
                slopes, squares = [], []
                for name in self.trained:
                    new = torch.sub(old[name], here.grads[name], alpha=1.0 / L)
                    if name == "dt" and self.model.config.network == "odenet-simplex":
                        new = project_simplex(new)
                    delta = (new - old[name]).flatten()
                    slopes.append(torch.dot(here.grads[name].flatten(), delta))
                    squares.append(torch.dot(delta, delta))
                    params[name].copy_(new)
                slope, square = float(sum(slopes)), float(sum(squares))
                after = self.objective()
                if after <= before + slope + 0.5 * L * square:
                    self.step_constant = SHRINK * L
                    return before, after, L
                L *= GROW
            for name in self.trained:
                params[name].copy_(old[name])
        return None
