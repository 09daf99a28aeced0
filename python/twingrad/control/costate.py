"""The gradient of a control network by hand: the discrete costate equation.

With L the loss, p_k = ∂L/∂y_k and f = tanh(K_k y + b_k), one layer of the symplectic partner method reads, from the
last stage to the first (after Benning et al. 2019):

    P_i = p_{k+1} + Δt_k Σ_j ã_ij Q_j,   G_i = (1 - f(Y_i)²) ∘ P_i,   Q_i = K_kᵀ G_i,
    p_k = α p_{k+1} + Δt_k Σ_i w_i Q_i,
    ∂L/∂K_k = Δt_k Σ_i w_i G_i Y_iᵀ,   ∂L/∂b_k = Δt_k Σ_i w_i G_i,   ∂L/∂Δt_k = Σ_i w_i ⟨P_i, f(Y_i)⟩,

each summed over the samples. The same file on the Julia side is `julia/src/control/costate.jl`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..evaluation import Evaluation
from ..models.control_net import ControlNet
from .runge_kutta import TABLEAUS, combine


@torch.no_grad()
def costate_gradient(model: ControlNet, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Evaluation:
    """Loss and gradients of `model` at inputs x (samples, d) with targets c (samples,), without autograd."""
    x, c = inputs["x"], targets["c"]
    tableau, alpha = TABLEAUS[model.config.method], model.config.alpha
    stages = range(len(tableau.w))

    # Forward: keep the stages' states Y_i and velocities F_i = f(Y_i) of every layer.
    y, layers = x, []
    for K, b, dt in zip(model.K, model.b, model.dt, strict=True):
        Y: list[Tensor] = []
        F: list[Tensor] = []
        for row in tableau.A:
            Y.append(y + dt * combine(row, F))
            F.append(torch.tanh(torch.addmm(b, Y[-1], K.T)))
        layers.append((K, dt, Y, F))
        y = alpha * y + dt * combine(tableau.w, F)

    # The classifier: prediction = σ(W y_N + μ), r = ∂L/∂(W y_N + μ).
    prediction = model.classify(y)
    scale = 1.0 / len(c) if model.config.scale == "mean" else 1.0
    r = scale * (prediction - c) * prediction * (1.0 - prediction)
    grads = {name: torch.zeros_like(param) for name, param in model.named_parameters()}
    grads["W"] = (r @ y)[None]
    grads["mu"] = r.sum()[None]
    p = torch.outer(r, model.W[0])

    # Backward: the costate equation.
    for k in reversed(range(len(layers))):
        K, dt, Y, F = layers[k]
        Q = [p] * len(stages)
        for i in reversed(stages):
            w = tableau.w[i]
            P = p + dt * combine(tableau.adjoint[i], Q)
            G = (1.0 - F[i] * F[i]) * P
            Q[i] = G @ K
            grads["K"][k] += dt * w * (G.T @ Y[i])
            grads["b"][k] += dt * w * G.sum(0)
            grads["dt"][k] += w * torch.sum(P * F[i])
        p = alpha * p + dt * combine(tableau.w, Q)

    return Evaluation(model.loss(prediction, c), prediction, grads, {"x": p})
