"""A residual network whose layers are stable. Beside it: `julia/src/models/antisymmetric.jl`.

y_{k+1} = y_k + h tanh((K_k - K_kᵀ - γ I) y_k + b_k): the eigenvalues of an antisymmetric matrix are imaginary, γ moves
them to the left.
Source: Haber, Ruthotto, "Stable architectures for deep neural networks", Inverse Problems 34(1), 2018.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..specs.antisymmetric import AntisymmetricConfig


class Antisymmetric(nn.Module):
    """Antisymmetric layers with a linear classifier at the end.

    Args:
        config: classes, h and gamma.
        params: `K` (N, d, d), `b` (N, d), `classifier.weight` (classes, d), `classifier.bias` (classes,).
    """

    def __init__(self, config: AntisymmetricConfig, params: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        self.K = nn.Parameter(params["K"])
        self.b = nn.Parameter(params["b"])
        with torch.device("meta"):  # nothing is allocated: `params` are the arrays
            self.classifier = nn.Linear(params["K"].shape[1], config.classes)
        self.load_state_dict(dict(params), assign=True)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (samples, classes) of states x (samples, d)."""
        h, damping = self.config.h, self.config.gamma * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        for K, b in zip(self.K, self.b, strict=True):
            x = x + h * torch.tanh(x @ (K - K.T - damping).T + b)
        scores: Tensor = self.classifier(x)
        return scores

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of scores (samples, classes) for labels (samples,)."""
        return F.cross_entropy(scores, labels)
