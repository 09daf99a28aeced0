"""Settings of AdamW with its learning-rate schedule; the same file on the Julia side is `julia/src/schedule.jl`."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class AdamWSettings:
    """Decoupled weight decay (Loshchilov and Hutter, ICLR 2019) on matrices only, as nanoGPT has it.

    The learning rate climbs linearly over `warmup` steps, falls along half a cosine until step `decay`, and stays at
    `min_learning_rate` from there. Gradients whose joint 2-norm exceeds `clip` are scaled down to it (0: never).
    """

    learning_rate: float
    min_learning_rate: float
    warmup: int
    decay: int
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0
    eps: float = 1e-8

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / (self.warmup + 1)
        if step >= self.decay:
            return self.min_learning_rate
        turn = math.pi * (step - self.warmup) / (self.decay - self.warmup)
        return self.min_learning_rate + 0.5 * (1.0 + math.cos(turn)) * (self.learning_rate - self.min_learning_rate)


COMPARED = AdamWSettings(learning_rate=1e-2, min_learning_rate=1e-3, warmup=3, decay=8, clip=2.0, eps=1e-6)
"""The settings of a comparison's training steps (FORMAT.md): ten steps climb, fall and rest, some are clipped.

Adam divides a gradient by its own size. Where that is rounding and nothing else (the keys' biases have no influence),
only `eps` keeps it small, and 1e-8 would let 1e-17 grow to 1e-10.
"""
