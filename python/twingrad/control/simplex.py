"""Projection on a simplex. The same file on the Julia side is `julia/src/control/simplex.jl`."""

from __future__ import annotations

import torch
from torch import Tensor


def project_simplex(v: Tensor, total: float = 1.0) -> Tensor:
    """The point of {x : x >= 0, Σ x = total} nearest to `v` (n,), in O(n log n); `total` > 0.

    Source: Duchi, Shalev-Shwartz, Singer, Chandra, ICML 2008, figure 1.
    """
    u, _ = torch.sort(v, descending=True)
    excess = torch.cumsum(u, 0) - total
    j = torch.arange(1, len(v) + 1, dtype=v.dtype, device=v.device)
    rho = int(torch.count_nonzero(u - excess / j > 0))
    theta = excess[rho - 1] / rho
    return torch.clamp(v - theta, min=0.0)
