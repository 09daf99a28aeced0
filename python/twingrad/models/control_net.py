"""A residual network as a discretised control problem. Beside it: `julia/src/models/control_net.jl`.

Source: Benning, Celledoni, Ehrhardt, Owren, Schönlieb, "Deep learning as optimal control problems: models and
numerical methods", J. Comput. Dyn. 6(2), 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..control.runge_kutta import TABLEAUS, step
from ..specs import ControlNetConfig


def velocity(K: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """The right-hand side tanh(K y + b) for states y (samples, d), K (d, d), b (d,)."""
    return torch.tanh(y @ K.T + b)


class ControlNet(nn.Module):
    """y' = tanh(K(t) y + b(t)), discretised in N steps, with a logistic classifier at the end.

    Args:
        config: network, method and scale of the objective.
        params: `K` (N, d, d), `b` (N, d), `W` (1, d), `mu` (1,), `dt` (N,), floating point.
    """

    def __init__(self, config: ControlNetConfig, params: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        self.K = nn.Parameter(params["K"])
        self.b = nn.Parameter(params["b"])
        self.W = nn.Parameter(params["W"])
        self.mu = nn.Parameter(params["mu"])
        self.dt = nn.Parameter(params["dt"])

    def states(self, x: Tensor) -> Iterator[Tensor]:
        """The states y_0 = x, y_1, ..., y_N, each (samples, d)."""
        tableau, y = TABLEAUS[self.config.method], x
        yield y
        for K, b, dt in zip(self.K, self.b, self.dt, strict=True):
            y = step(tableau, partial(velocity, K, b), y, dt, self.config.alpha)
            yield y

    def classify(self, y: Tensor) -> Tensor:
        """sigmoid(W y + μ) of states (samples, d): predictions (samples,) in (0, 1)."""
        return torch.sigmoid(y @ self.W[0] + self.mu)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (samples,) for initial states x (samples, d)."""
        for y in self.states(x):
            final = y
        return self.classify(final)

    def loss(self, prediction: Tensor, c: Tensor) -> Tensor:
        """J = s ½ Σ (prediction - c)² with s = 1/samples ("mean") or 1 ("sum"); labels c (samples,)."""
        total = 0.5 * torch.sum((prediction - c) ** 2)
        return total / len(c) if self.config.scale == "mean" else total
