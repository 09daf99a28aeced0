"""The layers by themselves, as the project's models have them. Beside it: `julia/src/bench/layers.jl`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError, one_of
from ..models.gpt import LAYER_NORM_EPS, MLP, CausalSelfAttention
from ..models.resnet import BatchNorm, conv
from ..optimizers import make_optimizer
from ..schedule import COMPARED
from ..specs import GPTConfig
from .call import Call, Problem
from .layer_specs import KERNEL

Sizes = Mapping[str, int]


def _block(sizes: Sizes) -> GPTConfig:
    """A GPT of which one layer is timed; its context and its vocabulary do not matter to that."""
    return GPTConfig(vocab=1, context=1, layers=1, heads=sizes.get("heads", 1), width=sizes["width"])


LAYERS: dict[str, Callable[[Sizes], nn.Module]] = {
    "linear": lambda sizes: nn.Linear(sizes["inputs"], sizes["outputs"]),
    "layer-norm": lambda sizes: nn.LayerNorm(sizes["width"], LAYER_NORM_EPS),
    "attention": lambda sizes: CausalSelfAttention(_block(sizes)),
    "gelu-mlp": lambda sizes: MLP(_block(sizes)),
    "convolution": lambda sizes: conv(sizes["inputs"], sizes["outputs"], KERNEL),
    "batch-norm": lambda sizes: BatchNorm(sizes["channels"]),
}


def layer_call(problem: Problem) -> Call:
    """The call of a layer's workload: its output, its gradient, or an optimizer's update."""
    work = problem.work
    known = {("adamw", "step"): _update, ("cross-entropy", "forward"): _cross_entropy}
    known |= {("cross-entropy", "gradient"): _cross_entropy_gradient}
    known |= {(layer, "forward"): _output for layer in LAYERS} | {(layer, "gradient"): _gradient for layer in LAYERS}
    if (work.subject, work.quantity) not in known:
        expected = one_of(f"{subject} {quantity}" for subject, quantity in known)
        raise InputError("layer", expected=expected, found=f"{work.subject} {work.quantity}")
    return known[work.subject, work.quantity](problem)


def _layer(problem: Problem) -> nn.Module:
    with torch.device("meta"):  # nothing is allocated: the file's arrays are the parameters
        layer = LAYERS[problem.work.subject](problem.work.config)
    layer.load_state_dict(problem.params(), assign=True)
    return layer


def _norm(array: Tensor) -> float:
    return float(torch.linalg.vector_norm(array.detach().double()))


def _joint_norm(arrays: Iterable[Tensor]) -> float:
    return math.hypot(*map(_norm, arrays))


def _output(problem: Problem) -> Call:
    layer, x = _layer(problem), problem.inputs["x"]

    @torch.no_grad()
    def run() -> Any:
        return layer(x)

    return Call(run, _norm)


def _gradient(problem: Problem) -> Call:
    """The cotangent pulled back to the parameters and the input; the output is computed on the way."""
    layer, cotangent = _layer(problem), problem.targets["cotangent"]
    x = problem.inputs["x"].requires_grad_()
    by = [*layer.parameters(), x]
    return Call(lambda: torch.autograd.grad(layer(x), by, cotangent), _joint_norm)


def _cross_entropy(problem: Problem) -> Call:
    x, labels = problem.inputs["x"], problem.targets["labels"]
    return Call(torch.no_grad()(lambda: F.cross_entropy(x, labels)))


def _cross_entropy_gradient(problem: Problem) -> Call:
    x, labels = problem.inputs["x"].requires_grad_(), problem.targets["labels"]
    return Call(lambda: torch.autograd.grad(F.cross_entropy(x, labels), x), _joint_norm)


def _update(problem: Problem) -> Call:
    """AdamW's update of all matrices, with the norm of the gradients and the clipping that a training has."""
    model = nn.Module()
    for name, array in problem.params().items():
        param = nn.Parameter(array)
        param.grad = problem.inputs[name]
        model.register_parameter(name.replace(".", "_"), param)
    params, optimizer = list(model.parameters()), make_optimizer(model, COMPARED["adamw"])

    def run() -> list[nn.Parameter]:
        optimizer.step()
        return params

    return Call(run, _joint_norm)


def matmul_call(problem: Problem) -> Call:
    """The product of two large matrices: what the processor can do."""
    size = (problem.work.config["size"],) * 2
    draw = torch.Generator().manual_seed(1)
    a, b = (torch.randn(size, generator=draw).to(problem.device, problem.dtype) for _ in range(2))
    out = torch.empty_like(a)
    return Call(lambda: torch.mm(a, b, out=out), _norm)
