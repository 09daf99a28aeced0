"""The fast path of a control network: its costate equation in few and large operations, without autograd.

Samples are columns, and a row of ones below the stages' states Y carries the bias along: K Y + b is one product
(K b)(Y; 1). With P, G and Q as in `control/costate.py`, the gradients are summed at the end, over all layers and stages
at once:

    ∂L/∂(K_k b_k) = Σ_i Δt_k w_i G_i (Y_i; 1)ᵀ,   ∂L/∂Δt_k = Σ_i w_i ⟨P_i, F_i⟩.

Beside it: `julia/src/kernels/control_net.jl`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..control.runge_kutta import TABLEAUS
from ..evaluation import Evaluation
from ..models.control_net import ControlNet


class ControlKernels:
    """Room for the fast path of control networks like `model` at batches like x (samples, d).

    The arrays of a result belong to it and change at the next call.
    """

    def __init__(self, model: ControlNet, x: Tensor) -> None:
        (samples, d), N = x.shape, len(model.K)
        self.tableau, self.alpha = TABLEAUS[model.config.method], model.config.alpha
        self.scale = 1.0 / samples if model.config.scale == "mean" else 1.0
        S = len(self.tableau.w)

        # (layer, stage, component, sample): Y with its row of ones, of y_N only the first; F, slope = 1 - F², P, G.
        self.Y = x.new_ones(N + 1, S, d + 1, samples)
        self.F, self.slope, self.P, self.G = (x.new_empty(N, S, d, samples) for _ in range(4))
        self.Q = x.new_empty(S, d, samples)
        self.grad_x = x.new_empty(d, samples)
        self.Kb, self.Wmu = x.new_empty(N, d, d + 1), x.new_empty(1, d + 1)
        self.prediction, self.error = x.new_empty(samples), x.new_empty(samples)
        self.w = x.new_tensor(self.tableau.w)

        # Views of single steps, made once: making one costs as much as a product of small matrices.
        self.K, self.b, self.W, self.mu = self.Kb[:, :, :d], self.Kb[:, :, d], self.Wmu[:, :d], self.Wmu[0, d:]
        self.layer_Kb, self.layer_K_transposed = self.Kb.unbind(), self.K.mT.unbind()
        self.stage_Y, self.stage_y = _stages(self.Y), _stages(self.Y[:, :, :d])
        self.stage_F, self.stage_slope = _stages(self.F), _stages(self.slope)
        self.stage_P, self.stage_G, self.stage_Q = _stages(self.P), _stages(self.G), self.Q.unbind()
        # As vectors, and the stages as the columns of a matrix, for sums like Σ_i w_i F_i.
        self.flat_y = [stages[0].view(-1) for stages in self.stage_y]
        self.flat_p = [self.grad_x.view(-1), *(stages[-1].view(-1) for stages in self.stage_P)]
        self.flat_F, self.flat_Q = [F.flatten(1).T for F in self.F], self.Q.flatten(1).T


def output(work: ControlKernels, model: ControlNet, inputs: Mapping[str, Tensor]) -> Tensor:
    """Predictions (samples,) of `model` for initial states x (samples, d)."""
    with torch.no_grad():
        return _forward(work, model, inputs["x"])


def objective(
    work: ControlKernels, model: ControlNet, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> float:
    """The loss of `model` at inputs x (samples, d) with targets c (samples,)."""
    with torch.no_grad():
        _forward(work, model, inputs["x"])
        return float(_loss(work, targets["c"]))


@torch.no_grad()
def gradient(
    work: ControlKernels, model: ControlNet, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> Evaluation:
    """Loss and gradients of `model` at inputs x (samples, d) with targets c (samples,), without autograd."""
    prediction, (N, S, d, samples) = _forward(work, model, inputs["x"]), work.F.shape
    loss = _loss(work, targets["c"])

    # The classifier: prediction = σ(W y_N + μ), r = ∂L/∂(W y_N + μ).
    r = work.scale * work.error * prediction * (1.0 - prediction)
    grad_Wmu = r[None] @ work.stage_Y[-1][0].T
    torch.mul(work.W.T, r, out=work.stage_P[-1][-1])

    _backward(work, model)

    weights = torch.outer(model.dt, work.w)
    work.G *= weights[:, :, None, None]
    by_stage = torch.bmm(work.G.view(N * S, d, samples), work.Y[:-1].view(N * S, d + 1, samples).mT)
    grad_Kb = by_stage.view(N, S, d, d + 1).sum(1)
    products = torch.mul(work.P, work.F, out=work.P).sum((2, 3))
    grads = {
        "K": grad_Kb[:, :, :d],
        "b": grad_Kb[:, :, d],
        "W": grad_Wmu[:, :d],
        "mu": grad_Wmu[0, d:],
        "dt": products @ work.w,
    }
    return Evaluation(loss, prediction, grads, {"x": work.grad_x.T})


def _stages(array: Tensor) -> list[tuple[Tensor, ...]]:
    """The parts of an array (layer, stage, ...), by layer and stage."""
    return [layer.unbind() for layer in array]


def _add_terms(into: Tensor, base: Tensor, dt: float, coefficients: Sequence[float], terms: Sequence[Tensor]) -> None:
    """Into = base + Δt Σ_j coefficients[j] terms[j]; where all coefficients are zero, `into` is `base` already."""
    for c, term in zip(coefficients, terms, strict=True):
        if c != 0.0:
            torch.add(base, term, alpha=dt * c, out=into)
            base = into


def _advance(into: Tensor, alpha: float, base: Tensor, stages: Tensor, weights: Tensor) -> None:
    """Into = α base + stages · weights, for vectors and a matrix with a column per stage."""
    if alpha != 1.0:
        base = torch.mul(base, alpha, out=into)
    torch.addmv(base, stages, weights, out=into)


def _forward(work: ControlKernels, model: ControlNet, x: Tensor) -> Tensor:
    """Predictions; leaves the states and velocities of all layers and stages in `work`."""
    work.K.copy_(model.K)
    work.b.copy_(model.b)
    work.W.copy_(model.W)
    work.mu.copy_(model.mu)
    work.stage_y[0][0].copy_(x.T)
    steps, weights = model.dt.tolist(), torch.outer(model.dt, work.w).unbind()
    for k, dt in enumerate(steps):
        Kb, Y, y, F = work.layer_Kb[k], work.stage_Y[k], work.stage_y[k], work.stage_F[k]
        for i, row in enumerate(work.tableau.A):
            _add_terms(y[i], y[0], dt, row, F)
            torch.mm(Kb, Y[i], out=F[i])
            F[i].tanh_()
        _advance(work.flat_y[k + 1], work.alpha, work.flat_y[k], work.flat_F[k], weights[k])
    torch.mm(work.Wmu, work.stage_Y[-1][0], out=work.prediction[None])
    return work.prediction.sigmoid_()


def _loss(work: ControlKernels, c: Tensor) -> Tensor:
    """½ s Σ (prediction - c)² of the predictions in `work`."""
    torch.sub(work.prediction, c, out=work.error)
    return 0.5 * work.scale * torch.sum(work.error * work.error)


def _backward(work: ControlKernels, model: ControlNet) -> None:
    """The costate equation from p_N, which is P of the last stage, to p_0 = ∂L/∂x; leaves P and G in `work`."""
    torch.mul(work.F, work.F, out=work.slope)
    torch.sub(1.0, work.slope, out=work.slope)
    steps, weights = model.dt.tolist(), torch.outer(model.dt, work.w).unbind()
    for k in reversed(range(len(steps))):
        P, G, slope, Q = work.stage_P[k], work.stage_G[k], work.stage_slope[k], work.stage_Q
        for i in reversed(range(len(Q))):
            _add_terms(P[i], P[-1], steps[k], work.tableau.adjoint[i], Q)
            torch.mul(P[i], slope[i], out=G[i])
            torch.mm(work.layer_K_transposed[k], G[i], out=Q[i])
        _advance(work.flat_p[k], work.alpha, work.flat_p[k + 1], work.flat_Q, weights[k])
