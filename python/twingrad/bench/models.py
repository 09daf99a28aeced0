"""The project's own models as calls: what users of TwinGrad run is what is timed.

The same workloads on the Julia side are in `julia/src/bench/`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..control.descent import FIRST_STEP_CONSTANT, Descent, trained_params
from ..engine import MODELS
from ..errors import InputError, SideError, one_of
from ..generation import generate
from ..kernels.path import ControlPath, Reference, make_path
from ..optimizers import make_optimizer
from ..schedule import COMPARED
from ..specs import MODELS as SPECS
from ..specs import make_config
from .call import Call, Problem

OPTIMIZERS = {"gpt": "adamw", "mlp": "sgd", "resnet": "sgd"}
"""Which settings of `schedule.COMPARED` a step takes; a control network has its own descent."""


def model_call(problem: Problem, module: Callable[[Any], Any] = lambda model: model, path: str = "fast") -> Call:
    """The call of a model's workload on a path; `module` makes of the model what computes its outputs."""
    work = problem.work
    if work.quantity not in CALLS:
        raise InputError("quantity", expected=one_of(CALLS), found=repr(work.quantity))
    config, by = make_config(SPECS[work.subject], work.config, f"workload {work.name}"), make_path(path, work.subject)
    model = by.prepare(MODELS[work.subject].model(config, problem.params()))
    return CALLS[work.quantity](problem, model, module(model), by)


def forward(problem: Problem, model: Any, module: Any, path: Reference) -> Call:
    """Outputs and loss; nothing is kept for a gradient."""
    if isinstance(path, ControlPath):
        return Call(lambda: path.objective(model, problem.inputs, problem.targets))

    @torch.no_grad()
    def run() -> Tensor:
        with problem.precision():
            loss: Tensor = model.loss(module(**problem.inputs), **problem.targets)
        return loss

    return Call(run)


def gradient(problem: Problem, model: Any, module: Any, path: Reference) -> Call:
    """Loss, output and gradients by parameters and floating-point inputs."""

    def run() -> Any:
        with problem.precision():
            return path.gradient(module, problem.inputs, problem.targets)

    return Call(run, lambda here: float(here.loss))


def by_hand(problem: Problem, model: Any, module: Any, path: Reference) -> Call:
    """The same by the model's hand-derived gradient."""
    differentiate = MODELS[problem.work.subject].by_hand
    if differentiate is None:
        expected = one_of(name for name, one in MODELS.items() if one.by_hand is not None)
        raise InputError("subject", expected=expected, found=repr(problem.work.subject))
    return Call(lambda: differentiate(model, problem.inputs, problem.targets), lambda here: float(here.loss))


def step(problem: Problem, model: Any, module: Any, path: Reference) -> Call:
    """What a training does with a batch: gradient, clipping, update of the parameters in place."""
    if problem.work.subject == "control_net":
        return descent_step(problem, model, path)
    optimizer = make_optimizer(model, COMPARED[OPTIMIZERS[problem.work.subject]])

    def run() -> Tensor:
        optimizer.inner.zero_grad()
        with problem.precision():
            loss: Tensor = model.loss(module(**problem.inputs), **problem.targets)
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

    return Call(run)


def descent_step(problem: Problem, model: Any, path: Reference) -> Call:
    """A step of the adaptive descent on a path, always the same one.

    Each call puts the parameters back and starts from the step constant that the call before accepted: all but the
    first make one gradient and one try, on both sides and however many calls there were.
    """
    start = {name: param.detach().clone() for name, param in model.named_parameters()}
    descent = Descent(model, path, problem.inputs, problem.targets, trained_params(model))
    accepted = FIRST_STEP_CONSTANT

    def run() -> float:
        nonlocal accepted
        with torch.no_grad():
            for name, param in model.named_parameters():
                param.copy_(start[name])
        descent.step_constant = accepted
        taken = descent.step()
        if taken is None:
            raise SideError(f"workload {problem.work.name}: no step size was accepted")
        before, _, accepted = taken
        return before

    return Call(run)


def tokens(problem: Problem, model: Any, module: Any, path: Reference) -> Call:
    """The prompt continued until the context is full, with remembered keys and values; told for one token."""
    prompt = problem.inputs["tokens"][0].tolist()
    count = model.config.context - len(prompt)

    def run() -> list[int]:
        with problem.precision():
            return generate(model, prompt, count)

    return Call(run, lambda drawn: float(sum(drawn)), units=count)


CALLS: dict[str, Callable[[Problem, Any, Any, Reference], Call]] = {
    "forward": forward,
    "gradient": gradient,
    "costate": by_hand,
    "backpropagation": by_hand,
    "step": step,
    "tokens": tokens,
}
