"""Settings of the optimizers with their learning-rate schedule; beside it: `julia/src/schedule.jl`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Schedule:
    """What all optimizers share.

    The learning rate climbs linearly over `warmup` steps, falls along half a cosine until step `decay`, and stays at
    `min_learning_rate` from there. Gradients whose joint 2-norm exceeds `clip` are scaled down to it (0: never).
    Weights decay where an array has two axes or more, as nanoGPT has it.
    """

    learning_rate: float
    min_learning_rate: float
    warmup: int
    decay: int
    weight_decay: float = 0.1
    clip: float = 1.0

    @property
    def moments(self) -> int:
        """How many moments of the gradients the optimizer remembers."""
        raise NotImplementedError

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / (self.warmup + 1)
        if step >= self.decay:
            return self.min_learning_rate
        turn = math.pi * (step - self.warmup) / (self.decay - self.warmup)
        return self.min_learning_rate + 0.5 * (1.0 + math.cos(turn)) * (self.learning_rate - self.min_learning_rate)


@dataclass(frozen=True)
class AdamWSettings(Schedule):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019); Adam itself where the decay is 0."""

    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8

    @property
    def moments(self) -> int:
        """The first and the second."""
        return 2


@dataclass(frozen=True)
class SGDSettings(Schedule):
    """Gradient descent with momentum, v <- momentum v + (∇ + decay w), w <- w - η v; plain where momentum is 0."""

    momentum: float = 0.9

    @property
    def moments(self) -> int:
        """The first, unless the momentum is 0."""
        return 1 if self.momentum else 0


_ADAMW = AdamWSettings(learning_rate=1e-2, min_learning_rate=1e-3, warmup=3, decay=8, clip=2.0, eps=1e-6)
_SGD = SGDSettings(learning_rate=5e-2, min_learning_rate=5e-3, warmup=3, decay=8, clip=2.0, weight_decay=1e-2)
COMPARED: dict[str, AdamWSettings | SGDSettings] = {
    "adamw": _ADAMW,
    "adam": replace(_ADAMW, weight_decay=0.0),
    "sgd": _SGD,
    "gradient-descent": replace(_SGD, momentum=0.0, weight_decay=0.0, clip=0.0),
}
"""The settings of a comparison's training steps (FORMAT.md): ten steps climb, fall and rest, some are clipped.

Adam divides a gradient by its own size. Where that is rounding and nothing else (the keys' biases have no influence),
only `eps` keeps it small, and 1e-8 would let 1e-17 grow to 1e-10.
"""
