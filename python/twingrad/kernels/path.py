"""The ways to compute a model: the reference, by automatic differentiation of the plain layers, and the fast path.

On the Julia side they are in `julia/src/kernels/workspace.jl`; `docs/kernels.md` says what each is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, one_of
from ..evaluation import Evaluation, autograd_gradient
from . import control_net

PATHS = ("reference", "fast")

Tensors = Mapping[str, Tensor]


class Reference:
    """Automatic differentiation of the model as its file has it."""

    def prepare(self, model: Any) -> Any:
        """The model as this path wants it, over the same parameters or others in their place."""
        return model

    @torch.no_grad()
    def output(self, model: Any, inputs: Tensors) -> Tensor:
        """The model's output, without a gradient."""
        found: Tensor = model(**inputs)
        return found

    @torch.no_grad()
    def objective(self, model: Any, inputs: Tensors, targets: Tensors) -> float:
        """The loss."""
        return float(model.loss(model(**inputs), **targets))

    def gradient(self, model: Any, inputs: Tensors, targets: Tensors) -> Evaluation:
        """Loss, output and gradients; they may change at the next call."""
        return autograd_gradient(model, inputs, targets)


class ChannelsLast(Reference):
    """The same with each pixel's channels side by side in memory, which convolutions on a CPU read faster."""

    def prepare(self, model: Any) -> Any:
        """The model, its convolutions' weights laid out anew; outputs follow them."""
        return model.to(memory_format=torch.channels_last)


class ControlPath(Reference):
    """A control network by the costate equation in reused arrays, made anew for a batch of another size."""

    def __init__(self) -> None:
        self._work: control_net.ControlKernels | None = None
        self._made_for: tuple[Any, ...] = ()

    def _at(self, model: Any, inputs: Tensors) -> control_net.ControlKernels:
        x = inputs["x"]
        made_for = (model.config, model.K.shape, x.shape, x.dtype, x.device)
        if self._work is None or made_for != self._made_for:
            self._work, self._made_for = control_net.ControlKernels(model, x), made_for
        return self._work

    def output(self, model: Any, inputs: Tensors) -> Tensor:
        """Predictions (samples,)."""
        return control_net.output(self._at(model, inputs), model, inputs)

    def objective(self, model: Any, inputs: Tensors, targets: Tensors) -> float:
        """The loss."""
        return control_net.objective(self._at(model, inputs), model, inputs, targets)

    def gradient(self, model: Any, inputs: Tensors, targets: Tensors) -> Evaluation:
        """Loss, output and gradients, by hand."""
        return control_net.gradient(self._at(model, inputs), model, inputs, targets)


FAST: Mapping[str, type[Reference]] = {"control_net": ControlPath, "resnet": ChannelsLast}
"""The models that have a fast path here. The others' layers are fused in PyTorch itself: it is their reference."""


def make_path(name: str, model: str) -> Reference:
    """The path called `name` of the model called `model`; InputError lists the paths."""
    if name not in PATHS:
        raise InputError("path", expected=one_of(PATHS), found=repr(name))
    return FAST.get(model, Reference)() if name == "fast" else Reference()
