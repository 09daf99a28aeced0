"""What an evaluation of a model at one point gives, however its gradients were computed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """Loss, output and all gradients by name; shapes as the parameters and inputs have them."""

    loss: Tensor
    output: Tensor
    grads: dict[str, Tensor]
    grads_inputs: dict[str, Tensor]
