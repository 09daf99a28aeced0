"""What an evaluation of a model at one point gives, and the gradient by automatic differentiation.

The same file on the Julia side is `julia/src/evaluation.jl`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """Loss, output and all gradients by name; shapes as the parameters and inputs have them."""

    loss: Tensor
    output: Tensor
    grads: dict[str, Tensor]
    grads_inputs: dict[str, Tensor]


def autograd_gradient(model: Any, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Evaluation:
    """Loss and gradients by automatic differentiation."""
    inputs = {name: x.detach().requires_grad_(x.is_floating_point()) for name, x in inputs.items()}
    output = model(**inputs)
    loss = model.loss(output, **targets)
    params, floating = dict(model.named_parameters()), {n: x for n, x in inputs.items() if x.requires_grad}
    gradients = iter(torch.autograd.grad(loss, [*params.values(), *floating.values()]))
    grads, grads_inputs = ({name: next(gradients) for name in names} for names in (params, floating))
    return Evaluation(loss.detach(), output.detach(), grads, grads_inputs)
